"""Loggers, the progress monitor, dimensions and host memory of the simulated TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fake_cuda import FakeGpu
from tests.simulator.bindings import Simulated, Tensorrt


def start_cuda(gpu: FakeGpu, logger: Any, error: Any) -> None:
    """Fail as TensorRT's factories do where CUDA does not start: they log, and return a null pointer."""
    if not (gpu.present and gpu.driver):
        logger.log(error, f"CUDA initialization failure with error: {100 if gpu.driver else 35}.")
        raise TypeError("pybind11::init(): factory function returned nullptr")


def basic_behaviours(trt: Callable[[], Tensorrt]) -> dict[str, type]:
    """Return the behaviours; `trt` gives the module, which is made of them."""

    class ILogger(Simulated):
        def log(self, severity: Any, msg: str) -> None:
            raise RuntimeError('Tried to call pure virtual function "ILogger::log"')

    class Logger(Simulated):
        values = (("min_severity", None),)

        def _start(self, min_severity: Any = None) -> None:
            self._values["min_severity"] = min_severity or trt().ILogger.WARNING  # type: ignore[attr-defined]

        def log(self, severity: Any, msg: str) -> None:
            if severity <= self.min_severity:  # type: ignore[attr-defined]
                print(f"[TRT] [{str(severity)[9:10]}] {msg}")

    class IProgressMonitor(Simulated):
        pass

    class Dims(Simulated):
        values = (("MAX_DIMS", 8),)

        def _start(self, shape: Any = ()) -> None:
            self._shape = tuple(shape)

        def __len__(self) -> int:
            return len(self._shape)

        def __getitem__(self, index: Any) -> Any:
            return self._shape[index]

    class IHostMemory(Simulated, bytes):
        @staticmethod
        def _make(cls: Any, data: bytes) -> Any:
            return bytes.__new__(cls, data)

        def _start(self, data: bytes) -> None:
            pass

        @property
        def nbytes(self) -> int:
            return bytes.__len__(self)

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_") and name not in ("nbytes", "dtype"):
                raise AttributeError(f"'IHostMemory' object has no attribute {name!r}")
            return bytes.__getattribute__(self, name)

        def __len__(self) -> int:
            raise TypeError("object of type 'IHostMemory' has no len()")

        def __getitem__(self, index: Any) -> Any:
            raise TypeError("'IHostMemory' object is not subscriptable")

    return {name: value for name, value in locals().items() if isinstance(value, type)}
