"""What a frame in flight occupies on the GPU, and the ticket that its sender holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NoReturn

import numpy as np

from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia.cuda import Device
from pix2pix_edge.runtime.sidecar import TensorSpec


class Ticket:
    """One submission in flight; the only object made per frame, because it outlives its slot's next frame."""

    __slots__ = ("_idle", "_slot", "compute_ns")

    def __init__(self, slot: Slot, idle: SimpleQueue[Slot | None]) -> None:
        """idle: where the slot goes once its result was taken."""
        self._slot: Slot | None = slot
        self._idle = idle
        self.compute_ns = 0

    def result(self) -> Images:
        """Wait, and return the translated batch, the caller's to keep. Call it once. Raises EngineError."""
        slot = self._slot
        if slot is None:
            raise EngineError("the result of this submission was already taken; submit the images again")
        slot.finished.acquire()
        self._slot = None
        try:
            if slot.output is None:
                raise EngineError("the engine was closed before this result was taken")
            if slot.error:
                raise EngineError(f"the GPU failed while translating ({slot.error}); restart the program")
            self.compute_ns = slot.compute_ns
            translated: Images = slot.output.host.copy()
            return translated
        finally:
            self._idle.put(slot)


class Slot:
    """What a frame in flight occupies: buffers, events, an execution context with their addresses set, its graph.

    One context a slot, because a captured graph keeps the context's addresses and scratch memory.
    """

    def __init__(
        self,
        device: Device,
        input_spec: TensorSpec,
        output_spec: TensorSpec,
        make_context: Callable[[], Any],
        fail: Callable[[str], NoReturn],
    ) -> None:
        """make_context: returns a new execution context. fail: raises what TensorRT only logged."""
        # Locks that one thread takes and another opens: signals that need no new object.
        self.started, self.finished = threading.Lock(), threading.Lock()
        self.started.acquire()
        self.finished.acquire()
        self.error = ""
        self.compute_ns = 0
        self.graph: Any = None
        self.context: Any = None
        self.input: Any = None
        self.output: Any = None
        try:
            self.uploaded, self.done = device.signal(), device.signal()
            self.before, self.after = device.timer(), device.timer()
            self.input = device.buffer(input_spec.shape, np.uint8)
            self.output = device.buffer(output_spec.shape, np.uint8)
            self.context = make_context()
            for spec, buffer in ((input_spec, self.input), (output_spec, self.output)):
                if not self.context.set_tensor_address(spec.name, buffer.address):
                    fail(f"TensorRT does not take the address of {spec.name}")
        except BaseException:
            self.free()
            raise

    def free(self) -> None:
        """Free in the order of use: the graph, the execution context, then what they point to."""
        if self.graph is not None:
            self.graph.free()
        self.graph = self.context = None
        for buffer in (self.input, self.output):
            if buffer is not None:
                buffer.free()
        self.input = self.output = self.uploaded = self.done = self.before = self.after = None
