"""TensorFlow, loaded quietly."""

from __future__ import annotations

import os
from typing import Any

from pix2pix_edge.runtime.errors import native_stderr, require


def load_tensorflow(purpose: str) -> Any:
    """Import TensorFlow as Keras's backend, without its greeting. Raises MissingPackageError."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr():  # it greets before it reads that level
        return require("tensorflow", "train", purpose)
