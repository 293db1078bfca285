"""The TensorRT engine: a plan on the GPU, with uploads, computing and downloads of successive frames overlapping."""

from __future__ import annotations

import atexit
from collections import Counter
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

import numpy as np

from pix2pix_edge.runtime.engines.base import (
    UNKNOWN,
    Engine,
    Images,
    TensorSpec,
    check_contract,
    check_images,
    printed_precision,
)
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.cuda import Device, GpuMemoryError, explained
from pix2pix_edge.runtime.nvidia.log import forget_reasons, reasons, tensorrt_logger
from pix2pix_edge.runtime.nvidia.plan import package_of, read_plan, rebuild_command
from pix2pix_edge.runtime.nvidia.slot import Slot, Ticket


class TensorRTEngine(Engine):
    """An Engine over a TensorRT plan.

    Uploads, computing and downloads have a stream each: copies overlap computing, and frames compute one after another,
    so that each one's time is its own. On an integrated GPU nothing is copied.
    """

    kind = "tensorrt"
    on_cpu = False

    def __init__(self, path: str | Path, slots: int = 2) -> None:
        """Open a plan for `slots` frames in flight.

        Raises MissingPackageError without TensorRT or pycuda, EngineError when the plan cannot run here.
        """
        self.path = Path(path)
        self.slots = slots
        self._found = capabilities.probe(package=package_of(self.path))
        self._found.require_tensorrt()
        self._gpu = self._found.require_gpu()
        data, self._sidecar = read_plan(self.path, self._found, self._gpu)
        self.precision = self._sidecar.precision.asked or UNKNOWN
        self._runtime: Any = None
        self._engine: Any = None
        self._streams: list[Any] = []
        self._slots: list[Slot] = []
        self._no_graph = ""  # why frames are not started as a CUDA graph
        self._idle: SimpleQueue[Slot | None] = SimpleQueue()  # None: the engine is closed
        self._device = Device(self._release)
        atexit.register(self.close)
        try:
            self._device.owner.call(self._open, data)
        except GpuMemoryError as error:
            self.close()
            raise EngineError(self._out_of_memory(len(data))) from error
        except BaseException:
            self.close()
            raise
        for slot in self._slots:
            self._idle.put(slot)

    # In the owning thread

    def _open(self, data: bytes) -> None:
        trt = self._found.trt()
        forget_reasons()
        self._runtime = trt.Runtime(tensorrt_logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            self._fail("TensorRT does not load it")
        self._read_tensors(trt)
        for _ in range(3):
            self._streams.append(self._device.stream())
        self._up, self._compute, self._down = self._streams
        for _ in range(self.slots):
            self._slots.append(Slot(self._device, self.input, self.output, self._make_context, self._fail))
        for slot in self._slots:
            self._warm_up(slot)

    def _fail(self, what: str) -> NoReturn:
        """Raise what TensorRT only logged."""
        said = reasons()
        if "out of memory" in said.lower() or "outofmemory" in said.lower():
            raise GpuMemoryError(said)
        raise EngineError(
            f"{self.path} cannot be opened: {what} ({said});"
            f" build it here with: {rebuild_command(self.path, self._sidecar)}"
        )

    def _read_tensors(self, trt: Any) -> None:
        """Set input and output; a free batch becomes the one that the plan was optimised for."""
        engine = self._engine
        dtypes = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16"}
        sides: dict[Any, list[TensorSpec]] = {trt.TensorIOMode.INPUT: [], trt.TensorIOMode.OUTPUT: []}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            dtype = engine.get_tensor_dtype(name)
            spec = TensorSpec(name, tuple(engine.get_tensor_shape(name)), dtypes.get(dtype, str(dtype)))
            sides[engine.get_tensor_mode(name)].append(spec)
        inputs, outputs = sides.values()
        self._free_batch = bool(inputs) and inputs[0].shape[:1] == (-1,)
        if self._free_batch:
            batch = engine.get_tensor_profile_shape(inputs[0].name, 0)[1][0]  # lowest, best, highest
            inputs, outputs = ([replace(s, shape=(batch, *s.shape[1:])) for s in side] for side in (inputs, outputs))
        check_contract(self.path, inputs, outputs)
        self.input, self.output = inputs[0], outputs[0]

    def _make_context(self) -> Any:
        forget_reasons()
        context = self._engine.create_execution_context()
        if context is None:
            self._fail("TensorRT makes no execution context")
        if self._free_batch and not context.set_input_shape(self.input.name, self.input.shape):
            self._fail(f"TensorRT does not take the input shape {list(self.input.shape)}")
        return context

    def _warm_up(self, slot: Slot) -> None:
        """Run once, because TensorRT may still reserve memory then; after that, what runs can be captured."""
        with explained("run the plan"):
            self._copy_in(slot)
            self._enqueue(slot)
            self._compute.synchronize()
        if not self._found.cuda_graphs:
            self._no_graph = "cuda-bindings is not installed; run: pip install cuda-bindings"
        if self._no_graph:
            return
        try:
            slot.graph = self._device.capture(self._compute, lambda: self._enqueue(slot))
        except EngineError as error:
            self._no_graph = f"capturing it failed: {error}"

    def _copy_in(self, slot: Slot) -> None:
        if not self._device.zero_copy:
            slot.input.upload(self._up)
            slot.uploaded.record(self._up)
            self._compute.wait_for_event(slot.uploaded)

    def _enqueue(self, slot: Slot) -> None:
        if not slot.context.execute_async_v3(self._compute.handle):
            raise EngineError(f"TensorRT does not start ({reasons()})")

    def _start(self, slot: Slot) -> None:
        """Start one frame; nothing here waits for the GPU."""
        try:
            self._copy_in(slot)
            slot.before.record(self._compute)
            if slot.graph is not None:
                slot.graph.launch()
            else:
                self._enqueue(slot)
            slot.after.record(self._compute)
            last = self._compute
            if not self._device.zero_copy:
                last = self._down
                last.wait_for_event(slot.after)
                slot.output.download(last)
            slot.done.record(last)
        except Exception as error:
            slot.error = str(error)
            slot.finished.release()
        else:
            self._device.waiter.post(self._wait, slot)
        slot.started.release()

    def _release(self) -> None:
        """Free everything; a step that is skipped here could end in an abort when Python ends."""
        self._device.drain(self._streams)
        for slot in self._slots:
            slot.free()
        self._engine = self._runtime = None
        self._streams.clear()
        self._up = self._compute = self._down = None

    # In the waiting thread

    def _wait(self, slot: Slot) -> None:
        try:
            slot.done.synchronize()
            slot.compute_ns = round(slot.before.time_till(slot.after) * 1e6)
        except Exception as error:
            slot.error = str(error)
        slot.finished.release()

    # In any other thread

    def submit(self, images: Images) -> Ticket:
        """Start translating; blocks while `slots` submissions are in flight. Raises EngineError."""
        check_images(images, self.input)
        slot = self._idle.get()
        if slot is None or slot.input is None:
            self._idle.put(None)  # for the next one who asks
            raise EngineError("the engine is closed; open it again with open_engine(path)")
        try:
            np.copyto(slot.input.host, images)
        except BaseException:
            self._idle.put(slot)
            raise
        slot.error = ""
        self._device.owner.post(self._start, slot)
        slot.started.acquire()  # waiting hands the interpreter to the owning thread at once
        return Ticket(slot, self._idle)

    def describe(self) -> dict[str, str]:
        """Return the engine, its file and precision, the GPU, and how frames are started and reach the GPU."""
        found, layers = self._found, Counter(self._sidecar.precision.layers.values())
        counted = ", ".join(f"{count} {name}" for name, count in layers.most_common())
        about = {
            "engine": found.product,
            "version": found.tensorrt,
            "file": self.path.name,
            "precision": printed_precision(self.precision) + (f" (convolutions: {counted})" if counted else ""),
            "device": f"{self._gpu.name}, compute capability {'.'.join(map(str, self._gpu.compute_capability))}",
            "cuda": f"{found.cuda}, driver {found.driver or 'unknown'}",
            "start": f"plain enqueue ({self._no_graph})" if self._no_graph else "CUDA graph",
            "memory": "zero-copy" if self._device.zero_copy else "copies from and to pinned buffers",
        }
        return about | ({"board": f"{found.jetson_model}, JetPack {found.jetpack}"} if found.jetson_model else {})

    def _out_of_memory(self, size: int) -> str:
        memory = capabilities.memory()
        return (
            f"the GPU has not enough memory to open {self.path}: the plan alone has {size / 1e6:.0f} MB, and"
            f" {memory.free / 1e6:.0f} of {memory.total / 1e6:.0f} MB are free; close other programs that use the GPU"
        )

    def close(self) -> None:
        """Wait for what is in flight, and free everything; a second call does nothing."""
        self._idle.put(None)
        self._device.close()
        atexit.unregister(self.close)
