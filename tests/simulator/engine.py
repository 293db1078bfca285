"""The run side of the simulated TensorRT: runtime, engine, execution context, inspector. ONNX Runtime computes."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from tests.fake_cuda import ILLEGAL_ADDRESS, FakeGpu, SimulatorError
from tests.simulator.bindings import Simulated, Tensorrt
from tests.simulator.inspector import engine_information
from tests.simulator.plan import NotAPlanError, Plan, Tensor

SCRATCH = 1 << 20
"""Bytes of GPU memory that an execution context takes."""
_SIZES = {"FLOAT": 4, "UINT8": 1, "INT8": 1, "HALF": 2, "INT32": 4, "INT64": 8, "BOOL": 1}
_NUMPY = {"FLOAT": np.float32, "UINT8": np.uint8, "INT8": np.int8, "HALF": np.float16, "INT32": np.int32}


_RUNS: dict[int, Callable[[], None]] = {}
"""What host functions on the streams call, by the number that the driver hands them."""
_NUMBERS = itertools.count(1)


def run_behaviours(trt: Callable[[], Tensorrt], version: list[int], gpu: FakeGpu) -> dict[str, type]:
    """Return the behaviours of the run side; `trt` gives the module, which is made of them."""

    class Runtime(Simulated):
        def _start(self, logger: Any) -> None:
            self._logger = logger  # without a driver the real one logs, and dies of the first plan

        @property
        def logger(self) -> Any:
            return self._logger

        def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
            error = trt().ILogger.ERROR
            try:
                plan = Plan.from_bytes(bytes(serialized_engine), version, gpu.compute_capability)
                block = gpu.reserve(len(plan.onnx))
            except NotAPlanError as problem:
                self._logger.log(error, f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({problem})")
                return None
            except MemoryError:
                self._logger.log(error, "[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)")
                return None
            return trt().new("ICudaEngine", self, plan, block)

    class ICudaEngine(Simulated):
        def _start(self, runtime: Any, plan: Plan, block: Any) -> None:
            self._runtime, self._plan, self._block = runtime, plan, block
            self._tensors = {t.name: t for t in (*plan.inputs, *plan.outputs)}
            self._session = _session(hashlib.sha256(plan.onnx).digest(), _Bytes(plan.onnx))

        def __del__(self) -> None:
            if hasattr(self, "_block"):
                gpu.free(self._block)

        def _tensor(self, name: str) -> Tensor:
            if name not in self._tensors:
                raise SimulatorError(f"the engine has no tensor {name!r}: TensorRT returns rubbish for it")
            return self._tensors[name]

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> Any:
            modes = trt().TensorIOMode
            return modes.INPUT if self._tensor(name) in self._plan.inputs else modes.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return getattr(trt().DataType, self._tensor(name).dtype)

        def get_tensor_shape(self, name: str) -> Any:
            return trt().Dims(list(self._tensor(name).shape))

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
            tensor = self._tensor(name)
            return [trt().Dims(list(shape)) for shape in tensor.profile or [tensor.shape] * 3]

        def create_execution_context(self) -> Any:
            _current(gpu, "create_execution_context")
            try:
                block = gpu.reserve(SCRATCH)
            except MemoryError:
                text = "[defaultAllocator.cpp::allocate] Error Code 1: Cuda Runtime (out of memory)"
                self._runtime._logger.log(trt().ILogger.ERROR, text)
                return None
            return trt().new("IExecutionContext", self, block)

        def create_engine_inspector(self) -> Any:
            return trt().new("EngineInspector", self)

        def serialize(self) -> Any:
            return trt().new("IHostMemory", self._plan.to_bytes())

    class IExecutionContext(Simulated):
        def _start(self, engine: Any, block: Any) -> None:
            self._engine, self._block = engine, block
            self._shapes = {t.name: list(t.shape) for t in engine._plan.inputs}
            self._addresses: dict[str, int] = {}
            self._changes = 0  # how often a shape or an address was set
            self._prepared = -1  # the changes when it last ran outside of a capture
            self._scratch = 0
            self._captured: list[int] = []

        def __del__(self) -> None:
            if not hasattr(self, "_block"):
                return
            if not gpu.has_context():
                gpu.note("an execution context was destroyed in a thread without a CUDA context")
            if any(not gpu.cuda.fake_on_device(address, 1) for address in self._addresses.values()):
                gpu.note("a buffer was freed before the execution context that uses it")
            if any(gpu.cuda.fake_graph_calls(number) for number in self._captured):
                gpu.note("an execution context was destroyed before the graph that was captured from it")
            gpu.free(self._block)
            gpu.free(self._scratch)

        def set_input_shape(self, name: str, shape: Any) -> bool:
            tensor, new = self._engine._tensor(name), list(shape)
            low, _, high = tensor.profile or [tensor.shape] * 3
            if len(new) != len(low) or any(not a <= n <= b for a, n, b in zip(low, new, high, strict=True)):
                return self._fail(f"setInputShape: the shape {new} of {name} is outside of the profile {low}..{high}")
            self._changes += new != self._shapes[name]
            self._shapes[name] = new
            return True

        def _shape(self, name: str) -> list[int]:
            batch = next(iter(self._shapes.values()))[0]
            shape = self._shapes.get(name) or list(self._engine._tensor(name).shape)
            return [batch if n == -1 else n for n in shape]

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._engine._tensor(name)
            gpu.device_bytes(memory, 1, "set_tensor_address")
            self._changes += self._addresses.get(name) != memory
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            _current(gpu, "execute_async_v3")
            missing = [name for name in self._engine._tensors if name not in self._addresses]
            if free := [name for name, shape in self._shapes.items() if -1 in shape]:
                return self._refuse(f"3: API Usage Error (Input tensor {free[0]} has no shape set.)")
            if missing:
                return self._refuse(f"3: API Usage Error (Neither address or allocator is set for {missing[0]}.)")
            addresses = {n: (a, _nbytes(self._engine._tensor(n), self._shape(n))) for n, a in self._addresses.items()}
            for name, (address, nbytes) in addresses.items():
                gpu.device_bytes(address, nbytes, f"execute_async_v3, tensor {name},")
            try:
                if self._prepared != self._changes:  # the first time, it reserves memory, which spoils a capture
                    gpu.free(self._scratch)
                    self._scratch = 0
                    self._scratch = gpu.reserve(256)
                    self._prepared = self._changes
            except MemoryError as error:
                return self._refuse(f"1: Cuda Runtime ({error})")
            stream, capturing, number = ctypes.c_void_p(stream_handle), ctypes.c_int(), next(_NUMBERS)
            gpu.cuda.cuStreamIsCapturing(stream, ctypes.byref(capturing))
            this, changes = weakref.ref(self), self._changes

            def compute() -> None:
                context = this()
                if context is None:
                    raise SimulatorError("work runs after its execution context was destroyed")
                if capturing and context._changes != changes:
                    raise SimulatorError("a graph is replayed after an address or a shape of its context was changed")
                context._compute(addresses)
                if not capturing:
                    del _RUNS[number]

            _RUNS[number] = compute
            if capturing:
                self._captured.append(number)
            status = gpu.cuda.cuLaunchHostFunc(stream, host_function, ctypes.c_void_p(number))
            return status == 0 or self._refuse(f"1: Cuda Runtime (error {status})")

        def _refuse(self, problem: str) -> bool:
            return self._fail(f"IExecutionContext::enqueueV3: Error Code {problem}")

        def _compute(self, addresses: dict[str, tuple[int, int]]) -> None:
            feeds = {}
            for tensor in self._engine._plan.inputs:
                data = gpu.device_bytes(*addresses[tensor.name], f"tensor {tensor.name}")
                feeds[tensor.name] = data.view(_NUMPY[tensor.dtype]).reshape(self._shape(tensor.name)).copy()
            found = self._engine._session.run([t.name for t in self._engine._plan.outputs], feeds)
            for tensor, value in zip(self._engine._plan.outputs, found, strict=True):
                target = gpu.device_bytes(*addresses[tensor.name], f"tensor {tensor.name}")
                target[:] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)

        def _fail(self, text: str) -> bool:
            self._engine._runtime._logger.log(trt().ILogger.ERROR, text)
            return False

    class EngineInspector(Simulated):
        values = (("execution_context", None),)

        def _start(self, engine: Any) -> None:
            self._plan = engine._plan

        def get_engine_information(self, format: Any) -> str:
            return json.dumps(engine_information(self._plan, version[0]), indent=1)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def host_function(number: int) -> None:
        try:
            _RUNS[number]()
        except Exception as error:  # a GPU would stop here
            gpu.note(str(error))
            gpu.settings.fault = ILLEGAL_ADDRESS

    return {name: value for name, value in locals().items() if isinstance(value, type)}


def _current(gpu: FakeGpu, what: str) -> None:
    if not gpu.has_context() and not gpu.settings.fault:
        raise SimulatorError(f"{what} without a context: TensorRT would take the primary one, which may be another")


def _nbytes(tensor: Tensor, shape: list[int]) -> int:
    return int(np.prod(shape)) * _SIZES[tensor.dtype]


class _Bytes(bytes):
    """The graph, left out of the cache's key, which is its hash."""

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bytes)


@functools.lru_cache(maxsize=8)
def _session(digest: bytes, graph: _Bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bytes(graph), providers=["CPUExecutionProvider"])
