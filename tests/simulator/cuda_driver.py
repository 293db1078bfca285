"""The simulated driver: `cuda.bindings.driver` (graphs only), and what ctypes finds in libcuda.so.1."""

from __future__ import annotations

import ctypes
import enum
from types import ModuleType
from typing import Any

from tests.simulator.gpu import Gpu, Graph, SimulatorError


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class _Handle:
    def __init__(self, init_value: int = 0) -> None:
        self._value = init_value

    def __int__(self) -> int:
        return self._value


class CUstream(_Handle):
    """A stream's handle."""


class CUgraph(_Handle):
    """A graph's handle."""


class CUgraphExec(_Handle):
    """An executable graph's handle."""


def make_cuda_bindings(gpu: Gpu) -> dict[str, ModuleType]:
    """Return `cuda`, `cuda.bindings` and `cuda.bindings.driver`, whose calls return a tuple, the status first."""
    ok = CUresult.CUDA_SUCCESS

    def has_context() -> bool:
        return bool(gpu.stack) and gpu.stack[-1].valid

    def cuStreamBeginCapture(hStream: CUstream, mode: CUstreamCaptureMode) -> tuple[CUresult]:
        if not has_context():
            return (CUresult.CUDA_ERROR_INVALID_CONTEXT,)
        if not int(hStream) or not gpu.capturable:
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        gpu.stream(int(hStream)).capture = Graph()
        return (ok,)

    def cuStreamEndCapture(hStream: CUstream) -> tuple[CUresult, CUgraph | None]:
        stream = gpu.stream(int(hStream))
        graph, stream.capture = stream.capture, None
        if graph is None or graph.invalid:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
        handle = gpu.next_handle()
        gpu.graphs[handle] = graph
        return ok, CUgraph(handle)

    def cuGraphInstantiate(hGraph: CUgraph, flags: int) -> tuple[CUresult, CUgraphExec | None]:
        if int(hGraph) not in gpu.graphs:
            return CUresult.CUDA_ERROR_INVALID_HANDLE, None
        handle = gpu.next_handle()
        gpu.executables[handle] = gpu.graphs[int(hGraph)]
        return ok, CUgraphExec(handle)

    def cuGraphLaunch(hGraphExec: CUgraphExec, hStream: CUstream) -> tuple[CUresult]:
        if not has_context():
            return (CUresult.CUDA_ERROR_INVALID_CONTEXT,)
        graph = gpu.executables.get(int(hGraphExec))
        if graph is None:
            raise SimulatorError("an executable graph is launched after it was destroyed")
        for check in graph.checks:
            check()
        stream = gpu.stream(int(hStream))
        for operation in graph.operations:
            stream.enqueue(operation)
        return (ok,)

    def destroy(table: dict[int, Graph], handle: _Handle) -> tuple[CUresult]:
        if table.pop(int(handle), None) is None:
            return (CUresult.CUDA_ERROR_INVALID_HANDLE,)
        if not has_context():
            gpu.mistakes.append("a graph was destroyed in a thread without a context")
        return (ok,)

    def cuGraphDestroy(hGraph: CUgraph) -> tuple[CUresult]:
        return destroy(gpu.graphs, hGraph)

    def cuGraphExecDestroy(hGraphExec: CUgraphExec) -> tuple[CUresult]:
        return destroy(gpu.executables, hGraphExec)

    def cuGetErrorString(error: CUresult) -> tuple[CUresult, bytes]:
        return ok, error.name.removeprefix("CUDA_ERROR_").lower().replace("_", " ").encode()

    driver = ModuleType("cuda.bindings.driver", "The simulated cuda.bindings.driver")
    for value in (
        CUresult, CUstreamCaptureMode, CUstream, CUgraph, CUgraphExec, cuStreamBeginCapture, cuStreamEndCapture,
        cuGraphInstantiate, cuGraphLaunch, cuGraphDestroy, cuGraphExecDestroy, cuGetErrorString,
    ):  # fmt: skip
        setattr(driver, value.__name__, value)
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    package.__path__, bindings.__path__ = [], []
    package.bindings, bindings.driver = bindings, driver  # type: ignore[attr-defined]
    bindings.__version__ = "12.9.0"  # type: ignore[attr-defined]
    return {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.driver": driver}


class SimulatedLibcuda:
    """The part of libcuda.so.1 that answers questions about the GPU, for ctypes."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def cuInit(self, flags: int) -> int:
        return 0 if self._gpu.present else 100  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        return _give(device, ordinal)

    def cuDriverGetVersion(self, version: Any) -> int:
        return _give(version, 12060)

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self._gpu.name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, total: Any, device: Any) -> int:
        return _give(total, self._gpu.total_memory)

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        major, minor = self._gpu.compute_capability
        return _give(value, {75: major, 76: minor, 18: int(self._gpu.integrated)}[attribute])

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        return _give(context, 1)

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        _give(total, self._gpu.total_memory)
        return _give(free, self._gpu.total_memory - self._gpu.used_memory)

    def cuGetErrorString(self, error: int, text: Any) -> int:
        return _give(text, b"simulated error")


def _give(reference: Any, value: Any) -> int:
    """Write through a pointer made with ctypes.byref()."""
    reference._obj.value = value
    return 0


def load_library(gpu: Gpu, real: type[ctypes.CDLL]) -> Any:
    """Return what stands for ctypes.CDLL: libcuda is simulated, everything else is real."""

    def load(name: str | None, *args: Any, **options: Any) -> Any:
        if name is None or "libcuda.so" not in str(name):
            return real(name, *args, **options)
        if not gpu.driver:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return SimulatedLibcuda(gpu)

    return load
