"""Frame sources: the grammar of --source, and any object with read() and close(), such as a camera's driver."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Protocol

from pix2pix_edge.runtime.addresses import shown
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, Image, Source, as_image, check_methods
from pix2pix_edge.runtime.images import MAX_PIXELS
from pix2pix_edge.runtime.sources.cameras import open_camera, open_csi
from pix2pix_edge.runtime.sources.network import open_network
from pix2pix_edge.runtime.sources.pattern import TestSource
from pix2pix_edge.runtime.sources.stored import GRAMMAR, Looped, open_stored


class Camera(Protocol):
    """What an industrial camera's driver must offer to be a source."""

    def read(self) -> Image | Frame | None:
        """Wait for the next picture, a new array each time (see runtime.frame.as_image); None when it has ended.

        A Frame is taken as it is: its index and its times are the camera's own.
        """
        ...

    def close(self) -> None: ...


class ObjectSource(Source):
    """A Camera as a live source; its attributes name, live, frames and fps are taken over where it has them."""

    def __init__(self, camera: Camera) -> None:
        check_methods(camera, "source", "read", "close")
        self._camera: Camera | None = camera
        self._next = 0
        self.name: str = getattr(camera, "name", "camera")
        self.live: bool = getattr(camera, "live", True)
        self.frames: int | None = getattr(camera, "frames", None)
        self.fps: float | None = getattr(camera, "fps", None)

    def read(self) -> Frame | None:
        camera = self._camera
        picture = camera.read() if camera else None
        if picture is None or isinstance(picture, Frame):
            return picture
        taken = time.monotonic_ns()
        image = as_image(picture)
        index, self._next = self._next, self._next + 1
        name = f"{self.name}_{index:06d}"
        return Frame(index, taken, name, image, timings={"capture": time.monotonic_ns() - taken})

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()


def open_source(spec: str | Path | Source | Camera, *, loop: int = 1, max_pixels: int | None = None) -> Source:
    """Open what --source names (see GRAMMAR), or wrap an object with read() and close(), such as a camera's driver.

    loop: how often to play a stored source, 0 for ever. max_pixels: larger image files are refused (images.MAX_PIXELS).
    Raises InputError when the source cannot be used.
    """
    if not isinstance(spec, str | Path):
        return spec if isinstance(spec, Source) else ObjectSource(spec)
    text, max_pixels = str(spec), max_pixels or MAX_PIXELS
    if "\0" in text:
        raise InputError("--source has a byte 0 in it, which no name can have")
    if not text.strip():  # as from a shell variable that is not set
        raise InputError(f"--source is empty; it takes {GRAMMAR}")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    opened: Source | None = None
    if scheme == "test":
        opened = TestSource.from_spec(text)
    elif scheme == "csi":
        opened = open_csi(text)
    elif scheme in ("rtsp", "rtsps", "http", "https"):
        opened = open_network(text, max_pixels)
    elif re.fullmatch(r"(\d+|/dev/video\d+)(\?.*)?", text):
        opened = open_camera(text)
    elif scheme:
        raise InputError(f"--source does not know {scheme}://; it takes {GRAMMAR}")
    elif found := re.match(r"(rtsps?|https?):/?(?!/)", text, re.IGNORECASE):
        raise InputError(f"{shown(text)} is no address; write {found[1].lower()}://HOST/PATH, with two slashes")
    elif re.match(r"[^/@\s]+:[^@]*@[\w.-]+(:\d+)?(/|$)", text) and not os.path.lexists(text):
        raise InputError(f"{shown(text)} is no address; write rtsp:// or http:// before it")
    if opened is not None:
        if loop != 1:
            opened.close()
            raise InputError("--loop is for files; a live source goes on by itself")
        return opened
    return open_stored(text, max_pixels) if loop == 1 else Looped(lambda: open_stored(text, max_pixels), loop)
