"""Train a pix2pix image translator in Keras, and run it live on a Jetson or any small box.

import pix2pix_edge

with pix2pix_edge.open_engine("mine.fp32.onnx") as engine:
    for frame in pix2pix_edge.translate("clip.mp4", engine):
        show(frame.translated)  # uint8 [256, 256, 3], RGB
"""

from __future__ import annotations

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import (
    EngineError,
    GateFailedError,
    InputError,
    MissingPackageError,
    ToolkitError,
)
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.stream import translate

__version__ = "0.2.0"

__all__ = [
    "EngineError",
    "Frame",
    "GateFailedError",
    "InputError",
    "MissingPackageError",
    "ToolkitError",
    "__version__",
    "open_engine",
    "translate",
]
