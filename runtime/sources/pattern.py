"""The test pattern: a camera for machines that have none."""

from __future__ import annotations

import re
import threading
import time

import numpy as np

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, Image, Source

# Label colours of the CMP facades, so that a facade model has something to say about the pattern.
PATTERN_COLOURS = ((0, 0, 170), (0, 0, 255), (0, 85, 255), (0, 255, 255), (85, 255, 170), (255, 255, 0), (255, 85, 0))


class TestSource(Source):
    """A moving pattern, paced by the clock: a camera for machines that have none.

    Like a camera it does not wait: a picture not fetched while it was the newest is lost, and the index jumps. It is
    drawn before its moment, so that its age counts from there and holds nothing of the drawing.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name
    live = True

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.name = "test"
        self.fps: float | None = fps
        self._period = 1e9 / fps
        self._width, self._height = width, height
        self._closed = threading.Event()
        self._started: int | None = None
        self._next = 0
        bars = np.array(PATTERN_COLOURS, np.uint8)[np.arange(2 * width) * len(PATTERN_COLOURS) // width % 7]
        self._strip = np.ascontiguousarray(np.broadcast_to(bars, (height, 2 * width, 3)))

    @classmethod
    def from_spec(cls, spec: str) -> TestSource:
        """Parse test://WxH@FPS; the size is 640x480 and the rate 30 unless given. Raises InputError."""
        found = re.fullmatch(r"test://(?:(\d+)x(\d+))?(?:@(\d+(?:\.\d+)?))?/?", spec)
        width, height, fps = (found[1] or 640, found[2] or 480, found[3] or 30) if found else (0, 0, 0)
        if not (1 <= int(width) <= 8192 and 1 <= int(height) <= 8192 and 0 < float(fps) <= 1000):
            raise InputError(f"{spec} is no test pattern; write test://WxH@FPS, for example test://640x480@30")
        return cls(int(width), int(height), float(fps))

    def read(self) -> Frame | None:
        now = time.monotonic_ns()
        index = 0 if self._started is None else max(self._next, int((now - self._started) / self._period))
        image = self.picture(index)
        drawn = time.monotonic_ns()
        if self._started is None:
            self._started = drawn
        due = self._started + round(index * self._period)
        if self._closed.wait(max(0, due - drawn) / 1e9):
            return None
        self._next = index + 1
        return Frame(index, time.monotonic_ns(), f"test_{index:06d}", image, timings={"capture": drawn - now})

    def picture(self, index: int) -> Image:
        """Draw one: colour bars that move a hundredth of the width a frame, under a square that moves the other way."""
        width, side = self._width, max(1, min(self._width, self._height) // 4)
        shift = index * max(1, width // 100) % width
        image: Image = self._strip[:, shift : shift + width].copy()
        top, left = (self._height - side) // 2, (width - side) * (99 - index % 100) // 99
        image[top : top + side, left : left + side] = PATTERN_COLOURS[index // 100 % len(PATTERN_COLOURS)]
        return image

    def close(self) -> None:
        self._closed.set()
