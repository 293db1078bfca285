"""Measure the page to draw on: from the end of a stroke to the picture, and many visitors at once.

python -m tests.runtime.web.measure_draw --strokes 200
python -m tests.runtime.web.measure_draw --visitors 30 --seconds 300 --beside 30
python -m tests.runtime.web.measure_draw --site site/ --strokes 100
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.web.drawing import SAMPLES
from tests.conftest import REPOSITORY
from tests.runtime.web.chromium import Chromium

ENGINE = REPOSITORY / "models" / "facades.int8.cpu.onnx"
LISTEN = """window.ms = []; document.addEventListener("picture", e => { if (e.detail.newest) ms.push(e.detail.ms); })"""


def strokes(url: str, count: int) -> None:
    """Draw so many short strokes with the mouse, and print when their pictures were on the screen."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Chromium(Path(folder)) as browser:
        browser.size(1280, 800)
        browser.open(url)
        browser.wait("document.getElementById('latency').textContent")
        browser.value(LISTEN)
        measured: list[float] = []
        random = np.random.default_rng(0)
        for _ in range(count):
            browser.value("ms.length = 0")
            x, y = random.uniform(250, 650), random.uniform(180, 600)
            browser.drag((x, y), (x + 8, y + 8), (x + 20, y + 30))
            browser.wait("ms.length > 0")
            time.sleep(0.15)
            measured.append(browser.value("ms.at(-1)"))
        p50, p95 = np.percentile(measured, (50, 95))
        print(f"{count} strokes: picture p50 {p50:.0f} ms, p95 {p95:.0f} ms after the last change of the drawing")


def visitors(port: int, process: int, count: int, seconds: float) -> None:
    """Let so many visitors draw all the time, and print what each got, and the server's memory."""
    drawings = [file.read_bytes() for file in sorted(SAMPLES.glob("*.png"))]
    got = [0] * count
    until = time.monotonic() + seconds

    def visit(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Content-Type": "image/png", "X-Visitor": str(number), "Connection": "keep-alive"}
        while time.monotonic() < until:
            connection.request("POST", "/translate", drawings[got[number] % len(drawings)], headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            got[number] += 1

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(min(10.0, seconds / 4))
    before, page, ours = memory(process), processor(process), time.process_time()
    begun = time.monotonic()
    for thread in threads:
        thread.join()
    mean, took = sum(got) / count, time.monotonic() - begun
    page, ours = (processor(process) - page) / took, (time.process_time() - ours) / took
    print(
        f"{count} visitors for {seconds:.0f} s: {sum(got) / seconds:.1f} pictures a second; the slowest got {min(got)},"
        f" {100 * min(got) / mean:.0f} % of the mean; memory {before:.0f}, then {memory(process):.0f} MB;"
        f" {page:.2f} processors, and {ours:.2f} for the visitors themselves"
    )


class Stream:
    """A live stream of the same engine, in a process of its own. fps: how many frames its camera gives."""

    def __init__(self, fps: float) -> None:
        command = ["runtime/run.py", "--engine", str(ENGINE), "--source", f"test://256x256@{fps:g}"]
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
        self._begun = time.monotonic()

    def end(self) -> str:
        """End it, and return what it says of its rate and its frames' ages."""
        share = processor(self._process.pid) / (time.monotonic() - self._begun)
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate()[0]
        rate, age = re.search(r"[\d.]+ fps", said), re.search(r"^age +(.*)$", said, re.MULTILINE)
        assert rate and age, said
        return f"{rate[0]}, {share:.2f} processors, age p50, p95, p99: {' '.join(age[1].split())}"


def processor(process: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """Return the megabytes that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strokes", type=int, default=0)
    parser.add_argument("--visitors", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--beside", type=float, metavar="FPS", help="a live stream, alone first, then beside the visitors"
    )
    parser.add_argument("--site", type=Path, help="a folder of python -m export web, in the server's place")
    args = parser.parse_args(argv)
    port = 18123
    command = ["runtime/draw.py", "--engine", str(ENGINE), "--at", f"http://127.0.0.1:{port}"]
    if args.site:
        command = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(args.site), str(port)]
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
        assert server.stderr is not None
        time.sleep(4)
        threading.Thread(target=server.stderr.read, daemon=True).start()
        try:
            if args.strokes:
                strokes(f"http://127.0.0.1:{port}/", args.strokes)
            if args.beside:
                alone = Stream(args.beside)
                time.sleep(min(20.0, args.seconds / 4))
                print("stream alone:", alone.end(), flush=True)
            beside = Stream(args.beside) if args.beside else None
            if args.visitors:
                visitors(port, server.pid, args.visitors, args.seconds)
            if beside:
                print("stream beside the visitors:", beside.end())
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
