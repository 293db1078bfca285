"""The newest frame for any number of viewers: each encoding is made once, and only when somebody wants it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from pix2pix_edge.runtime.frame import Frame, view

JPEG_QUALITY = 90
PERIOD_S = 1 / 60
"""A form is encoded no more often than this: no screen shows more, and the engine may want the processor."""

BOUNDARY = b"--frame\r\n"
"""What separates the pictures of a multipart/x-mixed-replace stream."""


@dataclass(frozen=True)
class Encoded:
    """A frame as a file. number: which of the frames put, from 1. at: time.monotonic() of its encoding."""

    number: int
    at: float
    data: bytes
    source: str


class Broadcast:
    """One thread puts frames, any number fetch the newest; whoever is slow skips frames, and nobody waits for it.

    number: frames put so far. newest_at: time.monotonic() of the newest. ended: set when no more will come.
    encodings: how many pictures were encoded.
    """

    def __init__(self) -> None:
        self.number = 0
        self.newest_at: float | None = None
        self.ended = threading.Event()
        self.encodings = 0
        self._frame: Frame | None = None
        self._told = 0
        self._changed = threading.Condition()
        self._made: dict[tuple[str, str], Encoded] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = {}

    def put(self, frame: Frame) -> None:
        """Make a translated frame the newest. Takes microseconds: it is encoded in the viewers' threads."""
        with self._changed:
            self._frame = frame
            self.number += 1
            self.newest_at = time.monotonic()
            self._changed.notify()  # one viewer, who tells the others: waking fifty takes half a millisecond

    def end(self) -> None:
        """Wake everybody; the newest frame may still be fetched."""
        with self._changed:
            self.ended.set()
            self._changed.notify_all()

    def next(self, mode: str, form: str, *, after: int = 0, seconds: float = 0.0) -> Encoded | None:
        """Return the newest frame as `form` ("png", or "part": a JPEG as one part of a multipart stream).

        mode: one of runtime.cli.VIEW_MODES. after: the number the viewer has already; waits up to `seconds` for a
        later one, and returns None when there is none.
        """
        key = (mode, form)
        with self._changed:
            self._changed.wait_for(lambda: self.number > after or self.ended.is_set(), seconds)
            if self.number <= after:
                return None
            if self._told < self.number:
                self._told = self.number
                self._changed.notify_all()
            lock = self._locks.setdefault(key, threading.Lock())
        made = self._made.get(key)
        if made and made.number <= after and (early := made.at + PERIOD_S - time.monotonic()) > 0:
            time.sleep(early)
        with lock:  # the first to come encodes, the others find it made
            made = self._made.get(key)
            with self._changed:
                frame, number = self._frame, self.number
            now = time.monotonic()
            fresh = made and (made.number == number or (made.number > after and now - made.at < PERIOD_S))
            if made and fresh:
                return made
            assert frame is not None
            made = self._made[key] = Encoded(number, now, _encode(frame, mode, form), frame.source)
            self.encodings += 1
            return made


def _encode(frame: Frame, mode: str, form: str) -> bytes:
    import cv2

    image = cv2.cvtColor(view(frame, mode), cv2.COLOR_RGB2BGR)
    if form == "png":
        return cv2.imencode(".png", image)[1].tobytes()
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    # a browser shows a part when the next boundary comes: it follows at once, not with the next frame
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Frame: {frame.index}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n" + BOUNDARY
