"""Headless Chromium for tests, driven over a pipe by its DevTools protocol; nothing but the browser is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_S = 600.0


class Chromium:
    """A browser with one page; a context manager. Skips the test where there is no Chromium.

    complaints: what the page wrote to the console as an error, exceptions and refused loads among them.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        """folder: for its profile and downloads. flags: more options of the browser."""
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("Chromium is not installed")
        self._ids = itertools.count(1)
        self._unread = b""
        self.downloads = folder / "downloads"
        self.complaints: list[str] = []
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # a shell gives the browser the pipe where it looks for it: file descriptors 3 and 4
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = [browser, *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)

    def __enter__(self) -> Chromium:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        for domain in ("Page", "Runtime", "Log"):
            self.page(f"{domain}.enable")
        return self

    def open(self, url: str) -> None:
        """Go to an address."""
        self.page("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url.split('?')[0]!r}) && document.readyState == 'complete'")

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        """Press the mouse at the first point, move it over the others, and release it at the last."""
        for kind, (x, y) in [
            ("mousePressed", points[0]),
            *(("mouseMoved", p) for p in points),
            ("mouseReleased", points[-1]),
        ]:
            self.page("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=1, clickCount=1)

    def touch(self, *moves: list[tuple[float, float]]) -> None:
        """Put fingers down at the points of the first move, slide them through the others, and lift them."""
        for kind, points in [("touchStart", moves[0]), *(("touchMove", m) for m in moves[1:]), ("touchEnd", [])]:
            fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            self.page("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def upload(self, selector: str, file: Path) -> None:
        """Choose a file in an input of the page."""
        document = self.page("DOM.getDocument")["root"]["nodeId"]
        node = self.page("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.page("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def download(self, id: str) -> Path:
        """Click on an element, and return the file that the page gives; the one before is deleted."""
        for old in self.downloads.glob("*"):
            old.unlink()
        self.value(f"document.getElementById({id!r}).click()")
        until = time.monotonic() + PATIENCE_S
        # under another name until it is whole
        while not (found := [file for file in self.downloads.glob("*") if file.suffix in (".png", ".webm")]):
            assert time.monotonic() < until, f"{id} gives no file"
            time.sleep(0.05)
        return found[0]

    def key(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        """Press and release a key, by its name or the letter it gives."""
        text = {"text": key} if len(key) == 1 and not ctrl else {}
        code = ord(key.upper()) if len(key) == 1 else 0
        for kind in ("keyDown", "keyUp"):
            self.page("Input.dispatchKeyEvent", type=kind, key=key, modifiers=2 * ctrl + 8 * shift,
                      windowsVirtualKeyCode=code, **(text if kind == "keyDown" else {}))  # fmt: skip

    def page(self, method: str, **parameters: Any) -> Any:
        """Call a DevTools method of the page, and return its result."""
        return self._call(method, self._session, **parameters)

    def size(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Give the page this many CSS pixels."""
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.page("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, script: str) -> Any:
        """Return what a JavaScript expression, or the promise it makes, gives."""
        result = self._evaluate(script)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str) -> Any:
        """Wait until a JavaScript expression is true, and return it; it may fail while the page is loading."""
        until = time.monotonic() + PATIENCE_S
        while not (value := (result := self._evaluate(script))["result"].get("value")):
            assert time.monotonic() < until, f"never true: {script[:200]}: {result}"
            time.sleep(0.05)
        return value

    def _evaluate(self, script: str) -> Any:
        return self.page("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)

    def screenshot(self, path: Path | None = None) -> bytes:
        """Return the page as a PNG."""
        png = base64.b64decode(self.page("Page.captureScreenshot", format="png")["data"])
        if path:
            path.write_bytes(png)
        return png

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        message = {"id": next(self._ids), "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != message["id"]:
            pass
        assert "result" in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], PATIENCE_S)
            block = os.read(self._read, 1 << 20) if ready else b""
            assert block, "Chromium does not answer"
            self._unread += block
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        happened, details = message.get("method"), message.get("params", {})
        if happened == "Runtime.exceptionThrown":
            self.complaints.append(str(details["exceptionDetails"]))
        elif happened == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.complaints.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
        elif happened == "Runtime.consoleAPICalled" and details["type"] == "error":
            self.complaints.append(str(details["args"]))
        return message

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)  # the browser ends with its pipe
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
