"""Cameras of this machine: local ones, and those at the CSI connector of a Jetson."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from pix2pix_edge.runtime.addresses import Wanted, split_options
from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.sources.capture import Capture, open_pipeline, silent_opencv
from pix2pix_edge.runtime.sources.gstreamer import csi_pipeline, require_gstreamer
from pix2pix_edge.runtime.sources.live import LiveSource


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
