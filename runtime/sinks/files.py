"""Sinks that keep pictures: a folder, one image; and those that keep nothing: null, and a bar on the terminal."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.files import BESIDE, leftovers
from pix2pix_edge.runtime.frame import Frame, Sink, view
from pix2pix_edge.runtime.images import write_image

KEEPS = (".webm", ".mkv", ".mp4", ".mov", ".avi")
"""Videos that need no index at their end, and play as far as they were written."""


class NullSink(Sink):
    """Takes frames and does nothing: to measure the rest."""

    name = "null"

    def write(self, frame: Frame) -> None:
        return

    def close(self) -> None:
        return


class ProgressBar(Sink):
    """Counts frames on standard error; a terminal that has gone away is no reason to end."""

    name = "progress"

    def __init__(self, frames: int | None) -> None:
        """frames: how many will come, None where nobody knows."""
        from tqdm import tqdm

        self._bar = tqdm(total=frames, unit="frame", dynamic_ncols=True)

    def write(self, frame: Frame) -> None:
        with contextlib.suppress(OSError):
            self._bar.update()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._bar.close()


class FolderSink(Sink):
    """A folder with one PNG per frame, named by frame.source; files of the same name are replaced."""

    def __init__(self, folder: str | Path, mode: str = "output") -> None:
        """Make the folder. Raises InputError when it cannot be written."""
        self.folder = self.writes = Path(folder)
        self.name = f"{self.folder.name}/"
        self._mode = mode
        make_writable(self.folder)

    def write(self, frame: Frame) -> None:
        write_image(self.folder / f"{frame.source}.png", view(frame, self._mode, raw=True))

    def close(self) -> None:
        return


class ImageSink(Sink):
    """One image file; each frame replaces it, so that it always shows the newest."""

    newest = True

    def __init__(self, path: str | Path, mode: str = "output") -> None:
        """Make the folder it is in. Raises InputError when that cannot be written."""
        self.path = self.writes = Path(path)
        self.name = self.path.name
        self._mode = mode
        make_writable(self.path.parent)

    def write(self, frame: Frame) -> None:
        write_image(self.path, view(frame, self._mode, raw=True))

    def close(self) -> None:
        return


def make_writable(folder: Path) -> None:
    """Make a folder and take away what killed processes left in it; a video that can be played is kept.

    Raises InputError when it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --sink") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write in {folder}: Permission denied; choose another --sink")
    for path in leftovers(folder):
        with contextlib.suppress(OSError):
            # its name is BESIDE, eight letters of chance, the name it was to get
            name = path.name[len(BESIDE) + 8 :]
            if path.suffix.lower() in KEEPS and path.stat().st_size:
                kept = path.with_name(f"recovered-{time.strftime('%Y%m%d-%H%M%S')}-{name}")
                path.rename(kept)
                warn(f"{name} was not finished when its process was killed; what there is of it is {kept}")
            else:
                path.unlink()
