"""A stand-in for `tensorrt` on a REAL GPU: one plan, whose engine inverts its picture with a small kernel.

With it TensorRTEngine runs unchanged on real streams, events, buffers and graphs where TensorRT is not installed.
The kernel is started through the driver library, on whatever stream and in whatever thread the engine asks.
"""

from __future__ import annotations

import ctypes
import enum
from types import ModuleType
from typing import Any

PLAN = b"ftrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(4)

KERNEL = b"""
.version 6.4
.target sm_75
.address_size 64
.visible .entry invert(.param .u64 source, .param .u64 target, .param .u32 count)
{
  .reg .pred %outside;
  .reg .u32 %i, %n, %t, %value;
  .reg .u64 %from, %to, %offset;
  ld.param.u64 %from, [source];
  ld.param.u64 %to, [target];
  ld.param.u32 %n, [count];
  mov.u32 %i, %ctaid.x;
  mov.u32 %t, %ntid.x;
  mov.u32 %value, %tid.x;
  mad.lo.u32 %i, %i, %t, %value;
  setp.ge.u32 %outside, %i, %n;
  @%outside bra done;
  cvt.u64.u32 %offset, %i;
  add.u64 %from, %from, %offset;
  add.u64 %to, %to, %offset;
  ld.global.u8 %value, [%from];
  xor.b32 %value, %value, 255;
  st.global.u8 [%to], %value;
done:
  ret;
}
\0"""
"""PTX, which every driver compiles for its GPU: no nvcc is needed."""


class Inverter:
    """The kernel, loaded into the context that is current."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(self._driver.cuModuleLoadData(ctypes.byref(module), KERNEL))
        self._check(self._driver.cuModuleGetFunction(ctypes.byref(self._function), module, b"invert"))

    def start(self, source: int, target: int, count: int, stream: int, times: int = 1) -> bool:
        """Start the kernel `times` times on a stream, from device address to device address; False where it fails."""
        values = ctypes.c_uint64(source), ctypes.c_uint64(target), ctypes.c_uint32(count)
        pointers = (ctypes.c_void_p * 3)(*(ctypes.addressof(value) for value in values))
        grid = (ctypes.c_uint((count + 255) // 256), *(ctypes.c_uint(1),) * 2)
        block = (ctypes.c_uint(256), *(ctypes.c_uint(1),) * 2)
        for _ in range(times):
            rest = ctypes.c_uint(0), ctypes.c_void_p(stream), pointers, None
            if self._driver.cuLaunchKernel(self._function, *grid, *block, *rest):
                return False
        return True

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise RuntimeError(f"CUDA error {status}")


def make_module(size: int, times: int = 1) -> ModuleType:
    """Return the module; its engines take uint8 [1, size, size, 3]. `times`, odd, makes computing longer."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = "10.3.0"
    trt.DataType = enum.Enum("DataType", "UINT8 FLOAT HALF")
    trt.TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")

    class ILogger:
        Severity = enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)

    class Context:
        def __init__(self) -> None:
            self._inverter = Inverter()
            self._addresses: dict[str, int] = {}

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            source, target = self._addresses["image"], self._addresses["translated"]
            return self._inverter.start(source, target, size * size * 3, stream_handle, times)

    class Engine:
        num_io_tensors = 2

        def get_tensor_name(self, index: int) -> str:
            return ("image", "translated")[index]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (1, size, size, 3)

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType.UINT8

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name == "image" else trt.TensorIOMode.OUTPUT

        def create_execution_context(self) -> Context:
            return Context()

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            pass

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine:
            return Engine()

    trt.ILogger, trt.Runtime = ILogger, Runtime
    return trt
