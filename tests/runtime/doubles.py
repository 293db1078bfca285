"""Cameras, sinks and engines that fail on demand: for tests of the stream."""

from __future__ import annotations

import contextlib
import functools
import http.server
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.runtime.engines.base import Images, TensorSpec
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.frame import Frame, Sink, Source, Watched
from pix2pix_edge.runtime.streaming.threads import PREFIX
from tests.conftest import eventually, picture


def stream_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(PREFIX)]


@contextlib.contextmanager
def leaves_nothing() -> Iterator[None]:
    """Every thread and file that comes inside is given back; what others leave, and when, does not count."""
    threads, files = set(threading.enumerate()), _open_files()
    yield
    assert eventually(lambda: set(threading.enumerate()) <= threads), threading.enumerate()
    assert eventually(lambda: _open_files() <= files), (_open_files(), files)


def _open_files() -> set[tuple[str, str]]:
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found.add((file.name, str(file.readlink())))
    return found


def frame(index: int = 0, size: int = 64, name: str = "") -> Frame:
    """A numbered frame that was inverted."""
    image = picture(index, size, size)
    return Frame(index, time.monotonic_ns(), name or f"f{index}", image, image, 255 - image)


def noise(index: int) -> Frame:
    """A frame that no encoder makes small."""
    image = np.random.default_rng(index).integers(0, 256, (256, 256, 3), np.uint8)
    return Frame(index, 0, f"n{index}", image, image, image)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder's files are served, as `python -m http.server` does."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


class Given(Source):
    """A source of these frames."""

    name = "given"

    def __init__(self, frames: Iterable[Frame], *, live: bool = False) -> None:
        self._frames, self.live = iter(frames), live

    def read(self) -> Frame | None:
        return next(self._frames, None)

    def close(self) -> None:
        return


class Camera:
    """Gives `count` numbered pictures, for ever with None; `trouble` maps a picture's number to what happens instead.

    A trouble is an exception to raise, a picture to give, or a function to call. given: how many it has given so far.
    """

    def __init__(
        self,
        count: int | None = 40,
        *,
        live: bool = False,
        period_s: float = 0.0,
        trouble: dict[int, Any] | None = None,
    ) -> None:
        self.live, self.frames, self.fps = live, None, 1 / period_s if period_s else None
        self.given, self.closed = 0, 0
        self._count, self._period_s, self._trouble = count, period_s, trouble or {}

    def read(self) -> Any:
        number = self.given
        if self._count is not None and number >= self._count:
            return None
        if self._period_s:
            time.sleep(self._period_s)
        self.given += 1
        found = self._trouble.get(number, picture(number % 64, 64, 64))
        if isinstance(found, Exception):
            raise found
        return found() if callable(found) else found

    def close(self) -> None:
        self.closed += 1


class Recorder(Sink):
    """A sink that remembers the indices it got; `trouble` maps an index to an exception or a function to call."""

    def __init__(self, *, delay_s: float = 0.0, trouble: dict[int, Any] | None = None, name: str = "recorder") -> None:
        self.indices: list[int] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.name = name
        self.stream: Watched | None = None
        self._delay_s, self._trouble = delay_s, trouble or {}

    def attach(self, stream: Watched) -> None:
        self.stream = stream

    def write(self, frame: Frame) -> None:
        self.threads.add(threading.current_thread().name)
        if self._delay_s:
            time.sleep(self._delay_s)
        found = self._trouble.get(frame.index)
        if isinstance(found, Exception):
            raise found
        if found:
            found()
        self.indices.append(frame.index)

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed += 1


class SlowEngine(HostEngine):
    """Inverts pictures [1, 32, 32, 3] in a given time; `trouble` is asked with the number of each call."""

    kind = "slow"

    def __init__(
        self, seconds: float = 0.0, slots: int = 2, trouble: Callable[[int], None] = lambda call: None
    ) -> None:
        super().__init__(slots)
        self.input = TensorSpec("image", (1, 32, 32, 3), "uint8")
        self.output = TensorSpec("translated", (1, 32, 32, 3), "uint8")
        self.calls = 0
        self.busy: list[tuple[int, int]] = []
        self._seconds, self._trouble = seconds, trouble

    def describe(self) -> dict[str, str]:
        return {"engine": "slow", "version": "1"}

    def _run(self, images: Images) -> Images:
        start = time.monotonic_ns()
        self.calls += 1
        self._trouble(self.calls)
        if self._seconds:
            time.sleep(self._seconds)
        self.busy.append((start, time.monotonic_ns()))
        return np.asarray(255 - images, np.uint8)
