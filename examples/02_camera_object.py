"""Take frames from a camera's own driver: any object with read() and close() is a source.

python examples/02_camera_object.py
"""

from pathlib import Path

import numpy as np

import pix2pix_edge

BUNDLED = Path(pix2pix_edge.__file__).parent


class Camera:
    """Stands for a driver: gives three pictures, uint8 [H, W, 3] in RGB, then ends."""

    name = "camera"
    live = False  # a real one is live: then the newest picture is taken, and others are dropped

    def __init__(self) -> None:
        self.left = 3

    def read(self) -> "np.ndarray | None":
        self.left -= 1
        return np.full((480, 640, 3), 80 * self.left, np.uint8) if self.left >= 0 else None

    def close(self) -> None:
        print("closed")


with pix2pix_edge.open_engine(BUNDLED / "models" / "facades.int8.cpu.onnx") as engine:
    for frame in pix2pix_edge.translate(Camera(), engine, fit="crop"):
        print(frame.source, frame.translated.shape)
