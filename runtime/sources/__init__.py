"""Frame sources: the grammar of --source."""

from __future__ import annotations

import re
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Source
from pix2pix_edge.runtime.images import MAX_PIXELS
from pix2pix_edge.runtime.sources.cameras import open_camera, open_csi, open_network
from pix2pix_edge.runtime.sources.objects import Camera, ObjectSource
from pix2pix_edge.runtime.sources.pattern import TestSource
from pix2pix_edge.runtime.sources.stored import GRAMMAR, Looped, open_stored


def open_source(spec: str | Path | Source | Camera, *, loop: int = 1, max_pixels: int = MAX_PIXELS) -> Source:
    """Open what --source names (see GRAMMAR), or wrap an object with read() and close(), such as a camera's driver.

    loop: how often to play a stored source, 0 for ever. max_pixels: larger image files are refused.
    Raises InputError when the source cannot be used.
    """
    if not isinstance(spec, str | Path):
        return spec if isinstance(spec, Source) else ObjectSource(spec)
    text = str(spec)
    if not text.strip():  # as from a shell variable that is not set
        raise InputError(f"--source is empty; it takes {GRAMMAR}")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    opened: Source | None = None
    if scheme == "test":
        opened = TestSource.from_spec(text)
    elif scheme == "csi":
        opened = open_csi(text)
    elif scheme in ("rtsp", "rtsps", "http", "https"):
        opened = open_network(text)
    elif re.fullmatch(r"(\d+|/dev/video\d+)(\?.*)?", text):
        opened = open_camera(text)
    elif scheme:
        raise InputError(f"--source does not know {scheme}://; it takes {GRAMMAR}")
    if opened is not None:
        if loop != 1:
            opened.close()
            raise InputError("--loop is for files; a live source goes on by itself")
        return opened
    return open_stored(text, max_pixels) if loop == 1 else Looped(lambda: open_stored(text, max_pixels), loop)
