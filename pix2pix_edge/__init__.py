"""Train a pix2pix image translator in Keras, and run it live on a Jetson or any small computer.

import pix2pix_edge

with pix2pix_edge.open_engine("mine.fp32.onnx") as engine:
    for frame in pix2pix_edge.translate("clip.mp4", engine):
        show(frame.translated)  # uint8 [256, 256, 3], RGB
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {"open_engine": "engine", "Frame": "frame", "translate": "stream"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: every command passes here, and --help must load no numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.runtime.{_HOMES.get(name, 'errors')}"), name)
