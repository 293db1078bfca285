"""OpenCV's video capture, made safe to close from another thread, and the ways to open it."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.runtime.errors import PATIENCE
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.images import as_rgb

if TYPE_CHECKING:
    import cv2

TIMEOUT_MS = round(5000 * PATIENCE)
"""A network camera that neither answers nor sends for so long is given up, and opened again."""

LOW_DELAY = "fflags;nobuffer|flags;low_delay|max_delay;0"
"""For live sources: nothing held back for reordering."""

BY_TCP, BY_UDP = "rtsp_flags;prefer_tcp", "rtsp_transport;udp"
"""TCP where the camera has it, because lost UDP packets grey the picture."""

PROTOCOLS = "protocol_whitelist;http,rtsp,rtp,srtp,udp,tcp"
CONTAINERS = (
    "format_whitelist;mov,mp4,matroska,webm,avi,mpegts,flv,mpeg,mpegvideo,asf,ogg,h264,hevc,m4v,ivf,mjpeg,mpjpeg,gif,"
    "rtsp"
)
"""What FFmpeg may use for an address: no files, and no playlists, which would lead it to other addresses."""


@dataclass(frozen=True)
class Picture:
    """What a capture gives. image: RGB. taken: time.monotonic_ns() when it had come. position_ns: as in Frame."""

    image: Image
    taken: int
    position_ns: int | None = None


class Capture:
    """An open cv2.VideoCapture. trouble: why it gives no picture, where that is known better than by read() alone.

    One thread reads; close() may come from any other, and waits for a read() at work."""

    def __init__(self, video: cv2.VideoCapture, after: Callable[[], None] | None = None) -> None:
        """after: called when it has been closed."""
        self._video: cv2.VideoCapture | None = video
        self._after = after
        self.trouble = "it can be opened, but gives no picture; see that nobody else is using it"
        self._lock = threading.Lock()

    def read(self) -> Picture | None:
        """Return the next picture; None when there is none."""
        import cv2

        with self._lock:
            if self._video is None or not self._video.grab():
                return None
            taken = time.monotonic_ns()
            image = self._video.retrieve()[1]
            milliseconds = self._video.get(cv2.CAP_PROP_POS_MSEC)
        if image is None:
            return None
        if image.ndim == 2 or image.shape[2] == 1:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
        else:
            image = as_rgb(np.asarray(image, np.uint8))
        self.trouble = "it sends nothing that can be shown"
        return Picture(image, taken, round(milliseconds * 1e6) if math.isfinite(milliseconds) else None)

    @property
    def fps(self) -> float | None:
        """Frames per second that it claims; None where it claims none that can be."""
        import cv2

        fps = self._get(cv2.CAP_PROP_FPS)
        return fps if 0 < fps <= 1000 else None

    @property
    def frames(self) -> int | None:
        """How many frames a stored video claims to hold; None for a live one."""
        import cv2

        count = self._get(cv2.CAP_PROP_FRAME_COUNT)
        return int(count) if count >= 1 else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that it claims."""
        import cv2

        return int(self._get(cv2.CAP_PROP_FRAME_WIDTH)), int(self._get(cv2.CAP_PROP_FRAME_HEIGHT))

    def _get(self, what: int) -> float:
        with self._lock:
            value = self._video.get(what) if self._video is not None else 0.0
        return value if math.isfinite(value) else 0.0

    def holds(self, frames: int) -> bool:
        """Whether the last of so many frames of a video file can be decoded."""
        import cv2

        with self._lock:
            if self._video is None:
                return False
            self._video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
            # 1 less: a timestamp's rounding
            return self._video.grab() and self._video.get(cv2.CAP_PROP_POS_FRAMES) >= frames - 1

    def close(self) -> None:
        """Free it; a second call does nothing."""
        with self._lock:
            video, self._video = self._video, None
            if video is not None:
                video.release()
                if self._after:
                    self._after()


def open_file(path: str | Path) -> Capture | None:
    """Open a file with the first OpenCV backend that takes it; None when none does."""
    import cv2

    with _name_for_opencv(Path(path)) as name:
        for backend in cv2.videoio_registry.getStreamBackends():
            # CAP_IMAGES would take clip01.mp4 for a numbered image sequence
            if backend != cv2.CAP_IMAGES:
                video = cv2.VideoCapture(name, backend)
                if video.isOpened():
                    return Capture(video)
    return None


@contextlib.contextmanager
def _name_for_opencv(path: Path) -> Iterator[str]:
    """Yield a name of the file that OpenCV takes: it knows only UTF-8, and Linux any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            yield f"/dev/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    yield str(path)


def open_address(url: str, *options: str, after: Callable[[], None] | None = None) -> Capture | None:
    """Open a network address with FFmpeg; None when it gives no video. options: further ones for FFmpeg, "key;value".

    after: called when the capture has been closed.
    """
    import cv2

    settings = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    if hasattr(cv2, "CAP_PROP_N_THREADS"):  # from OpenCV 4.7; Ubuntu's and Debian's own packages are older
        settings += [cv2.CAP_PROP_N_THREADS, 1]  # each further one holds a frame back
    with _ffmpeg_options(*options), silent_opencv():
        video = cv2.VideoCapture(url, cv2.CAP_FFMPEG, settings)
    return Capture(video, after) if video.isOpened() else None


def open_pipeline(pipeline: str, after: Callable[[], None] | None = None) -> Capture | None:
    """Open a GStreamer pipeline that ends in an appsink; None when it does not start. after: as for open_address."""
    import cv2

    with silent_opencv():
        video = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    return Capture(video, after) if video.isOpened() else None


@contextlib.contextmanager
def _ffmpeg_options(*options: str) -> Iterator[None]:
    """Set what OpenCV passes on to FFmpeg while a source is opened: the user's own setting, else `options`."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    users = os.environ.get(name)
    os.environ[name] = "|".join([*(options if users is None else [users]), PROTOCOLS, CONTAINERS])
    try:
        yield
    finally:
        if users is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = users


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from printing an address, with its password, while they open it."""
    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging: Any = getattr(cv2.utils, "logging", cv2)  # where they stood before, as in Ubuntu's and Debian's packages
    before = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(before)
