"""The simulated `pycuda.driver`: only names that pycuda has, with its argument names, over a simulated Gpu."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tests.simulator.gpu import POISON, CudaError, Gpu, Mark, SimulatorError
from tests.simulator.gpu import Context as GpuContext
from tests.simulator.gpu import Stream as GpuStream


def make_pycuda(gpu: Gpu) -> dict[str, ModuleType]:
    """Return the modules `pycuda` and `pycuda.driver`."""
    driver = ModuleType("pycuda.driver", "The simulated pycuda.driver")
    initialised = False

    class Error(Exception):
        pass

    class LogicError(Error):
        pass

    class RuntimeError_(Error):
        pass

    class MemoryError_(Error):
        pass

    def reported(action: Any, *arguments: Any) -> Any:
        """Raise what the driver reports as pycuda raises it."""
        try:
            return action(*arguments)
        except CudaError as error:
            raise LogicError(str(error)) from error

    def current(what: str) -> GpuContext:
        return reported(gpu.current, what)

    def init(flags: int = 0) -> None:
        nonlocal initialised
        if not gpu.present:
            raise RuntimeError_("cuInit failed: no CUDA-capable device is detected")
        initialised = True

    class device_attribute:
        INTEGRATED = 18
        MULTIPROCESSOR_COUNT = 16
        CLOCK_RATE = 13

    class Device:
        def __init__(self, number: int) -> None:
            if not initialised:
                raise LogicError("cuDeviceGet failed: initialization error")
            if number:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        @staticmethod
        def count() -> int:
            return 1

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return gpu.compute_capability

        def total_memory(self) -> int:
            return gpu.total_memory

        def get_attribute(self, attr: int) -> int:
            return {device_attribute.INTEGRATED: int(gpu.integrated)}.get(attr, 1)

        def retain_primary_context(self) -> Context:
            if gpu.taken:
                text = "CUDA-capable device(s) is/are busy or unavailable"
                raise LogicError(f"cuDevicePrimaryCtxRetain failed: {text}")
            return Context(GpuContext(gpu))

    class Context:
        def __init__(self, context: GpuContext) -> None:
            self._context = context

        def push(self) -> None:
            if not self._context.valid:
                raise LogicError("cuCtxPushCurrent failed: invalid device context")
            gpu.stack.append(self._context)

        @staticmethod
        def pop() -> None:
            if not gpu.stack:
                raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
            gpu.stack.pop()

        def detach(self) -> None:
            if not self._context.valid:
                raise LogicError("context::detach failed: invalid device context - cannot detach from invalid context")
            if self._context.resources:
                gpu.mistakes.append(f"a context was detached while {self._context.resources} of its objects live")
            self._context.valid = False

        @staticmethod
        def synchronize() -> None:
            current("cuCtxSynchronize")
            reported(gpu.synchronize)

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            self._stream = GpuStream(gpu, current("explicit_context_dependent"))
            self._stream.context.resources += 1
            gpu.streams[self._stream.handle] = self._stream

        def __del__(self) -> None:
            stream = getattr(self, "_stream", None)
            if stream is None or not gpu.release(stream.context, "a stream"):
                return
            if stream.pending:
                gpu.mistakes.append("a stream was destroyed with work that nobody waited for")
            del gpu.streams[stream.handle]

        @property
        def handle(self) -> int:
            return self._stream.handle

        def synchronize(self) -> None:
            current("cuStreamSynchronize")
            reported(self._stream.synchronize)

        def is_done(self) -> bool:
            current("cuStreamQuery")
            return not self._stream.pending

        def wait_for_event(self, evt: Event) -> None:
            current("cuStreamWaitEvent")
            mark = evt._mark  # the last record before this call counts
            if mark is not None:
                self._stream.enqueue(lambda: mark.stream.run(mark.position))

    class event_flags:
        DEFAULT = 0
        BLOCKING_SYNC = 1
        DISABLE_TIMING = 2
        INTERPROCESS = 4

    class Event:
        def __init__(self, flags: int = 0) -> None:
            self._context = current("explicit_context_dependent")
            self._context.resources += 1
            self._mark: Mark | None = None
            self._timed = not flags & event_flags.DISABLE_TIMING

        def __del__(self) -> None:
            if hasattr(self, "_context"):
                gpu.release(self._context, "an event")

        def record(self, stream: Stream | None = None) -> Event:
            current("cuEventRecord")
            if stream is None:
                raise SimulatorError("an event was recorded on the default stream, which waits for all others")
            self._mark = gpu.mark(stream._stream)
            return self

        def synchronize(self) -> Event:
            current("cuEventSynchronize")
            if self._mark is not None:
                reported(self._mark.stream.forbid_in_capture, "cuEventSynchronize")
                reported(self._mark.stream.run, self._mark.position)
            return self

        def query(self) -> bool:
            current("cuEventQuery")
            return self._mark is None or self._mark.reached_at > 0

        def time_since(self, start: Event) -> float:
            return start.time_till(self)

        def time_till(self, end: Event) -> float:
            current("cuEventElapsedTime")
            if not (self._timed and end._timed and self._mark and end._mark):
                raise LogicError("cuEventElapsedTime failed: invalid resource handle")
            if not (self._mark.reached_at and end._mark.reached_at):
                raise LogicError("cuEventElapsedTime failed: device not ready")
            return (end._mark.reached_at - self._mark.reached_at) / 1e6

    def allocate(nbytes: int, what: str, **kind: bool) -> Any:
        context = current("explicit_context_dependent")
        for stream in gpu.streams.values():
            reported(stream.forbid_in_capture, what)
        try:
            return gpu.allocate(nbytes, context, **kind)
        except MemoryError as error:
            raise MemoryError_(f"{what} failed: out of memory") from error

    class Allocation:
        def __init__(self, nbytes: int, what: str, **kind: bool) -> None:
            self._block = allocate(nbytes, what, **kind)
            self._data = self._block.data  # so that an array used after free() reads poison, and not someone's memory

        def free(self) -> None:
            if self._block is None:
                raise LogicError("free failed: invalid resource handle")
            if gpu.release(self._block.context, "memory"):
                gpu.free(self._block)
            self._block = None

        def __del__(self) -> None:
            if getattr(self, "_block", None) is not None:
                self.free()

    class DeviceAllocation(Allocation):
        def __int__(self) -> int:
            if self._block is None:
                raise SimulatorError("the address of memory that was freed is used")
            return self._block.address

        __index__ = __int__

    class PagelockedHostAllocation(Allocation):
        def get_device_pointer(self) -> int:
            if self._block is None or not self._block.device:
                raise LogicError("cuMemHostGetDevicePointer failed: invalid argument")
            return self._block.address

    class host_alloc_flags:
        PORTABLE = 1
        DEVICEMAP = 2
        WRITECOMBINED = 4

    def mem_alloc(bytes: int) -> DeviceAllocation:
        return DeviceAllocation(bytes, "cuMemAlloc", host=False, device=True)

    def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        dims = (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(dims)) * dtype.itemsize
        mapped = bool(mem_flags & host_alloc_flags.DEVICEMAP)
        owner = PagelockedHostAllocation(nbytes, "cuMemHostAlloc", host=True, device=mapped)
        owner.__array_interface__ = {
            "shape": dims, "typestr": dtype.str, "data": (owner._block.address, False), "version": 3,
        }  # fmt: skip
        return np.asarray(owner)  # its base is the allocation, as in pycuda

    def mem_get_info() -> tuple[int, int]:
        current("cuMemGetInfo")
        return gpu.total_memory - gpu.used_memory, gpu.total_memory

    def host_bytes(array: np.ndarray, what: str) -> np.ndarray:
        if not array.flags.c_contiguous:
            raise ValueError("ndarray is not contiguous")
        if not gpu.pinned(array.ctypes.data, array.nbytes):
            raise SimulatorError(f"{what} of pageable memory: it is not asynchronous, use pagelocked_empty")
        return array.reshape(-1).view(np.uint8)

    def memcpy_htod_async(dest: Any, src: np.ndarray, stream: Stream | None = None) -> None:
        current("cuMemcpyHtoDAsync")
        queue, source, address = target_stream(stream), host_bytes(src, "an asynchronous copy"), int(dest)
        gpu.device_bytes(address, len(source), "memcpy_htod_async")

        def copy() -> None:
            still_pinned(source, "memcpy_htod_async")
            gpu.device_bytes(address, len(source), "memcpy_htod_async")[:] = source

        queue.enqueue(copy)

    def memcpy_dtoh_async(dest: np.ndarray, src: Any, stream: Stream | None = None) -> None:
        current("cuMemcpyDtoHAsync")
        queue, target, address = target_stream(stream), host_bytes(dest, "an asynchronous copy"), int(src)
        gpu.device_bytes(address, len(target), "memcpy_dtoh_async")
        target[:] = POISON  # until the copy has run, nobody may rely on what is there

        def copy() -> None:
            still_pinned(target, "memcpy_dtoh_async")
            target[:] = gpu.device_bytes(address, len(target), "memcpy_dtoh_async")

        queue.enqueue(copy)

    def still_pinned(array: np.ndarray, what: str) -> None:
        if not gpu.pinned(array.ctypes.data, array.nbytes):
            raise SimulatorError(f"{what} runs after its page-locked memory was freed")

    def target_stream(stream: Stream | None) -> GpuStream:
        if stream is None:
            raise SimulatorError("a copy was queued on the default stream, which waits for all others")
        return stream._stream

    for name, value in {
        "Error": Error, "LogicError": LogicError, "RuntimeError": RuntimeError_, "MemoryError": MemoryError_,
        "init": init, "Device": Device, "device_attribute": device_attribute, "Context": Context, "Stream": Stream,
        "Event": Event, "event_flags": event_flags, "DeviceAllocation": DeviceAllocation,
        "PagelockedHostAllocation": PagelockedHostAllocation, "HostAllocation": PagelockedHostAllocation,
        "host_alloc_flags": host_alloc_flags, "mem_alloc": mem_alloc, "pagelocked_empty": pagelocked_empty,
        "mem_get_info": mem_get_info, "memcpy_htod_async": memcpy_htod_async, "memcpy_dtoh_async": memcpy_dtoh_async,
        "get_version": lambda: (12, 6, 0), "get_driver_version": lambda: 12060,
    }.items():  # fmt: skip
        setattr(driver, name, value)
    for cls, name in ((RuntimeError_, "RuntimeError"), (MemoryError_, "MemoryError")):
        cls.__name__ = cls.__qualname__ = name
    package = ModuleType("pycuda", "The simulated pycuda")
    package.__path__ = []
    package.driver = driver  # type: ignore[attr-defined]
    package.VERSION = (2025, 1)  # type: ignore[attr-defined]
    return {"pycuda": package, "pycuda.driver": driver}
