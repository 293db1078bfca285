"""TensorRT's log: one logger a process, which keeps the last messages so that an error can quote them.

deserialize_cuda_engine and build_serialized_network return None on failure, and only log why.
"""

from __future__ import annotations

import collections
import functools
import logging
from typing import Any

KEPT = 50

_errors: collections.deque[str] = collections.deque(maxlen=KEPT)
_log = logging.getLogger("pix2pix-edge.tensorrt")
_log.addHandler(logging.NullHandler())  # silent unless the program asks: what matters is raised


@functools.cache
def tensorrt_logger(trt: Any) -> Any:
    """Return the process's one ILogger of a package (TensorRT keeps the first it is given).

    Warnings and errors are kept for `reasons()`; everything goes to the Python logger "pix2pix-edge.tensorrt".
    """
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.INFO,
        trt.ILogger.Severity.VERBOSE: logging.DEBUG,
    }

    class KeepingLogger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()  # pybind11 needs it before the first use

        def log(self, severity: Any, msg: str) -> None:
            if levels[severity] == logging.ERROR:
                _errors.append(" ".join(msg.split()))
            _log.log(levels[severity], msg)

    return KeepingLogger()


def forget_reasons() -> None:
    """Drop what was kept, before a call whose failure is to be explained."""
    _errors.clear()


def reasons() -> str:
    """Return the last three errors that TensorRT logged, oldest first, each once; says so when there was none."""
    unique = list(dict.fromkeys(_errors))
    return "; ".join(unique[-3:]) or "TensorRT logged no reason"
