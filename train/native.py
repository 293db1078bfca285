"""Catch what libraries write to the process's standard error behind Python's back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO


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
