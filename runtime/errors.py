"""The one family of errors, and how messages reach a terminal.

A message says what happened, why, and the exact command or setting that mends it, on one line.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO


class ToolkitError(Exception):
    """Anything that pix2pix-edge can explain to its user; the message is one complete sentence or two."""

    exit_code = 2


class InputError(ToolkitError):
    """A file, folder, option or picture that the user gave cannot be used."""


class MissingPackageError(ToolkitError):
    """An optional package is not installed; the message holds the command that installs it."""


class EngineError(ToolkitError):
    """An engine cannot be opened, or failed while running."""


class GateFailedError(ToolkitError):
    """A measured quality is below the limit that was asked for."""

    exit_code = 1


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say which extra of this distribution brings it ("" for the distribution itself).

    Raises MissingPackageError when the package is not installed or is broken.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({error})"
        package = module.partition(".")[0]
        distribution = f"'pix2pix-edge[{extra}]'" if extra else package
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which {reason}; run: pip install {distribution}"
        ) from error


INSTALLED = not (Path(__file__).resolve().parents[1] / "pyproject.toml").exists()
"""Whether this is a wheel's copy: there `python -m export` and `runtime/run.py` do not exist."""

INSTALLED_AS = (
    (r"python -m export\b", "pix2pix-edge"),
    (r"python -m benchmarks\b", "pix2pix-edge bench"),
    (r"python -m train\.", "python -m pix2pix_edge.train."),
    (r"python -m train\b", "pix2pix-edge train"),
    (r"runtime/run\.py doctor\b", "pix2pix-edge doctor"),
    (r"runtime/run\.py", "pix2pix-edge run"),
    (r"runtime/draw\.py", "pix2pix-edge draw"),
)
"""A checkout's command -> the same one of the installed package."""


def as_typed(text: str, *, installed: bool = INSTALLED) -> str:
    """Return a text with the commands in it as this installation takes them."""
    for pattern, command in INSTALLED_AS if installed else ():
        text = re.sub(pattern, command, text)
    return text


def printable(text: str) -> str:
    """Return a message on one line, with what a terminal would obey or cannot show as an escape, such as \\x1b."""
    line = re.sub(r"\s*[^\S ]\s*", " ", text.strip())  # a line's end is one space; a name may have two
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


@contextlib.contextmanager
def native_stderr() -> Iterator[IO[bytes]]:
    """Send what native code writes to standard error, whatever the settings, to a temporary file, and yield that."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield caught
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def warn(message: str) -> None:
    """Print one line on standard error."""
    print(printable(as_typed(f"warning: {message}")), file=sys.stderr, flush=True)


def _patience() -> float:
    text = os.environ.get("PIX2PIX_EDGE_PATIENCE", "1")
    with contextlib.suppress(ValueError):
        if 1 <= (times := float(text)) <= 1000:
            return times
    warn(f"PIX2PIX_EDGE_PATIENCE={text} is no number from 1 to 1000, and counts as 1; run: unset PIX2PIX_EDGE_PATIENCE")
    return 1.0


PATIENCE = _patience()
"""How many times as long we wait for a camera, a server, a viewer, a thread; for slow machines and networks."""
