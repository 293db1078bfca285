"""One engine in a process of its own, run by questions over a pipe.

So its first inference is really the first, its peak memory is its own, threads that spin are not another engine's, and
an engine that crashes takes no report with it.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds, describe_error
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine, Images
from pix2pix_edge.runtime.errors import EngineError, ToolkitError

STREAM_SOURCE = "test://640x480@30"
"""What the scope `stream` looks at: a camera's size and rate, the same on every machine."""

SKIPPED_FRAMES = 2
"""Frames at the start of each stream that are not counted: its threads and queues are just starting."""


@dataclass(frozen=True)
class Target:
    """What to open. extra_work: units of work (Session.work) after each call; only `trials` plants any."""

    path: Path
    backend: str = "auto"
    threads: int | None = None
    extra_work: int = 0


@dataclass(frozen=True)
class Opened:
    """What an engine says when it is opened. load_ns: imports of its library included. shape: of its input.

    kind: as Engine.kind. host_base: bytes that the process had before.
    """

    load_ns: int
    describe: dict[str, str]
    shape: tuple[int, ...]
    kind: str
    host_base: int


@dataclass(frozen=True)
class Used:
    """Bytes of host memory at the process's peak, and of device memory that it took (0 without)."""

    host_peak: int
    device: int


class Session:
    """The worker's side: an open engine, and what can be asked of it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._engine: Engine | None = None
        self._images: list[Images] = []
        self._free_at_start = self._free_in_use = _free_device_memory()

    def make_engine(self) -> Engine:
        """Open what is to be measured."""
        return open_engine(self._target.path, backend=self._target.backend, threads=self._target.threads)

    def open(self) -> Opened:
        """Open the engine. Raises what make_engine() raises."""
        base = peak_host_memory()
        start = time.perf_counter_ns()
        engine = self._engine = self.make_engine()
        load_ns = time.perf_counter_ns() - start
        return Opened(load_ns, engine.describe(), engine.input.shape, engine.kind, base)

    def first(self, images: list[Images]) -> int:
        """Take the pictures to measure with (uint8 [H, W, C] each); return the nanoseconds of the first inference."""
        batch = self.engine.input.shape[0]
        self._images = [np.stack([images[(i + k) % len(images)] for k in range(batch)]) for i in range(len(images))]
        start = time.perf_counter_ns()
        self.engine(self._images[0])
        first_ns = time.perf_counter_ns() - start
        self._free_in_use = _free_device_memory()  # now, before other engines are opened beside this one
        return first_ns

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise EngineError("the engine is not open")
        return self._engine

    def latency(self, calls: int) -> Mapping[str, Nanoseconds]:
        """Translate one batch after the other.

        Scopes: engine (host to host), compute, submit alone, and cpu: the time of all cores that this process used.
        """
        engine, extra_work = self.engine, self._target.extra_work
        table = np.empty((calls, 4), np.int64)
        with _no_collection():
            for i, row in enumerate(table):
                images = self._images[i % len(self._images)]
                cpu = time.process_time_ns()
                start = time.perf_counter_ns()
                ticket = engine.submit(images)
                submitted = time.perf_counter_ns()
                ticket.result()
                if extra_work:
                    self.work(extra_work)
                end = time.perf_counter_ns()
                row[:] = end - start, ticket.compute_ns, submitted - start, time.process_time_ns() - cpu
        return {name: table[:, i] for i, name in enumerate(("engine", "compute", "submit", "cpu"))}

    def work(self, units: int) -> int:
        """Do so many units of work, of some microseconds each, in this thread; return the nanoseconds that they took.

        Arithmetic on a picture's floats, as a program does that prepares its images itself.
        """
        pixels = np.ones(1 << 14, np.float32)
        start = time.perf_counter_ns()
        for _ in range(units):
            np.multiply(pixels, np.float32(0.5), out=pixels)
            np.add(pixels, np.float32(0.5), out=pixels)
        return time.perf_counter_ns() - start

    def overlap(self, calls: int) -> Mapping[str, Nanoseconds]:
        """Keep every slot of the engine busy. Scope overlap: nanoseconds between one result and the next."""
        engine = self.engine
        stamps = np.empty(calls + 1, np.int64)
        with _no_collection():
            tickets = [engine.submit(self._images[i % len(self._images)]) for i in range(min(engine.slots, calls + 1))]
            for i in range(calls + 1):
                tickets.pop(0).result()
                stamps[i] = time.perf_counter_ns()
                following = i + 1 + len(tickets)
                if following < calls + 1:
                    tickets.append(engine.submit(self._images[following % len(self._images)]))
        return {"overlap": np.diff(stamps)}

    def stream(self, calls: int) -> Mapping[str, Nanoseconds]:
        """Translate the live test pattern. Scopes: stream (capture to sink), captured_at, and "STAGE stage" of each."""
        from pix2pix_edge.runtime.frame import STAGES
        from pix2pix_edge.runtime.stream import translate

        rows: list[list[int]] = []
        with translate(STREAM_SOURCE, self.engine) as stream:
            for frame in stream:
                age = (frame.delivered_at or time.monotonic_ns()) - frame.captured_at
                rows.append([age, *(frame.timings.get(stage, 0) for stage in STAGES), frame.captured_at])
                if len(rows) == calls + SKIPPED_FRAMES:
                    break
        table = np.array(rows[SKIPPED_FRAMES:], np.int64)
        stages = (f"{stage} stage" for stage in STAGES)  # for `engine` is a scope of its own
        return {name: table[:, i] for i, name in enumerate(("stream", *stages, "captured_at"))}

    def translate(self, images: list[Images]) -> list[Images]:
        """Return the translations of uint8 [H, W, C] images, one by one."""
        batch = self.engine.input.shape[0]
        return [self.engine(np.stack([image] * batch))[0].copy() for image in images]

    def memory(self) -> Used:
        """Return the memory that this process took."""
        return Used(peak_host_memory(), max(0, self._free_at_start - self._free_in_use))

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the garbage collector, as timeit does."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def peak_host_memory() -> int:
    """Return the most memory, in bytes, that this process has had resident."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:  # unlike ru_maxrss, this does not remember the process that we were forked from
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _free_device_memory() -> int:
    from pix2pix_edge.runtime.nvidia.capabilities import memory

    try:
        return memory().free
    except ToolkitError:
        return 0


def serve(pipe: multiprocessing.connection.Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Answer questions (method, arguments) to make(*arguments) until the pipe is closed."""
    session = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            method, asked = pipe.recv()
            try:
                session = session or make(*arguments)
                answer = getattr(session, method)(*asked)
            except Exception as error:
                pipe.send((type(error) if isinstance(error, ToolkitError) else EngineError, describe_error(error)))
            else:
                pipe.send((None, answer))
    if session and hasattr(session, "close"):
        session.close()


class Worker:
    """The parent's side: a process with one session, Worker(Session, target); a context manager.

    make must be importable by name, and is called at the first question. Interrupted, the process is killed in the
    middle of its work.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")  # a forked child would share CUDA state and thread pools
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        # Ctrl-C reaches the whole process group, but is the parent's to handle: its processes are born with it blocked
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the session. Raises ToolkitError as it did; EngineError for anything else, or if it died."""
        try:
            self._pipe.send((method, arguments))
            kind, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5)
            code = self._process.exitcode
            reason = "it was killed for want of memory?" if code == -signal.SIGKILL else f"exit code {code}"
            raise EngineError(f"the engine's process ended ({reason})") from error
        if kind is not None:
            raise kind(answer)
        return answer

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self.close()
