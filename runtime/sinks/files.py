"""Sinks that keep pictures: a folder, one image; and the one that keeps nothing."""

from __future__ import annotations

import os
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, view
from pix2pix_edge.runtime.images import write_image


class NullSink:
    """Takes frames and does nothing: to measure the rest."""

    name = "null"

    def write(self, frame: Frame) -> None:
        return

    def close(self) -> None:
        return


class FolderSink:
    """A folder with one PNG per frame, named by frame.source; files of the same name are replaced."""

    def __init__(self, folder: str | Path, mode: str = "output") -> None:
        """Make the folder. Raises InputError when it cannot be written."""
        self.folder = Path(folder)
        self.name = f"{self.folder.name}/"
        self._mode = mode
        _make_writable(self.folder)

    def write(self, frame: Frame) -> None:
        write_image(self.folder / f"{frame.source}.png", view(frame, self._mode, raw=True))

    def close(self) -> None:
        return


class ImageSink:
    """One image file; each frame replaces it, so that it always shows the newest."""

    newest = True

    def __init__(self, path: str | Path, mode: str = "output") -> None:
        """Make the folder it is in. Raises InputError when that cannot be written."""
        self.path = Path(path)
        self.name = self.path.name
        self._mode = mode
        _make_writable(self.path.parent)

    def write(self, frame: Frame) -> None:
        write_image(self.path, view(frame, self._mode, raw=True))

    def close(self) -> None:
        return


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --sink") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write in {folder}: Permission denied; choose another --sink")
