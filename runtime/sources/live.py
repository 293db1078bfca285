"""A live source that comes back: opened again with back-off when it fails, the gap reported and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.frame import Frame, Source
from pix2pix_edge.runtime.sources.capture import TIMEOUT_MS, Capture, Picture
from pix2pix_edge.runtime.sources.motion_jpeg import MotionJpeg

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 8.0
"""The wait before a source is opened again, doubled each time it fails."""

FEWEST = 10
"""So many frames tell a rate."""

TRIES = 5
"""Reads that may fail in a row: one damaged picture is not the end of a camera."""


LiveCapture = Capture | MotionJpeg
"""What a LiveSource opens and reads. trouble: why it gives no more, once read() has returned None."""


class LiveSource(Source):
    """A camera, local or on the network, by way of a function that opens it.

    After a gap the index jumps by the frames that the source would have given since its last one, so that they are
    counted.
    """

    live = True

    def __init__(self, name: str, shown: str, open_capture: Callable[[], LiveCapture]) -> None:
        """name: for file names. shown: for messages, without passwords. open_capture: raises InputError."""
        self.name, self._shown = name, shown
        self._open = open_capture
        self._closed = threading.Event()
        self._capture = self._begin()
        self.fps = self._capture.fps
        self._next = 0
        self._first_ns = self._last_ns = self._since = 0  # of the frames since it was opened: their times and number
        self._was_gone = False

    def _begin(self) -> LiveCapture:
        """Open it and see that it gives a picture: many a source opens, and then has nothing to give."""
        capture = self._open()
        if self._try(capture) is None:
            capture.close()
            raise InputError(f"{self._shown} gives no video: {capture.trouble}")
        return capture

    def _try(self, capture: LiveCapture) -> Picture | None:
        """Return its next picture; None when it has none, has not had one for the time-out, or this is closed."""
        begun = time.monotonic()
        for _ in range(TRIES):
            if self._closed.is_set() or (picture := capture.read()) is not None:
                return None if self._closed.is_set() else picture
            if time.monotonic() - begun > TIMEOUT_MS / 2000:  # it is silent, and would be as long each time
                break
        return None

    def read(self) -> Frame | None:
        """Return the newest frame; while the source is gone, wait until it is back. None when closed."""
        while not self._closed.is_set():
            picture = self._try(self._capture)
            if picture is not None:
                if self._was_gone:
                    self._count_gap(picture.taken)
                index, self._next = self._next, self._next + 1
                self._first_ns, self._last_ns = self._first_ns or picture.taken, picture.taken
                self._since += 1
                took = {"capture": time.monotonic_ns() - picture.taken}
                return Frame(index, picture.taken, f"{self.name}_{index:06d}", picture.image, timings=took)
            if not self._closed.is_set():
                self._come_back()
        return None

    def _count_gap(self, now: int) -> None:
        """Let the index jump by what is missing since the last frame, and count anew from here."""
        gone = (now - self._last_ns) / 1e9 if self._last_ns else 0.0
        self._next += max(1, round(gone * (self._rate() or 0)) - 1)
        warn(f"{self._shown} is back after {gone:.1f} s")
        self._first_ns = self._since = 0
        self._was_gone = False

    def _rate(self) -> float | None:
        """Return frames per second: as they came, where enough have, else as the source says."""
        if self._since < FEWEST or self._last_ns == self._first_ns:
            return self.fps
        return (self._since - 1) * 1e9 / (self._last_ns - self._first_ns)

    def _come_back(self) -> None:
        """Open the source again, however often that takes; return when it is open or this is closed."""
        warn(f"{self._shown} gives no pictures any more: {self._capture.trouble}; trying to open it again")
        since = self._last_ns / 1e9 if self._last_ns else time.monotonic()
        delay, said = FIRST_DELAY_S, ""
        self.outage = (self._capture.trouble, since, time.monotonic() + delay)
        self._capture.close()
        self._was_gone = True
        while not self._closed.wait(delay):
            self.outage = (self.outage[0], since, None)
            try:
                capture = self._begin()
            except InputError as error:
                delay = min(2 * delay, LONGEST_DELAY_S)
                if not self._closed.is_set() and str(error) != said:
                    warn(f"{error}; trying again")
                    said = str(error)
                self.outage = (str(error), since, time.monotonic() + delay)
                continue
            self._capture, self.outage = capture, None
            if self._closed.is_set():  # close() may have closed the capture before this one
                capture.close()
                return
            self.fps = capture.fps or self.fps
            return

    def close(self) -> None:
        """Free the device; a second call does nothing."""
        self._closed.set()
        self._capture.close()
