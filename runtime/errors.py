"""The one family of errors, and the one place where a command turns an error into an exit status.

A message says what happened, why, and the exact command or setting that mends it, on one line.

Exit status of every command: 0 done, 1 a gate failed (fidelity, regression), 2 bad input or environment, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


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


def warn(message: str) -> None:
    """Print one line on standard error."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
