"""What encodes a video: PyAV where it is installed, several times faster; OpenCV where it is not."""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.errors import native_stderr
from pix2pix_edge.runtime.sources.capture import silent_opencv

if TYPE_CHECKING:
    import cv2

Take = Callable[[int, bytes], None]
"""Is given each packet as it comes: the number of its picture, from 0, and its bytes."""

LIBVPX = {"VP80": ("libvpx", "-5"), "VP90": ("libvpx-vp9", "7")}
"""Codec -> PyAV's name of its encoder, and the speed (of VP8 negative, or it follows the clock) beyond which little is
gained and quality is lost.
"""


class NoEncoderError(Exception):
    """Nothing here encodes that codec, or not at that size."""


def open_encoder(codec: str, fps: float, size: tuple[int, int], take: Take) -> _Jpeg | _Libvpx | _Piped:
    """Return an encoder that gives its packets to `take`. codec: "MJPG", or of LIBVPX. size: (width, height).

    write() takes uint8 [H, W, 3] BGR, close() hands on every packet that is left. Raises NoEncoderError.
    """
    if codec == "MJPG":
        return _Jpeg(take)
    try:
        return _Libvpx(codec, fps, size, take)
    except NoEncoderError:
        return _Piped(codec, fps, size, take)


class _Jpeg:
    """Motion JPEG: each picture is a packet."""

    def __init__(self, take: Take) -> None:
        self._take, self._count = take, 0

    def write(self, image: cv2.typing.MatLike) -> None:
        import cv2

        self._take(self._count, cv2.imencode(".jpg", image)[1].tobytes())
        self._count += 1

    def close(self) -> None:
        return


class _Libvpx:
    """VP8 or VP9 by PyAV, in one thread: the others are the engine's."""

    def __init__(self, codec: str, fps: float, size: tuple[int, int], take: Take) -> None:
        """Raises NoEncoderError: without PyAV, too."""
        try:
            import av
        except ImportError as error:
            raise NoEncoderError from error
        self._frame, self._take, self._count = av.VideoFrame.from_ndarray, take, 0
        name, speed = LIBVPX[codec]
        rate = Fraction(fps).limit_denominator(1_000_000)
        try:
            self._context = av.CodecContext.create(name, "w")
            self._context.width, self._context.height = size
            self._context.pix_fmt, self._context.framerate, self._context.time_base = "yuv420p", rate, 1 / rate
            self._context.bit_rate = round(fps * size[0] * size[1])  # as OpenCV asks for
            self._context.thread_count = 1
            self._context.options = {"deadline": "realtime", "cpu-used": speed, "lag-in-frames": "0"}
            self._context.open()
        except (av.error.FFmpegError, ValueError) as error:  # ValueError: a PyAV that was built without it
            raise NoEncoderError from error

    def write(self, image: cv2.typing.MatLike) -> None:
        frame = self._frame(image, format="bgr24")
        frame.pts = self._count
        self._count += 1
        self._hand_on(frame)

    def close(self) -> None:
        if self._count:
            self._hand_on(None)

    def _hand_on(self, frame: object) -> None:
        for packet in self._context.encode(frame):
            self._take(packet.pts, bytes(packet))


class _Piped:
    """VP8 or VP9 by OpenCV, which hands on each packet at once through a pipe, where it cannot seek."""

    def __init__(self, codec: str, fps: float, size: tuple[int, int], take: Take) -> None:
        """Raises NoEncoderError."""
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder) / "packets.ivf"
            os.mkfifo(pipe)
            self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # a blocking one would wait for an encoder
            try:
                self._writer = opencv_writer(pipe, codec, fps, size)
            except NoEncoderError:
                os.close(self._pipe)
                raise
        os.set_blocking(self._pipe, True)
        self._take = take
        self._thread = threading.Thread(target=self._carry, name="video", daemon=True)
        self._thread.start()

    def write(self, image: cv2.typing.MatLike) -> None:
        self._writer.write(image)

    def close(self) -> None:
        self._writer.release()
        self._thread.join()

    def _carry(self) -> None:
        """Carry packets until the encoder closes its end of the pipe."""
        with open(self._pipe, "rb") as pipe:
            pipe.read(32)  # the head of the file (https://wiki.multimedia.cx/index.php/IVF)
            while len(head := pipe.read(12)) == 12:
                length, number = struct.unpack("<IQ", head)
                self._take(number, pipe.read(length))


def opencv_writer(path: Path, codec: str, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    """Return OpenCV's writer of a file. codec: its FOURCC. size: (width, height). Raises NoEncoderError."""
    import cv2

    with silent_opencv(), native_stderr():  # it remarks on each codec that it does not have, or calls otherwise
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, int.from_bytes(codec.encode(), "little"), fps, size)
    if not writer.isOpened():
        raise NoEncoderError
    return writer
