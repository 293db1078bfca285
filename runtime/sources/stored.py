"""Stored sources: image, folder, glob, video file."""

from __future__ import annotations

import fnmatch
import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pix2pix_edge.runtime.addresses import shown
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import distinct_names, files_in, folders_below, is_lost, natural_key
from pix2pix_edge.runtime.frame import BadPictureError, Frame, Source
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, MAX_PIXELS, only_images, read_image
from pix2pix_edge.runtime.sources.capture import Capture, Picture, open_file
from pix2pix_edge.runtime.sources.containers import Break, find_break

GRAMMAR = (
    "an image, a folder, a glob, a video file, a camera (N, /dev/videoN or csi://N, with ?size=WxH@FPS),"
    " rtsp://…, http://… or test://WxH@FPS"
)

OTHER_PICTURES = (
    *(".3gp", ".arw", ".avi", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".flv", ".gif", ".hdr", ".heic", ".heif"),
    *(".jfif", ".jpe", ".jxl", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".nef", ".orf", ".psd"),
    *(".raf", ".raw", ".rw2", ".svg", ".tga", ".ts", ".webm", ".wmv"),
)
"""Endings of pictures and videos that are not read from a folder: Source.skipped names them."""


class ImagesSource(Source):
    """Image files, one frame each; sizes may differ."""

    def __init__(
        self, name: str, files: Sequence[Path], skipped: Sequence[Path] = (), max_pixels: int = MAX_PIXELS
    ) -> None:
        self.name = name
        self.files, self.skipped = list(files), list(skipped)
        self.frames = len(self.files)
        self._names = distinct_names(self.files)
        self._max_pixels = max_pixels
        self._place = self._next = 0

    def read(self) -> Frame | None:
        if self._place >= len(self.files):
            return None
        place, self._place = self._place, self._place + 1
        start = time.monotonic_ns()
        image = read_image(self.files[place], self._max_pixels)
        index, self._next = self._next, self._next + 1
        return Frame(index, start, self._names[place], image, timings={"capture": time.monotonic_ns() - start})

    def close(self) -> None:
        self._place = len(self.files)


DAMAGED, COMPLETE = 500, 25
"""How often in succession a video that gives no picture is asked again, each time for what follows a damaged part: one
that owes pictures, and one that has given as many as it claims to hold, which may be too few."""


class VideoSource(Source):
    """A video file, every frame in order. Raises InputError when it is no video that OpenCV can decode.

    read() raises BadPictureError where frames are missing, because of damage in the middle or a lost end, and goes on.
    """

    def __init__(self, capture: Capture | None, shown: str, name: str, path: Path | None = None) -> None:
        """capture: open, or None when nothing could open it. shown: what messages call it. name: for file names.

        path: the file, whose end is then checked; None for one on a server.
        """
        # the first frame at once: many a broken file opens, and only then has nothing to give
        self._first = capture.read() if capture else None
        if capture is None or self._first is None:
            if path and (broken := find_break(path)) and broken.cut:
                raise InputError(f"{shown} is truncated: it ends before its index, which stands last; copy it again")
            raise InputError(f"{shown} is not a video that OpenCV can decode; --source takes {GRAMMAR}")
        self.name, self.fps, self.frames = name, capture.fps, capture.frames
        self.files = [path] if path else []
        self._capture = capture
        self._shown, self._path = shown, path
        self._break: Break | None = None
        self._begin_ns = self._first.position_ns
        self._next = 0

    def read(self) -> Frame | None:
        start = time.monotonic_ns()
        picture, self._first = self._first or self._capture.read(), None
        if picture is None and (picture := self._beyond_damage()) is None:
            return None
        index, self._next = self._next, self._next + 1
        position = (
            None if picture.position_ns is None or self._begin_ns is None else picture.position_ns - self._begin_ns
        )
        took = {"capture": time.monotonic_ns() - start}
        return Frame(index, start, f"{self.name}_{index:06d}", picture.image, timings=took, position_ns=position)

    def _beyond_damage(self) -> Picture | None:
        """Return the next picture behind a part that cannot be decoded; None at the end.

        Raises BadPictureError before the first picture behind a damaged part, and, once, at the end of a file that has
        lost a part, of which nothing but its container tells.
        """
        path, self._path = self._path, None
        try:
            self._break = find_break(path) if path else self._break
        except OSError as error:
            if path and path.exists():  # or it was taken away while it was played
                raise BadPictureError(f"cannot read {self._shown} to its end: {error.strerror}") from error
        cut = self._break is not None and self._break.cut
        times = COMPLETE if self.frames and self._next >= self.frames else DAMAGED
        found = next((picture for _ in range(times) if (picture := self._capture.read())), None)
        if found and not cut:
            self._first, self._break = found, None
            raise BadPictureError(f"{self._shown} is damaged behind frame {self._next}; copy it again")
        if found or self._break is None:
            return found
        broken, self._break = self._break, None
        how = "truncated" if cut else f"damaged at byte {broken.at} of {broken.length}"
        of = f" of about {self.frames}" if self.frames and self.frames > self._next else ""
        raise BadPictureError(f"{self._shown} is {how}: it gave {self._next}{of} frames; copy it again")

    def close(self) -> None:
        self._first = self._path = None
        self._capture.close()


