"""Any Python object that has read() and close() as a source, such as an industrial camera's driver."""

from __future__ import annotations

import time
from typing import Protocol

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, Image, Source, as_image


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
        for method in ("read", "close"):
            if not callable(getattr(camera, method, None)):
                raise InputError(f"a {type(camera).__name__} is no source: it has no method {method}()")
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
