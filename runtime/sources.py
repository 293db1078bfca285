"""Frame sources: the grammar of --source, and the stored sources (image, folder, glob, video file)."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from runtime.capture import Capture, open_file
from runtime.errors import InputError
from runtime.frame import Frame, Image

IMAGE_ENDINGS = (".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

GRAMMAR = (
    "an image, a folder, a glob, a video file, a camera (N, /dev/videoN or csi://N, with ?size=WxH@FPS),"
    " rtsp://…, http://… or test://WxH@FPS"
)


@runtime_checkable
class Source(Protocol):
    """Where frames come from. One thread calls read(); close() may come from any other."""

    @property
    def name(self) -> str:
        """For messages and file names; never holds a password."""
        ...

    @property
    def live(self) -> bool:
        """True where time passes whether or not anyone reads: a camera, not a file."""
        ...

    @property
    def frames(self) -> int | None:
        """How many frames it will give; None where nobody knows."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second of its own clock; None where it has none, as a folder of images."""
        ...

    def read(self) -> Frame | None:
        """Return the next frame with timings["capture"] set, or None when it has ended. Raises InputError."""
        ...

    def close(self) -> None:
        """Free the device or file; a second call does nothing. A read() that waits then returns None soon."""
        ...


def read_image(path: str | Path) -> Image:
    """Read an image file as uint8 [H, W, 3] RGB; 16-bit, grey and alpha images are converted.

    Raises InputError when the file is missing, truncated or not an image.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    # imdecode, because imread fills the missing part of a truncated JPEG with grey and says nothing
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # for example more pixels than OpenCV allows
        image = None
    if image is None:
        state = "is empty" if not data.size else "is not a whole image that OpenCV can read"
        raise InputError(f"{path} {state}; repair it or take it away")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of a path with the numbers in it by value: 2.png before 10.png."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", str(path)) if part]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its stem, with _2, _3 … where an earlier path has taken that name."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name, count = path.stem, 1
        while name in taken:
            count += 1
            name = f"{path.stem}_{count}"
        taken.add(name)
        names.append(name)
    return names


class ImagesSource:
    """Image files, one frame each; sizes may differ."""

    live = False
    fps = None

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        self.paths = list(paths)
        self.frames = len(self.paths)
        self._names = distinct_names(self.paths)
        self._next = 0

    def read(self) -> Frame | None:
        if self._next >= len(self.paths):
            return None
        index, self._next = self._next, self._next + 1
        start = time.monotonic_ns()
        image = read_image(self.paths[index])
        return Frame(index, start, self._names[index], image, timings={"capture": time.monotonic_ns() - start})

    def close(self) -> None:
        self._next = len(self.paths)


class VideoSource:
    """A video file, every frame in order. Raises InputError when it is no video that OpenCV can decode."""

    live = False

    def __init__(self, capture: Capture | None, shown: str, name: str) -> None:
        """capture: open, or None when nothing could open it. shown: what messages call it. name: for file names."""
        # the first frame at once: many a broken file opens, and only then has nothing to give
        self._first = capture.read() if capture else None
        if capture is None or self._first is None:
            raise InputError(f"{shown} is not a video that OpenCV can decode; --source takes {GRAMMAR}")
        self.name, self.fps, self.frames = name, capture.fps, capture.frames
        self._capture = capture
        self._next = 0

    def read(self) -> Frame | None:
        start = time.monotonic_ns()
        picture, self._first = self._first or self._capture.read(), None
        if picture is None:
            return None
        index, self._next = self._next, self._next + 1
        name = f"{self.name}_{index:06d}"
        return Frame(index, start, name, picture[0], timings={"capture": time.monotonic_ns() - start})

    def close(self) -> None:
        self._first = None
        self._capture.close()


def open_video(path: Path) -> VideoSource:
    """Open a video file. Raises InputError when it is none."""
    # FFmpeg would draw a text file as a film of its letters
    return VideoSource(None if _is_text(path) else open_file(str(path)), str(path), path.stem)


def _is_text(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(4096)
    return b"\0" not in start and bool(start)


class Looped:
    """A stored source played several times; the index runs on, the names repeat."""

    live = False

    def __init__(self, reopen: Callable[[], Source], times: int) -> None:
        """times: how often to play it; 0 for ever."""
        self._reopen, self._left, self._next = reopen, times, 0
        self._inner = reopen()
        self._closed = False
        self.name, self.fps = self._inner.name, self._inner.fps
        self.frames = self._inner.frames * times if self._inner.frames and times else None

    def read(self) -> Frame | None:
        frame = self._inner.read()
        if frame is None and self._left != 1 and not self._closed:
            self._left -= 1 if self._left else 0
            self._inner.close()
            self._inner = self._reopen()
            if self._closed:  # meanwhile, and so it closed the one before
                self._inner.close()
            frame = self._inner.read()
        if frame is not None:
            frame.index, self._next = self._next, self._next + 1
        return frame

    def close(self) -> None:
        self._closed = True
        self._inner.close()


def open_source(spec: str | Any, *, loop: int = 1) -> Source:
    """Open what --source names (see GRAMMAR), or wrap an object with read() and close(), such as a camera's driver.

    loop: how often to play a stored source, 0 for ever. Raises InputError when the source cannot be used.
    """
    from runtime import cameras

    if not isinstance(spec, str | Path):
        return spec if isinstance(spec, Source) else cameras.ObjectSource(spec)
    text = str(spec)
    if not text.strip():  # as from a shell variable that is not set
        raise InputError(f"--source is empty; it takes {GRAMMAR}")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    opened: Source | None = None
    if scheme == "test":
        opened = cameras.TestSource.from_spec(text)
    elif scheme == "csi":
        opened = cameras.open_csi(text)
    elif scheme in ("rtsp", "rtsps", "http", "https"):
        opened = cameras.open_network(text)
    elif re.fullmatch(r"(\d+|/dev/video\d+)(\?.*)?", text):
        opened = cameras.open_camera(text)
    elif scheme:
        raise InputError(f"--source does not know {scheme}://; it takes {GRAMMAR}")
    if opened is not None:
        if loop != 1:
            opened.close()
            raise InputError("--loop is for files; a live source goes on by itself")
        return opened
    return _open_stored(text) if loop == 1 else Looped(lambda: _open_stored(text), loop)


def _open_stored(text: str) -> Source:
    path = Path(text)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and p.is_file()]
        if not found:
            raise InputError(f"the folder {text} holds no images ({' '.join(IMAGE_ENDINGS)})")
        return ImagesSource(path.resolve().name, sorted(found, key=natural_key))
    if path.is_file():
        return ImagesSource(path.stem, [path]) if path.suffix.lower() in IMAGE_ENDINGS else open_video(path)
    if path.exists():
        raise InputError(f"{text} is neither a file nor a folder; --source takes {GRAMMAR}")
    if glob.has_magic(text):
        matches = [Path(p) for p in glob.glob(str(path.expanduser()), recursive=True)]  # noqa: PTH207 (absolute ones too)
        found = [p for p in matches if p.suffix.lower() in IMAGE_ENDINGS and p.is_file()]
        if not found:
            raise InputError(f"no image matches {text}; quote the pattern, and see that the folder is right")
        return ImagesSource("images", sorted(found, key=natural_key))
    raise InputError(f"there is no {text}; --source takes {GRAMMAR}")
