"""A simulated GPU: memory checked by address, lazy streams, events, one context stack a thread, graph capture.

Nothing queued on a stream runs before somebody waits for it, so a wait that is missing shows as wrong pictures every
time. What a real GPU answers with wrong pictures or a crash raises SimulatorError here, or, where raising is impossible
(a destructor), is written into Gpu.mistakes.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Operation = Callable[[], None]

POISON = 0xA5
"""What memory holds before anything is written into it, and after it was freed."""


class SimulatorError(Exception):
    """A mistake that a real GPU would not report: it would crash, or give wrong pictures."""


class CudaError(Exception):
    """An error that the real driver would report."""


@dataclass
class Block:
    """One allocation. `device`: the GPU can use the address; `host`: the CPU can use the bytes."""

    address: int
    data: Bytes
    context: Context | None
    device: bool
    host: bool


class Context:
    """A CUDA context as pycuda knows it: valid until detached, current where a thread pushed it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.valid = True
        self.thread = threading.get_ident()
        self.resources = 0  # streams, events and allocations made under it and still alive


class _ThreadStack(threading.local):
    """The contexts that this thread pushed. pycuda aborts the process when a thread ends with any left."""

    def __init__(self, gpu: Gpu) -> None:
        self.contexts: list[Context] = []
        self._at_end = _AtThreadEnd(gpu, self.contexts, threading.current_thread().name)


class _AtThreadEnd:
    def __init__(self, gpu: Gpu, contexts: list[Context], thread: str) -> None:
        self._gpu, self._contexts, self._thread = gpu, contexts, thread

    def __del__(self) -> None:
        if self._contexts:
            self._gpu.mistakes.append(f"thread {self._thread} ended with a context on its stack: pycuda aborts")


class Stream:
    """Work in order, run only when somebody waits for it."""

    def __init__(self, gpu: Gpu, context: Context) -> None:
        self.gpu, self.context = gpu, context
        self.handle = gpu.next_handle()
        self.pending: deque[Operation] = deque()
        self.queued = 0
        self.finished = 0
        self.capture: Graph | None = None

    def enqueue(self, operation: Operation) -> None:
        if self.capture is not None:
            self.capture.operations.append(operation)
            return
        self.pending.append(operation)
        self.queued += 1

    def run(self, until: int) -> None:
        with self.gpu.executing:
            if self.gpu.broken:
                self.pending.clear()
                raise CudaError(f"cuEventSynchronize failed: {self.gpu.broken}")
            while self.finished < until and self.pending:
                operation = self.pending.popleft()
                self.finished += 1
                operation()

    def synchronize(self) -> None:
        self.forbid_in_capture("synchronising")
        self.run(self.queued)

    def forbid_in_capture(self, what: str) -> None:
        if self.capture is not None:
            self.capture.invalid = True
            raise CudaError(f"{what} failed: operation not permitted when stream is capturing")


@dataclass
class Mark:
    """A place in a stream, reached at `reached_at` ns."""

    stream: Stream
    position: int = 0
    reached_at: int = 0


@dataclass
class Graph:
    """Captured work. `checks` look, at each launch, whether what was captured still holds."""

    operations: list[Operation] = field(default_factory=list)
    checks: list[Operation] = field(default_factory=list)
    owners: list[Any] = field(default_factory=list)  # weak references to the execution contexts that it uses
    invalid: bool = False


