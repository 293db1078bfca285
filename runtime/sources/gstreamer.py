"""GStreamer pipelines: the camera connector of a Jetson, and its hardware decoder for network cameras."""

from __future__ import annotations

import functools

from pix2pix_edge.runtime.addresses import Wanted
from pix2pix_edge.runtime.errors import InputError

CSI_SIZE, CSI_FPS = (1280, 720), 30.0
"""What a CSI camera is asked for unless the address says otherwise: a mode that every sensor has."""

TO_OPENCV = (
    "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
)
"""nvvidconv gives no BGR; the appsink keeps the newest frame only."""


def csi_pipeline(sensor: int, wanted: Wanted) -> str:
    """Return the pipeline of CSI camera `sensor`; nvvidconv flips it."""
    width, height = wanted.size or CSI_SIZE
    fps = wanted.fps or CSI_FPS
    rate = f"{round(fps * 1000)}/1000" if fps % 1 else f"{round(fps)}/1"
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate},format=NV12 ! "
        f"nvvidconv flip-method={wanted.flip or 0} ! {TO_OPENCV}"
    )


def network_pipeline(url: str) -> str:
    """Return the pipeline of an rtsp:// camera on a Jetson, with its hardware decoder; late packets go."""
    location = url.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'rtspsrc location="{location}" protocols=tcp latency=100 drop-on-latency=true tcp-timeout=5000000 ! '
        f"application/x-rtp,media=video ! decodebin ! nvvidconv ! {TO_OPENCV}"
    )


@functools.cache
def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer."""
    import cv2

    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def require_gstreamer(what: str) -> None:
    """Raise InputError, with what to install, unless this OpenCV can open pipelines."""
    if not has_gstreamer():
        raise InputError(
            f"{what} needs an OpenCV built with GStreamer, and the one installed by pip is not; on a Jetson run: pip"
            " uninstall opencv-python; sudo apt install python3-opencv gstreamer1.0-plugins-good; and make the virtual"
            " environment with --system-site-packages"
        )
