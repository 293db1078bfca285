"""A sink that records a video file, whole and playable however the stream ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import free_bytes, written_beside
from pix2pix_edge.runtime.frame import Frame, Image, Sink, view
from pix2pix_edge.runtime.sinks.containers import FragmentedMp4, Matroska
from pix2pix_edge.runtime.sinks.encoders import LIBVPX, NoEncoderError, open_encoder, opencv_writer
from pix2pix_edge.runtime.sinks.files import make_writable
from pix2pix_edge.runtime.sources.capture import open_file

if TYPE_CHECKING:
    import cv2

VIDEO_CODECS = {
    ".webm": ("VP80",),
    ".mp4": ("avc1", "VP90", "mp4v"),
    ".mkv": ("VP80", "MJPG"),
    ".avi": ("MJPG",),
    ".mov": ("MJPG",),
}
"""Ending -> codecs, the first that is encoded here (see encoders). VP8, VP9 and H.264 (avc1) play in browsers; OpenCV's
wheel has no H.264. VP8, VP9 and, but for .avi, Motion JPEG are on the disk, playable, as they come (see containers).
"""

DEFAULT_FPS = 30.0
LONGEST_GAP_NS = 10_000_000_000
"""A longer gap of a live source is cut to this in the video."""

SPARE_BYTES = 16 << 20
"""A video stops here, while there is still room to finish the file so that it plays."""

SYNC_S = 1.0
"""How much of a video a power cut may take."""


class VideoSink(Sink):
    """A video file. It appears under its name only when it is closed, whole and playable; with no frame, not at all.

    Each picture is shown when it was shown in its own video or, from a live source, when it happened; a file with one
    rate for all (.avi) repeats pictures for that.
    """

    def __init__(self, path: str | Path, mode: str = "output", fps: float | None = None, *, live: bool = False) -> None:
        """fps: of the file; DEFAULT_FPS for None. Raises InputError when the folder cannot be written."""
        self.path = self.writes = Path(path)
        self.name = self.path.name
        self._mode = mode
        self._fps = fps or DEFAULT_FPS
        self._live = live
        self._clock: int | None = None
        self._shown_ns = 0
        self._shape: tuple[int, ...] | None = None
        self._writer: _Indexed | _Streamed | None = None
        self._count = 0
        make_writable(self.path.parent)
        self._beside = written_beside(self.path)
        self._temporary: Path | None = self._beside.__enter__()

    def write(self, frame: Frame) -> None:
        import cv2

        image = view(frame, self._mode)
        if self._writer is None:
            self._writer = self._open(image)
        if self._shape is not None and image.shape != self._shape:  # OpenCV would drop it and say nothing
            raise InputError(f"{self.path} holds frames of {self._shape}, and cannot take one of {image.shape}")
        if free_bytes(self.path.parent) < SPARE_BYTES:
            raise InputError(
                f"the disk of {self.path} is full; the video ends after {self._count} frames: make room and run again"
            )
        self._move_on(frame)
        self._shape = image.shape
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), self._shown_ns)
        self._count += 1

    def _move_on(self, frame: Frame) -> None:
        """Set when this frame is shown, from the first."""
        former, usual = self._clock, round(1e9 / self._fps)
        self._clock = frame.captured_at if self._live else frame.position_ns
        if self._count == 0:
            return
        passed = usual if former is None or self._clock is None else self._clock - former
        if passed <= 0:  # a video begins again with --loop
            passed = usual
        self._shown_ns += min(passed, LONGEST_GAP_NS) if self._live else passed

    def _open(self, image: Image) -> _Indexed | _Streamed:
        ending = self.path.suffix.lower()
        codecs = VIDEO_CODECS[ending]
        assert self._temporary
        for codec in codecs:
            indexed = ending == ".avi" or codec not in ("MJPG", *LIBVPX)
            kind: type[_Indexed | _Streamed] = _Indexed if indexed else _Streamed
            try:
                return kind(self._temporary, codec, self._fps, image.shape[1::-1])
            except NoEncoderError:
                continue
        raise InputError(
            f"this OpenCV cannot encode {' or '.join(codecs)} for {self.path}; use --sink"
            f" {shlex.quote(str(self.path.with_suffix('.mov')))}, a folder, or: pip install av"
        )

    def close(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is None:
            return
        error: InputError | None = None
        if self._writer is not None and not self._writer.release(self._shown_ns + round(1e9 / self._fps)):
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


class _Indexed:
    """A file that OpenCV writes whole, at one rate, with its index at the end."""

    def __init__(self, path: Path, codec: str, fps: float, size: tuple[int, int]) -> None:
        self._path, self._fps, self._count = path, fps, 0
        self._last: cv2.typing.MatLike | None = None
        self._writer = opencv_writer(path, codec, fps, size)

    def write(self, image: cv2.typing.MatLike, time_ns: int) -> None:
        for _ in range(round(time_ns * self._fps / 1e9) - self._count):
            self._writer.write(self._last if self._last is not None else image)
            self._count += 1
        self._writer.write(image)
        self._last = image
        self._count += 1

    def release(self, end_ns: int) -> bool:
        """The encoder hides every error, a full disk too; and a header promises frames that never reached the disk."""
        self._writer.release()
        if not self._count or (capture := open_file(str(self._path))) is None:
            return not self._count
        whole = capture.holds(self._count)
        capture.close()
        return whole


class _Streamed:
    """A file of packets, in a container of our own, that are on the disk as they come."""

    def __init__(self, path: Path, codec: str, fps: float, size: tuple[int, int]) -> None:
        self._times: list[int] = []
        self._error: OSError | None = None  # said at the end, when nothing more can be lost
        self._encoder = open_encoder(codec, fps, size, self._add)
        kind = FragmentedMp4 if path.suffix.lower() in (".mp4", ".mov") else Matroska
        self._container = kind(path, codec, size, round(1e9 / fps))
        self._over = threading.Event()
        self._syncer = threading.Thread(target=self._sync, name="video sync", daemon=True)
        self._syncer.start()

    def write(self, image: cv2.typing.MatLike, time_ns: int) -> None:
        if self._error is None:
            self._times.append(time_ns)
            self._encoder.write(image)

    def release(self, end_ns: int) -> bool:
        """Return whether all that was written reached the disk."""
        self._encoder.close()
        self._over.set()
        self._syncer.join()
        try:
            self._container.close(end_ns)
        except OSError as error:
            self._error = error
        return self._error is None and self._container.packets == len(self._times)

    def _add(self, number: int, packet: bytes) -> None:
        try:
            if self._error is None:
                self._container.add(packet, self._times[number])
        except OSError as error:
            self._error = error

    def _sync(self) -> None:
        """Have the disk hold what was written, in a thread, for a memory card takes its time."""
        while not self._over.wait(SYNC_S):
            try:
                os.fdatasync(self._container.fileno())
            except OSError as error:
                self._error = error