def open_video(path: Path) -> VideoSource:
    """Open a video file. Raises InputError when it is none."""
    # FFmpeg would draw a text file as a film of its letters
    return VideoSource(None if _is_text(path) else open_file(path), str(path), path.stem, path)


def _is_text(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(4096)
    return b"\0" not in start and bool(start)


class Looped(Source):
    """A stored source played several times; the index runs on, the names repeat."""

    def __init__(self, reopen: Callable[[], ImagesSource | VideoSource], times: int) -> None:
        """times: how often to play it; 0 for ever."""
        self._reopen, self._left, self._next = reopen, times, 0
        self._inner = reopen()
        self._closed = False
        self.name, self.fps = self._inner.name, self._inner.fps
        self.files, self.skipped = self._inner.files, self._inner.skipped
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


def open_stored(text: str, max_pixels: int = MAX_PIXELS) -> ImagesSource | VideoSource:
    """Open an image, a folder, a glob or a video file. Raises InputError."""
    path = Path(text)
    if path.is_dir():
        lost = [entry for entry in path.iterdir() if is_lost(entry) and entry.name[0] != "."]
        name, files = path.resolve().name, sorted([*files_in(path), *lost], key=natural_key)
        nothing = f"the folder {text} holds no images ({' '.join(IMAGE_ENDINGS)})"
    elif path.is_file():
        single = path.suffix.lower() in IMAGE_ENDINGS
        return ImagesSource(path.stem, [path], (), max_pixels) if single else open_video(path)
    elif path.exists():
        raise InputError(f"{text} is neither a file nor a folder; --source takes {GRAMMAR}")
    elif glob.has_magic(text):
        name, files = "images", sorted(_matches(text), key=natural_key)
        nothing = f"no image matches {text}; quote the pattern, and see that the folder is right"
    else:
        raise InputError(f"there is no file or folder {shown(text)}; --source takes {GRAMMAR}")
    images = only_images(files)
    skipped = [file for file in files if file.suffix.lower() in OTHER_PICTURES]
    if not images:
        others = f"; it reads no {', '.join(sorted({file.suffix.lower() for file in skipped}))} there: convert them, or"
        raise InputError(nothing + (f"{others} give a video by its own name" if skipped else ""))
    return ImagesSource(name, images, skipped, max_pixels)


def _matches(text: str) -> list[Path]:
    """Return the files that match a glob; behind ** each folder is entered once, however many links lead to it."""

    def expand(base: Path, parts: Sequence[str]) -> Iterator[Path]:
        if not parts:
            yield base
        elif parts[0] == "**":
            for folder in folders_below(base):
                yield from expand(folder, parts[1:] or ["*"])
        elif glob.has_magic(parts[0]):
            names = fnmatch.filter((entry.name for entry in base.iterdir()), parts[0]) if base.is_dir() else []
            for name in names:
                if not name.startswith(".") or parts[0].startswith("."):
                    yield from expand(base / name, parts[1:])
        elif (base / parts[0]).exists():
            yield from expand(base / parts[0], parts[1:])

    pattern = Path(os.path.expanduser(text))  # noqa: PTH111 (an unknown user is left as it is)
    anchor = Path(pattern.anchor or ".")
    found = dict.fromkeys(expand(anchor, pattern.relative_to(pattern.anchor).parts))
    return [path for path in found if path.is_file() or is_lost(path)]
