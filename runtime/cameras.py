"""Live sources: cameras, the test pattern, and any Python object that has read() and close()."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime.addresses import Wanted, host_of, redacted, split_options
from runtime.capabilities import probe
from runtime.capture import TIMEOUT_MS, Capture, open_address, open_pipeline, silent_opencv
from runtime.errors import InputError
from runtime.frame import Frame, Image, as_image
from runtime.live import LiveSource
from runtime.messages import warn
from runtime.pipelines import csi_pipeline, has_gstreamer, network_pipeline, require_gstreamer
from runtime.sources import Source, VideoSource

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


def open_camera(spec: str) -> LiveSource:
    """Open a V4L2 camera (or what the system has instead): `0` or `/dev/video0`, with ?size=… and &format=….

    Raises InputError when it cannot be opened or gives no picture.
    """
    address, wanted = split_options(spec, ("size", "format"))
    device = Path(address if address.startswith("/") else f"/dev/video{address}")
    name = device.name if address.startswith("/") else f"camera{address}"
    return LiveSource(name, f"camera {address}", lambda: _open_device(address, device, wanted))


def _open_device(address: str, device: Path, wanted: Wanted) -> Capture:
    import cv2

    if sys.platform == "linux":
        _check_device(device)
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    with silent_opencv():
        video = cv2.VideoCapture(int(address) if address.isdecimal() else address, backend)
    video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if wanted.format:  # first: a camera offers its sizes and rates by format
        video.set(cv2.CAP_PROP_FOURCC, int.from_bytes(wanted.format.encode(), "little"))
    if wanted.size:
        video.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
    if wanted.fps:
        video.set(cv2.CAP_PROP_FPS, wanted.fps)
    if not video.isOpened() or not video.grab():
        video.release()
        raise InputError(f"camera {address} gives no picture; another program may hold it (see: fuser {device})")
    capture = Capture(video)
    if problem := unmet(wanted, capture.size, capture.fps):
        warn(f"camera {address} gives {problem}; see what it can: v4l2-ctl --list-formats-ext")
    return capture


def unmet(wanted: Wanted, size: tuple[int, int], fps: float | None) -> str:
    """Return what a camera gives instead of what is wanted, or ""."""
    if wanted.size and wanted.size != size:
        return f"{size[0]}x{size[1]}, not {wanted.size[0]}x{wanted.size[1]}"
    if wanted.fps and fps and abs(wanted.fps - fps) > 1:
        return f"{fps:g} frames per second, not {wanted.fps:g}"
    return ""


def _check_device(device: Path) -> None:
    """Raise InputError with the reason that OpenCV would not give."""
    if not device.exists():
        there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise InputError(f"there is no camera {device} (found: {there}); without one, try --source test://640x480@30")
    if not os.access(device, os.R_OK | os.W_OK):
        raise InputError(f"no permission for {device}; run: sudo usermod -aG video $USER, then log in again")


def open_csi(spec: str) -> LiveSource:
    """Open a camera at a Jetson's CSI connector: csi://N, with ?size=… and &flip=…. Raises InputError."""
    address, wanted = split_options(spec, ("size", "flip"))
    if not re.fullmatch(r"csi://\d+", address):
        raise InputError(f"{spec} is no camera; write csi://N, for example csi://0?size=1280x720@30&flip=2")
    require_gstreamer("csi://")
    sensor = int(address[6:])

    def attempt() -> Capture:
        capture = open_pipeline(csi_pipeline(sensor, wanted))
        if capture is None:
            raise InputError(
                f"{address} gives no picture; see that the cable sits, that size and rate are among the sensor's modes,"
                " and try: sudo systemctl restart nvargus-daemon"
            )
        return capture

    return LiveSource(f"csi{sensor}", address, attempt)


def open_network(url: str) -> Source:
    """Open an rtsp:// or http:// address: live, unless it is a video file on a server. Raises InputError."""
    shown, name = redacted(url), host_of(url)

    def attempt() -> Capture:
        if probe().jetson_model and has_gstreamer() and (capture := open_pipeline(network_pipeline(url))):
            if capture.read():  # a pipeline may start, and then find no decoder for what comes
                return capture
            capture.close()
        capture = open_address(url)
        if capture is None:
            raise InputError(
                f"{shown} gives no video, waited for {TIMEOUT_MS // 1000} s at most; check address, user and password,"
                " for example in VLC, and that the camera allows one more viewer"
            )
        return capture

    first: list[Capture] = [attempt()]
    if first[0].frames:  # what keeps a live picture fresh would cost a file its first frames
        first[0].close()
        return VideoSource(open_address(url, live=False), shown, name)
    return LiveSource(name, shown, lambda: first.pop() if first else attempt())


class TestSource:
    """A moving pattern, paced by the clock: a camera for machines that have none.

    Like a camera it does not wait: a picture not fetched while it was the newest is lost, and the index jumps. It is
    drawn before its moment, so that its age counts from there and holds nothing of the drawing.
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
        index = 0 if self._started is None else max(self._next, int((now - self._started) / self._period))
        image = self.picture(index)
        drawn = time.monotonic_ns()
        if self._started is None:
            self._started = drawn
        due = self._started + round(index * self._period)
        if self._closed.wait(max(0, due - drawn) / 1e9):
            return None
        self._next = index + 1
        return Frame(index, time.monotonic_ns(), f"test_{index:06d}", image, timings={"capture": drawn - now})

    def picture(self, index: int) -> Image:
        """Draw one: colour bars that move a hundredth of the width a frame, under a square that moves the other way."""
        width, side = self._width, max(1, min(self._width, self._height) // 4)
        shift = index * max(1, width // 100) % width
        image = self._strip[:, shift : shift + width].copy()
        top, left = (self._height - side) // 2, (width - side) * (99 - index % 100) // 99
        image[top : top + side, left : left + side] = PATTERN_COLOURS[index // 100 % len(PATTERN_COLOURS)]
        return image

    def close(self) -> None:
        self._closed.set()