class Gpu:
    """The one simulated GPU, and everything that went wrong on it."""

    def __init__(
        self,
        name: str = "Simulated GPU",
        compute_capability: tuple[int, int] = (8, 7),
        integrated: bool = False,
        total_memory: int = 8 << 30,
        present: bool = True,
        driver: bool = True,
        taken: bool = False,
        capturable: bool = True,
    ) -> None:
        """present: there is a GPU. driver: libcuda is installed. taken: another process has the GPU for itself.
        capturable: stream capture works.
        """
        self.name, self.compute_capability, self.integrated = name, compute_capability, integrated
        self.total_memory, self.present, self.driver = total_memory, present, driver
        self.taken, self.capturable = taken, capturable
        self.broken = ""  # set to an error that the GPU reports from now on, as it does after a fault
        self.mistakes: list[str] = []
        self.executing = threading.RLock()
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, Graph] = {}
        self.executables: dict[int, Graph] = {}
        self._local = _ThreadStack(self)
        self._blocks: dict[int, Block] = {}
        self._addresses: list[int] = []
        self._freed: deque[tuple[int, int]] = deque(maxlen=1000)
        self._next_address = 0x20_0000_0000  # far from any address of the host's
        self._next_handle = 0x5500_0000
        self._lock = threading.Lock()

    # Contexts

    @property
    def stack(self) -> list[Context]:
        """The contexts of this thread, the current one last."""
        return self._local.contexts

    def current(self, what: str) -> Context:
        """Return this thread's context, or fail as pycuda does."""
        if not self.stack or not self.stack[-1].valid:
            raise CudaError(f"{what} failed: invalid device context - no currently active context?")
        return self.stack[-1]

    def release(self, context: Context, what: str) -> bool:
        """Whether a destructor may free what was made under `context`, here and now, as pycuda decides it."""
        if not context.valid:
            self.mistakes.append(f"{what} outlived its context")
        elif (not self.stack or self.stack[-1] is not context) and threading.get_ident() != context.thread:
            self.mistakes.append(f"{what} was freed in a thread that does not hold its context: pycuda leaks it")
        else:
            context.resources -= 1
            return True
        return False

    def next_handle(self) -> int:
        with self._lock:
            self._next_handle += 0x10
            return self._next_handle

    # Memory

    @property
    def used_memory(self) -> int:
        return sum(len(block.data) for block in self._blocks.values() if not block.host or self.integrated)

    def allocate(self, nbytes: int, context: Context | None, *, host: bool, device: bool) -> Block:
        """Reserve memory, poisoned. Host memory has its own address on the GPU too, where `device` maps it."""
        if (self.integrated or not host) and self.used_memory + nbytes > self.total_memory:
            raise MemoryError
        data = np.full(nbytes, POISON, np.uint8)
        with self._lock:
            address = data.ctypes.data if host else self._next_address
            if not host:
                self._next_address += (nbytes // 512 + 3) * 512  # a gap, so that running over the end is seen
            block = Block(address, data, context, device, host)
            self._blocks[address] = block
            bisect.insort(self._addresses, address)
        if context is not None:
            context.resources += 1
        return block

    def free(self, block: Block) -> None:
        with self._lock:
            del self._blocks[block.address]
            self._addresses.remove(block.address)
            self._freed.append((block.address, len(block.data)))
        block.data[:] = POISON

    def device_bytes(self, address: int, nbytes: int, what: str) -> Bytes:
        """Return the bytes at a device address."""
        block = self._at(address)
        if block is None:
            freed = any(start <= address < start + size for start, size in self._freed)
            state = "was freed" if freed else "was never allocated"
            raise SimulatorError(f"{what} uses address {address:#x}, which {state}")
        if not block.device:
            raise SimulatorError(f"{what} uses host memory that is not mapped for the GPU")
        start = address - block.address
        if start + nbytes > len(block.data):
            raise SimulatorError(f"{what} takes {nbytes} bytes, {len(block.data) - start} are allocated there")
        return block.data[start : start + nbytes]

    def pinned(self, address: int, nbytes: int) -> bool:
        """Whether host memory at `address` is page-locked."""
        block = self._at(address)
        return block is not None and block.host and address + nbytes <= block.address + len(block.data)

    def _at(self, address: int) -> Block | None:
        with self._lock:
            index = bisect.bisect_right(self._addresses, address) - 1
            block = self._blocks[self._addresses[index]] if index >= 0 else None
        return block if block and address < block.address + len(block.data) else None

    # Work

    def stream(self, handle: int) -> Stream:
        if handle not in self.streams:
            raise SimulatorError(f"no stream has the handle {handle:#x}: it was destroyed, or never made")
        return self.streams[handle]

    def synchronize(self) -> None:
        """Run everything queued anywhere."""
        for stream in list(self.streams.values()):
            stream.synchronize()

    def mark(self, stream: Stream) -> Mark:
        """Queue a mark."""
        mark = Mark(stream)

        def reach() -> None:
            mark.reached_at = time.perf_counter_ns()

        stream.enqueue(reach)
        mark.position = stream.queued
        return mark

    def leftovers(self) -> list[str]:
        """Everything that was not given back."""
        found = [f"{len(block.data)} bytes at {block.address:#x}" for block in self._blocks.values()]
        found += [f"stream {handle:#x}" for handle in self.streams]
        found += [f"graph {handle:#x}" for handle in (*self.graphs, *self.executables)]
        return found + [f"{len(self.stack)} contexts on the stack"] * bool(self.stack)
