"""Live sources: cameras, the test pattern, and any Python object that has read() and close()."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from runtime.errors import InputError
from runtime.frame import Frame, Image, as_image

if TYPE_CHECKING:
    import cv2

# Label colours of the CMP facades, so that a facade model has something to say about the pattern.
PATTERN_COLOURS = ((0, 0, 170), (0, 0, 255), (0, 85, 255), (0, 255, 255), (85, 255, 170), (255, 255, 0), (255, 85, 0))


class Camera(Protocol):
    """What an industrial camera's driver must offer to be a source."""

    def read(self) -> Image | None:
        """Wait for the next picture, a new array each time (see runtime.frame.as_image); None when it has ended."""
        ...

    def close(self) -> None: ...


class ObjectSource:
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
        if picture is None:
            return None
        taken = time.monotonic_ns()
        image = as_image(picture)
        index, self._next = self._next, self._next + 1
        name = f"{self.name}_{index:06d}"
        return Frame(index, taken, name, image, timings={"capture": time.monotonic_ns() - taken})

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()


class CameraSource:
    """A V4L2 camera (or what the system has instead) by index or device path, with a buffer of one frame."""

    live = True
    frames = None

    def __init__(self, spec: str) -> None:
        """spec: "0" or "/dev/video0". Raises InputError when it cannot be opened or gives no picture."""
        import cv2

        device = Path(spec if spec.startswith("/") else f"/dev/video{spec}")
        self.name = device.name if spec.startswith("/") else f"camera{spec}"
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        if sys.platform == "linux":
            _check_device(device)
        capture = cv2.VideoCapture(int(spec) if spec.isdecimal() else spec, backend)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.isOpened() or not capture.grab():
            capture.release()
            raise InputError(f"camera {spec} gives no picture; another program may hold it (see: fuser {device})")
        self._capture: cv2.VideoCapture | None = capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps: float | None = fps if 0 < fps <= 1000 else None
        self._next = 0

    def read(self) -> Frame | None:
        import cv2

        if self._capture is None:
            return None
        grabbed = self._capture.grab()
        taken = time.monotonic_ns()
        image = self._capture.retrieve()[1] if grabbed else None
        if image is None:
            raise InputError(f"{self.name} stopped giving pictures; see that it is still plugged in")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        index, self._next = self._next, self._next + 1
        name = f"{self.name}_{index:06d}"
        return Frame(index, taken, name, image, timings={"capture": time.monotonic_ns() - taken})

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()


def _check_device(device: Path) -> None:
    """Raise InputError with the reason that OpenCV would not give."""
    if not device.exists():
        there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise InputError(f"there is no camera {device} (found: {there}); without one, try --source test://640x480@30")
    if not os.access(device, os.R_OK | os.W_OK):
        raise InputError(f"no permission for {device}; run: sudo usermod -aG video $USER, then log in again")


class TestSource:
    """A moving pattern, paced by the clock: a camera for machines that have none.

    Like a camera it does not wait: a picture not fetched while it was the newest is lost, and the index jumps.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name
    live = True
    frames = None

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.name = "test"
        self.fps: float | None = fps
        self._period = 1e9 / fps
        self._width, self._height = width, height
        self._closed = threading.Event()
        self._started: int | None = None
        self._next = 0
        bars = np.array(PATTERN_COLOURS, np.uint8)[np.arange(2 * width) * len(PATTERN_COLOURS) // width % 7]
        self._strip = np.ascontiguousarray(np.broadcast_to(bars, (height, 2 * width, 3)))

    @classmethod
    def from_spec(cls, spec: str) -> TestSource:
        """Parse test://WxH@FPS; the size is 640x480 and the rate 30 unless given. Raises InputError."""
        found = re.fullmatch(r"test://(?:(\d+)x(\d+))?(?:@(\d+(?:\.\d+)?))?/?", spec)
        width, height, fps = (found[1] or 640, found[2] or 480, found[3] or 30) if found else (0, 0, 0)
        if not (1 <= int(width) <= 8192 and 1 <= int(height) <= 8192 and 0 < float(fps) <= 1000):
            raise InputError(f"{spec} is no test pattern; write test://WxH@FPS, for example test://640x480@30")
        return cls(int(width), int(height), float(fps))

    def read(self) -> Frame | None:
        now = time.monotonic_ns()
        if self._started is None:
            self._started = now
        index = max(self._next, int((now - self._started) / self._period))
        due = self._started + round(index * self._period)
        if self._closed.wait(max(0, due - now) / 1e9):
            return None
        taken = time.monotonic_ns()
        self._next = index + 1
        image = self._draw(index)
        return Frame(index, taken, f"test_{index:06d}", image, timings={"capture": time.monotonic_ns() - taken})

    def _draw(self, index: int) -> Image:
        """Colour bars that move a hundredth of the width each frame, under a square that moves the other way."""
        width, side = self._width, max(1, min(self._width, self._height) // 4)
        shift = index * max(1, width // 100) % width
        image = self._strip[:, shift : shift + width].copy()
        top, left = (self._height - side) // 2, (width - side) * (99 - index % 100) // 99
        image[top : top + side, left : left + side] = PATTERN_COLOURS[index // 100 % len(PATTERN_COLOURS)]
        return image

    def close(self) -> None:
        self._closed.set()
