"""Frame sinks: the grammar of --sink, and the sinks themselves (folder, image, video file, window, null)."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runtime.errors import InputError
from runtime.files import free_bytes, written_beside
from runtime.frame import Frame, Image, view

if TYPE_CHECKING:
    import cv2

VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v"}
"""Ending -> codec. These encoders are in every build of OpenCV, and need no licence as H.264 does."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
GRAMMAR = "a folder/, a video (.mp4 .avi .mkv .mov), an image (.png .jpg), window or null"
DEFAULT_FPS = 30.0
SPARE_BYTES = 16 << 20
"""A video stops here, while there is still room to finish the file so that it plays."""


class ViewerQuitError(Exception):
    """The viewer asked to stop: no error, but the end of the stream."""


class Sink(Protocol):
    """Where translated frames go. write() and close() come from one thread.

    A sink may also have attach(stream): it is called once, before the first frame, with the runtime.stream.Stream.
    """

    def write(self, frame: Frame) -> None:
        """Take one translated frame. Raises InputError when it cannot, ViewerQuitError to end the stream."""
        ...

    def close(self) -> None:
        """Finish what was written; a second call does nothing. Raises InputError when it is not whole."""
        ...


class NullSink:
    """Takes frames and does nothing: to measure the rest."""

    def write(self, frame: Frame) -> None:
        return

    def close(self) -> None:
        return


class FolderSink:
    """A folder with one PNG per frame, named by frame.source; files of the same name are replaced."""

    def __init__(self, folder: str | Path, mode: str = "output") -> None:
        """Make the folder. Raises InputError when it cannot be written."""
        self.folder = Path(folder)
        self._mode = mode
        _make_writable(self.folder)

    def write(self, frame: Frame) -> None:
        write_image(self.folder / f"{frame.source}.png", view(frame, self._mode))

    def close(self) -> None:
        return


class ImageSink:
    """One image file; each frame replaces it, so that it always shows the newest."""

    def __init__(self, path: str | Path, mode: str = "output") -> None:
        """Make the folder it is in. Raises InputError when that cannot be written."""
        self.path = Path(path)
        self._mode = mode
        _make_writable(self.path.parent)

    def write(self, frame: Frame) -> None:
        write_image(self.path, view(frame, self._mode))

    def close(self) -> None:
        return


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --sink") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write in {folder}: Permission denied; choose another --sink")


