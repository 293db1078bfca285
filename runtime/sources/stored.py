"""Stored sources: image, folder, glob, video file."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, Source
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, distinct_names, natural_key, read_image
from pix2pix_edge.runtime.sources.capture import Capture, open_file

GRAMMAR = (
    "an image, a folder, a glob, a video file, a camera (N, /dev/videoN or csi://N, with ?size=WxH@FPS),"
    " rtsp://…, http://… or test://WxH@FPS"
)


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


def open_stored(text: str) -> Source:
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
