"""A live source that comes back: opened again with back-off when it fails, the gap reported and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.sources.capture import Capture, Picture

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0
"""The wait before a source is opened again, doubled each time it fails."""

TRIES = 5
"""Reads that may fail in a row: one damaged picture is not the end of a camera."""


class LiveSource:
    """A camera, local or on the network, by way of a function that opens it.

    After a gap the index jumps by the frames that the source would have given meanwhile, so that they are counted.
    """

    live = True
    frames = None

    def __init__(self, name: str, shown: str, open_capture: Callable[[], Capture]) -> None:
        """name: for file names. shown: for messages, without passwords. open_capture: raises InputError."""
        self.name, self._shown = name, shown
        self._open = open_capture
        self._closed = threading.Event()
        self._capture = self._begin()
        self.fps = self._capture.fps
        self._next = 0

    def _begin(self) -> Capture:
        """Open it and see that it gives a picture: many a source opens, and then has nothing to give."""
        capture = self._open()
        if self._try(capture) is None:
            capture.close()
            raise InputError(f"{self._shown} can be opened, but gives no picture; see that nobody else is using it")
        return capture

    def _try(self, capture: Capture) -> Picture | None:
        for _ in range(TRIES):
            if self._closed.is_set() or (picture := capture.read()) is not None:
                return None if self._closed.is_set() else picture
        return None

    def read(self) -> Frame | None:
        """Return the newest frame; while the source is gone, wait until it is back. None when closed."""
        while not self._closed.is_set():
            picture = self._try(self._capture)
            if picture is not None:
                index, self._next = self._next, self._next + 1
                name = f"{self.name}_{index:06d}"
                took = {"capture": time.monotonic_ns() - picture.taken}
                return Frame(index, picture.taken, name, picture.image, timings=took)
            if not self._closed.is_set():
                self._come_back()
        return None

    def _come_back(self) -> None:
        """Open the source again, however often that takes; return when it is open or this is closed."""
        warn(f"{self._shown} gives no pictures any more; trying to open it again")
        lost, delay = time.monotonic(), FIRST_DELAY_S
        self._capture.close()
        while not self._closed.wait(delay):
            try:
                capture = self._begin()
            except InputError:
                delay = min(2 * delay, LONGEST_DELAY_S)
                continue
            gone = time.monotonic() - lost
            self._capture = capture
            if self._closed.is_set():  # close() may have closed the capture before this one
                capture.close()
                return
            self.fps = capture.fps or self.fps
            self._next += max(1, round(gone * (self.fps or 0)))
            warn(f"{self._shown} is back after {gone:.1f} s")
            return

    def close(self) -> None:
        """Free the device; a second call does nothing."""
        self._closed.set()
        self._capture.close()
