"""Motion JPEG over HTTP: the pictures are found by their own markers, whatever stands between them.

Many small cameras send no first boundary, a wrong one, none, or no lengths; and a damaged picture is left out here
instead of being shown half grey.
"""

from __future__ import annotations

import time
from collections import deque

from pix2pix_edge.runtime.frame import BadPictureError
from pix2pix_edge.runtime.images import decode_image, jpeg_segments
from pix2pix_edge.runtime.sources.capture import Picture
from pix2pix_edge.runtime.sources.connection import Response

LARGEST_BYTES = 32 << 20
"""A picture of more bytes is none."""

MEASURED, MEASURED_S = 8, 0.5
"""So many pictures, or so long, are watched at first, to tell the camera's rate: it does not say one."""


class MotionJpeg:
    """The pictures of an answer, as a Capture gives them. close() may come from any thread."""

    def __init__(self, response: Response, timeout_s: float) -> None:
        """timeout_s: how long a whole picture may take to come. Sets `only` where there was one picture and no more."""
        self._response, self._timeout_s = response, timeout_s
        self._data = bytearray()
        self._ended = False
        self._arrivals: deque[int] = deque(maxlen=30)
        self.trouble = "it sends no JPEG picture"
        begun = time.monotonic()
        first = picture = self.read()
        while picture and len(self._arrivals) < MEASURED and time.monotonic() - begun < MEASURED_S:
            picture = self.read()
        self.only = first.image if first and self._ended and len(self._arrivals) == 1 else None

    @property
    def began(self) -> bool:
        """Whether a picture has come."""
        return bool(self._arrivals)

    @property
    def fps(self) -> float | None:
        """Pictures per second, from when the last ones came; None before there are three."""
        if len(self._arrivals) < 3:
            return None
        span = self._arrivals[-1] - self._arrivals[0]
        return round(min(1000.0, (len(self._arrivals) - 1) * 1e9 / max(1, span)), 2)

    def read(self) -> Picture | None:
        """Return the next whole picture; None when there will be none, and then `trouble` says why."""
        deadline = time.monotonic() + self._timeout_s
        while not self._ended:
            try:
                data = self._next_jpeg(deadline)
            except TimeoutError:
                self._end(f"it has sent no whole picture for {self._timeout_s:g} s")
                return None
            if data is None:
                return None
            taken = time.monotonic_ns()
            try:
                image = decode_image(data, "a picture")
            except BadPictureError:
                continue
            self._arrivals.append(taken)
            return Picture(image, taken)
        return None

    def _next_jpeg(self, deadline: float) -> bytes | None:
        """Cut the next JPEG out of what comes; None at the end. Raises TimeoutError."""
        walked = 0  # how far the one at the front of the data has been walked; 0 where none has begun
        while True:
            if not walked:
                start = self._data.find(b"\xff\xd8\xff")
                del self._data[: start if start >= 0 else max(0, len(self._data) - 2)]
                walked = 2 if start >= 0 else 0
            if walked:
                walked, length = _walk(self._data, walked)
                if length:
                    jpeg = bytes(self._data[:length])
                    del self._data[:length]
                    return jpeg
                if not walked:  # another begins inside it
                    del self._data[:2]
                    continue
            if len(self._data) > LARGEST_BYTES:
                self._end(f"it sends pictures of more than {LARGEST_BYTES >> 20} MiB")
                return None
            more = self._response.receive(deadline)
            if not more:
                self._end(self._response.trouble or "it has hung up")
                return None
            self._data += more

    def _end(self, trouble: str) -> None:
        self._ended, self.trouble = True, trouble
        self._response.close()

    def close(self) -> None:
        """A second call does nothing."""
        self._ended = True
        self._response.close()


def _walk(data: bytearray, start: int) -> tuple[int, int]:
    """Walk on through a JPEG that begins with `data`, from where the last walk ended.

    Returns where this one ended, 0 where another JPEG begins before the end of this one; and the length, 0 for unknown.
    """
    cut = False
    for marker, at, end in jpeg_segments(data, start):
        if marker == 0xD8:
            return 0, 0
        if marker == 0xD9:
            return end, end
        if end > len(data):
            return at, 0
        if not 0xE0 <= marker <= 0xEF and data.find(b"\xff\xd8\xff", at + 2, end) > 0:  # which may hold a thumbnail
            return 0, 0  # it was cut inside its tables
        start, cut = end, end == at
    return start if cut else max(start, len(data) - 1), 0