def write_image(path: Path, image: Image) -> None:
    """Write a uint8 [H, W, 3] RGB image by the ending of `path`. Raises InputError when it cannot be written."""
    import cv2

    encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    try:
        with written_beside(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; make room, or choose another --sink") from error


class VideoSink:
    """A video file. It appears under its name only when it is closed, whole and playable; with no frame, not at all."""

    def __init__(self, path: str | Path, mode: str = "output", fps: float | None = None) -> None:
        """fps: of the file; DEFAULT_FPS for None. Raises InputError when the folder cannot be written."""
        self.path = Path(path)
        self._mode = mode
        self._fps = fps or DEFAULT_FPS
        self._shape: tuple[int, ...] | None = None
        self._writer: cv2.VideoWriter | None = None
        self._count = 0
        self._beside = written_beside(self.path)
        self._temporary: Path | None = self._beside.__enter__()

    def write(self, frame: Frame) -> None:
        import cv2

        image = view(frame, self._mode)
        if self._writer is None:
            self._writer = self._open(image)
        if image.shape != self._shape:  # OpenCV would drop the frame and say nothing
            raise InputError(f"{self.path} holds frames of {self._shape}, and cannot take one of {image.shape}")
        if free_bytes(self.path.parent) < SPARE_BYTES:
            raise InputError(
                f"the disk of {self.path} is full; the video ends after {self._count} frames: make room and run again"
            )
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._count += 1

    def _open(self, image: Image) -> cv2.VideoWriter:
        import cv2

        codec = VIDEO_CODECS[self.path.suffix.lower()]
        height, width = image.shape[:2]
        self._shape = image.shape
        writer = cv2.VideoWriter(str(self._temporary), _fourcc(codec), self._fps, (width, height))
        if not writer.isOpened():
            raise InputError(
                f"this OpenCV cannot encode {codec} for {self.path}; use --sink {self.path.with_suffix('.avi')},"
                " a folder, or: pip install --force-reinstall opencv-python"
            )
        return writer

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
    import cv2

    from runtime.sources import open_capture

    capture = open_capture(str(path))
    if capture is None:
        return False
    capture.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
    whole = capture.grab() and capture.get(cv2.CAP_PROP_POS_FRAMES) >= frames - 1  # 1 less: a timestamp's rounding
    capture.release()
    return whole


class WindowSink:
    """A window on the desktop; q, Esc or closing it ends the stream. Written from the thread that opened it."""

    TITLE = "pix2pix-edge (q quits)"

    def __init__(self, mode: str = "output", *, still: bool = False) -> None:
        """still: each picture stays until a key is pressed. Raises InputError when there is no display."""
        import cv2

        if problem := display_problem():
            raise InputError(f"no window can be shown: {problem}; use --sink FOLDER/ or --sink FILE.mp4")
        self._mode, self._still = mode, still
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # it misses fonts that no picture needs
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise InputError(
                "this OpenCV has no windows; run: pip uninstall opencv-python-headless, then"
                " pip install --force-reinstall opencv-python"
            ) from error
        self._open = True
        self._sized = False

    def write(self, frame: Frame) -> None:
        import cv2

        image = view(frame, self._mode)
        if not self._sized:
            scale = max(1, 512 // image.shape[0])
            cv2.resizeWindow(self.TITLE, image.shape[1] * scale, image.shape[0] * scale)
            self._sized = True
        cv2.imshow(self.TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        while self._still and key < 0 and self._visible():
            key = cv2.waitKey(50)
        if key & 0xFF in (ord("q"), 27) or not self._visible():
            raise ViewerQuitError

    def _visible(self) -> bool:
        import cv2

        try:
            return cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False

    def close(self) -> None:
        import cv2

        if self._open:
            self._open = False
            cv2.destroyAllWindows()
            cv2.waitKey(1)  # lets the window system take it away


def display_problem() -> str:
    """Return why no window can open, or "". Asked first, because without a display Qt aborts the whole process."""
    if sys.platform != "linux":
        return ""
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "this session has no display (DISPLAY is not set)"
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdecimal():
        return f"DISPLAY is {display}, which names no display"
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(f"\0/tmp/.X11-unix/X{number}")
                except OSError:
                    connection.connect(f"/tmp/.X11-unix/X{number}")
        else:
            socket.create_connection((host, 6000 + int(number)), timeout=2).close()
    except OSError:
        return f"nothing answers at DISPLAY {display}"
    return ""


def open_sink(spec: str | Any, *, mode: str = "output", fps: float | None = None, frames: int | None = None) -> Sink:
    """Open what --sink names (see GRAMMAR); an object with write() and close() is returned as it is.

    mode: what it shows, one of runtime.options.VIEW_MODES. fps, frames: of the source, where known; fps None with a
    known count means still pictures. Raises InputError when the sink cannot be used.
    """
    if not isinstance(spec, str | Path):
        return spec
    text = str(spec)
    path = Path(text)
    ending = path.suffix.lower()
    if text == "null":
        return NullSink()
    if text == "window":
        return WindowSink(mode, still=fps is None and frames is not None)
    if "://" in text:
        raise InputError(f"--sink does not know {text.partition('://')[0]}://; it takes {GRAMMAR}")
    if text.endswith("/") or path.is_dir() or not ending:
        return FolderSink(path, mode)
    if ending in VIDEO_CODECS:
        return VideoSink(path, mode, fps)
    if ending in IMAGE_ENDINGS:
        if frames and frames > 1:
            raise InputError(f"{frames} frames do not fit into the image {text}; use --sink {path.with_suffix('')}/")
        return ImageSink(path, mode)
    raise InputError(f"--sink {text} is nothing it can write; it takes {GRAMMAR}")
