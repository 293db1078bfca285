"""Frame sinks: the grammar of --sink, and the sinks themselves (folder, image, video file, window, null)."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from runtime.addresses import redacted
from runtime.errors import InputError
from runtime.files import written_beside
from runtime.frame import Frame, Image, view
from runtime.video_sink import VIDEO_CODECS, VideoSink

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
GRAMMAR = "a folder/, a video (.mp4 .avi .mkv .mov), an image (.png .jpg), http://HOST:PORT, window or null"


class ViewerQuitError(Exception):
    """The viewer asked to stop: no error, but the end of the stream."""


class Sink(Protocol):
    """Where translated frames go. write() and close() come from one thread.

    A sink may also have: attach(stream), called once before the first frame with the runtime.stream.Stream; name, for
    messages; newest = True where a frame replaces the one before, so that none need wait in line on a live source;
    in_main_thread = True where it must be written by the thread that runs the stream.
    """

    def write(self, frame: Frame) -> None:
        """Take one translated frame. Raises InputError when it cannot, ViewerQuitError to end the stream."""
        ...

    def close(self) -> None:
        """Finish what was written; a second call does nothing. Raises InputError when it is not whole."""
        ...


class NullSink:
    """Takes frames and does nothing: to measure the rest."""

    name = "null"

    def write(self, frame: Frame) -> None:
        return

    def close(self) -> None:
        return


class FolderSink:
    """A folder with one PNG per frame, named by frame.source; files of the same name are replaced."""

    def __init__(self, folder: str | Path, mode: str = "output") -> None:
        """Make the folder. Raises InputError when it cannot be written."""
        self.folder = Path(folder)
        self.name = f"{self.folder.name}/"
        self._mode = mode
        _make_writable(self.folder)

    def write(self, frame: Frame) -> None:
        write_image(self.folder / f"{frame.source}.png", view(frame, self._mode))

    def close(self) -> None:
        return


class ImageSink:
    """One image file; each frame replaces it, so that it always shows the newest."""

    newest = True

    def __init__(self, path: str | Path, mode: str = "output") -> None:
        """Make the folder it is in. Raises InputError when that cannot be written."""
        self.path = Path(path)
        self.name = self.path.name
        self._mode = mode
        _make_writable(self.path.parent)

    def write(self, frame: Frame) -> None:
        write_image(self.path, view(frame, self._mode))

    def close(self) -> None:
        return


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --sink") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write in {folder}: Permission denied; choose another --sink")


def write_image(path: Path, image: Image) -> None:
    """Write a uint8 [H, W, 3] RGB image by the ending of `path`. Raises InputError when it cannot be written."""
    import cv2

    encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    try:
        with written_beside(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; make room, or write elsewhere") from error


class WindowSink:
    """A window on the desktop; q, Esc or closing it ends the stream. Written from the thread that opened it."""

    TITLE = "pix2pix-edge (q quits)"
    name = "window"
    newest = True
    in_main_thread = True

    def __init__(self, mode: str = "output", *, still: bool = False) -> None:
        """still: each picture stays until a key is pressed. Raises InputError when there is no display."""
        import cv2

        if problem := display_problem():
            raise InputError(f"no window can be shown: {problem}; use --sink FOLDER/ or --sink FILE.mp4")
        self._mode, self._still = mode, still
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # it misses fonts that no picture needs
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise InputError(
                "this OpenCV has no windows; run: pip uninstall opencv-python-headless, then"
                " pip install --force-reinstall opencv-python"
            ) from error
        self._open = True
        self._sized = False

    def write(self, frame: Frame) -> None:
        import cv2

        image = view(frame, self._mode)
        if not self._sized:
            scale = max(1, 512 // image.shape[0])
            cv2.resizeWindow(self.TITLE, image.shape[1] * scale, image.shape[0] * scale)
            self._sized = True
        cv2.imshow(self.TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        while self._still and key < 0 and self._visible():
            key = cv2.waitKey(50)
        if key & 0xFF in (ord("q"), 27) or not self._visible():
            raise ViewerQuitError

    def _visible(self) -> bool:
        import cv2

        try:
            return cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False

    def close(self) -> None:
        import cv2

        if self._open:
            self._open = False
            cv2.destroyAllWindows()
            cv2.waitKey(1)  # lets the window system take it away


def display_problem() -> str:
    """Return why no window can open, or "". Asked first, because without a display Qt aborts the whole process."""
    if sys.platform != "linux":
        return ""
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "this session has no display (DISPLAY is not set)"
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdecimal():
        return f"DISPLAY is {display}, which names no display"
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(f"\0/tmp/.X11-unix/X{number}")
                except OSError:
                    connection.connect(f"/tmp/.X11-unix/X{number}")
        else:
            socket.create_connection((host, 6000 + int(number)), timeout=2).close()
    except OSError:
        return f"nothing answers at DISPLAY {display}"
    return ""


def open_sink(
    spec: str | Any,
    *,
    mode: str = "output",
    fps: float | None = None,
    frames: int | None = None,
    live: bool = False,
    token: str | None = None,
) -> Sink:
    """Open what --sink names (see GRAMMAR); an object with write() and close() is returned as it is.

    mode: what it shows, one of runtime.options.VIEW_MODES. fps, frames, live: of the source, where known; fps None with
    a known count means still pictures. token: what a browser must give to an http:// sink. Raises InputError when the
    sink cannot be used.
    """
    if not isinstance(spec, str | Path):
        return spec
    text = str(spec)
    path = Path(text)
    ending = path.suffix.lower()
    if not text.strip():  # as from a shell variable that is not set
        raise InputError(f"--sink is empty; it takes {GRAMMAR}")
    if text == "null":
        return NullSink()
    if text == "window":
        return WindowSink(mode, still=fps is None and frames is not None)
    if text.startswith("http://"):
        host, port = _address(text)
        from runtime.web import WebSink

        return WebSink(host, port, token=token, mode=mode)
    if "://" in text:
        raise InputError(f"--sink does not know {text.partition('://')[0]}://; it takes {GRAMMAR}")
    if text.endswith("/") or path.is_dir() or not ending:
        return FolderSink(path, mode)
    if ending in VIDEO_CODECS:
        return VideoSink(path, mode, fps, live=live)
    if ending in IMAGE_ENDINGS:
        if frames and frames > 1:
            raise InputError(f"{frames} frames do not fit into the image {text}; use --sink {path.with_suffix('')}/")
        return ImageSink(path, mode)
    raise InputError(f"--sink {text} is nothing it can write; it takes {GRAMMAR}")


def _address(text: str) -> tuple[str, int]:
    """Split http://HOST:PORT; without a host it is "". Raises InputError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if port is None or parts.path not in ("", "/") or parts.query or parts.username:
        raise InputError(f"--sink {redacted(text)} is no address to serve at; write for example http://127.0.0.1:8080")
    return host, port
