"""A sink that records a video file, whole and playable however the stream ends."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.errors import InputError, native_stderr
from pix2pix_edge.runtime.files import free_bytes, written_beside
from pix2pix_edge.runtime.frame import Frame, Image, Sink, view
from pix2pix_edge.runtime.sinks.files import make_writable
from pix2pix_edge.runtime.sources.capture import open_file, silent_opencv

if TYPE_CHECKING:
    import cv2

VIDEO_CODECS = {
    ".webm": ("VP80",),
    ".mp4": ("avc1", "vp09", "mp4v"),
    ".mkv": ("VP80", "MJPG"),
    ".avi": ("MJPG",),
    ".mov": ("avc1", "mp4v"),
}
"""Ending -> codecs, the first that this OpenCV encodes. VP8, VP9 and H.264 (avc1) play in browsers; OpenCV's wheel
has no H.264. A .webm, .mkv or .avi plays as far as it was written, also when the process is killed.
"""

DEFAULT_FPS = 30.0
LONGEST_REPEAT_S = 10.0
"""A longer gap of a live source is cut to this in the video."""

SPARE_BYTES = 16 << 20
"""A video stops here, while there is still room to finish the file so that it plays."""


class VideoSink(Sink):
    """A video file. It appears under its name only when it is closed, whole and playable; with no frame, not at all.

    From a live source it plays as fast as things happened: where the stream dropped frames, the one before is repeated.
    """

    def __init__(self, path: str | Path, mode: str = "output", fps: float | None = None, *, live: bool = False) -> None:
        """fps: of the file; DEFAULT_FPS for None. Raises InputError when the folder cannot be written."""
        self.path = self.writes = Path(path)
        self.name = self.path.name
        self._mode = mode
        self._fps = fps or DEFAULT_FPS
        self._live = live
        self._begun: float | None = None
        self._last: cv2.typing.MatLike | None = None
        self._writer: cv2.VideoWriter | None = None
        self._count = 0
        make_writable(self.path.parent)
        self._beside = written_beside(self.path)
        self._temporary: Path | None = self._beside.__enter__()

    def write(self, frame: Frame) -> None:
        import cv2

        image = view(frame, self._mode)
        if self._writer is None:
            self._writer = self._open(image)
        if self._last is not None and image.shape != self._last.shape:  # OpenCV would drop it and say nothing
            raise InputError(f"{self.path} holds frames of {self._last.shape}, and cannot take one of {image.shape}")
        if free_bytes(self.path.parent) < SPARE_BYTES:
            raise InputError(
                f"the disk of {self.path} is full; the video ends after {self._count} frames: make room and run again"
            )
        for _ in range(self._missing(frame.captured_at) if self._live else 0):
            self._writer.write(self._last)
            self._count += 1
        self._last = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        self._writer.write(self._last)
        self._count += 1

    def _missing(self, captured_at: int) -> int:
        """Return how many frames of the file lie between the last one written and this one."""
        seconds = captured_at / 1e9
        if self._begun is None:
            self._begun = seconds
        missing = round((seconds - self._begun) * self._fps) - self._count
        longest = round(LONGEST_REPEAT_S * self._fps)
        if missing > longest:
            self._begun += (missing - longest) / self._fps
        return max(0, min(missing, longest))

    def _open(self, image: Image) -> cv2.VideoWriter:
        import cv2

        codecs = VIDEO_CODECS[self.path.suffix.lower()]
        height, width = image.shape[:2]
        with (
            silent_opencv(),
            native_stderr(),
        ):  # it remarks on each codec that it does not have, or calls otherwise
            for codec in codecs:
                writer = cv2.VideoWriter(str(self._temporary), _fourcc(codec), self._fps, (width, height))
                if writer.isOpened():
                    return writer
        raise InputError(
            f"this OpenCV cannot encode {' or '.join(codecs)} for {self.path}; use --sink"
            f" {self.path.with_suffix('.avi')}, a folder, or: pip install --force-reinstall opencv-python"
        )

    def close(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is None:
            return
        error: InputError | None = None
        if self._writer is not None:
            self._writer.release()
            if self._count and not _is_whole(temporary, self._count):  # the encoder hides every error, a full disk too
                error = InputError(
                    f"{self.path} was not written: not all {self._count} frames reached the disk, it may be full; make"
                    " room and run again"
                )
        if error or not self._count:
            with contextlib.suppress(_Abandoned):
                self._beside.__exit__(_Abandoned, _Abandoned(), None)
        else:
            self._beside.__exit__(None, None, None)
        if error:
            raise error


class _Abandoned(Exception):
    """Tells written_beside to take its file away."""


def _fourcc(codec: str) -> int:
    return int.from_bytes(codec.encode(), "little")


def _is_whole(path: Path, frames: int) -> bool:
    """Whether the last of so many frames is there: a header promises frames that never reached the disk."""
    capture = open_file(str(path))
    if capture is None:
        return False
    whole = capture.holds(frames)
    capture.close()
    return whole
