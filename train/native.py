"""Catch what libraries write to the process's standard error behind Python's back, and load TensorFlow quietly."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from pix2pix_edge.runtime.errors import require


@contextlib.contextmanager
def native_stderr() -> Iterator[IO[bytes]]:
    """Send standard error to a temporary file, which is yielded, until the block ends."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield caught
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def load_tensorflow(purpose: str) -> Any:
    """Import TensorFlow as Keras's backend, without its greeting. Raises MissingPackageError."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr():  # it greets before it reads that level
        return require("tensorflow", "train", purpose)
