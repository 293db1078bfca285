"""The Engine contract: uint8 RGB images in, uint8 RGB images out, at most `slots` submissions in flight."""

from __future__ import annotations

import abc
import importlib.util
import mmap
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import EngineError, InputError, ToolkitError
from runtime.files import sha256_of
from runtime.sidecar import Sidecar, read_sidecar, sidecar_path

Images = NDArray[np.uint8]
"""A batch: uint8 [N, S, S, 3], RGB."""

INPUT_NAME = "image"
OUTPUT_NAME = "translated"


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape [N, S, S, 3] and dtype ("uint8") of an engine's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Ticket(Protocol):
    """One submission in flight."""

    @property
    def compute_ns(self) -> int:
        """Nanoseconds of pure computation (CUDA events, or the session's run); valid after result()."""
        ...

    def result(self, out: Images | None = None) -> Images:
        """Wait; return the translated batch, the caller's to keep, in `out` if given. Call once; raises EngineError."""
        ...


class Engine(Protocol):
    """What every engine offers; a context manager. Usable from any thread, by one thread at a time."""

    input: TensorSpec
    output: TensorSpec
    slots: int

    def describe(self) -> dict[str, str]:
        """Return what a report should print: engine, version, precision, device, threads, …"""
        ...

    def submit(self, images: Images) -> Ticket:
        """Start translating; blocks while `slots` submissions are in flight.

        images: uint8 of exactly input.shape, C-contiguous, left unchanged until the ticket's result().
        Raises EngineError.
        """
        ...

    def __call__(self, images: Images) -> Images:
        """Translate one batch and wait for it."""
        ...

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_contract(path: Path, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    """Raise EngineError unless the graph has our one input and one output (docs/architecture.md, "Exported graph")."""
    for specs, name, what in ((inputs, INPUT_NAME, "input"), (outputs, OUTPUT_NAME, "output")):
        spec = specs[0] if len(specs) == 1 else None
        fits = spec and spec.name == name and spec.dtype == "uint8" and len(spec.shape) == 4 and spec.shape[3] == 3
        if not fits or not spec or spec.shape[1] != spec.shape[2] or min(spec.shape) < 1:
            found = ", ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in specs) or "none"
            raise EngineError(
                f"{path} is not an exported generator: its {what} must be {name} uint8[N, S, S, 3], found {found};"
                " export it with: python -m export convert GENERATOR.keras --out DIR"
            )


def check_images(images: Images, spec: TensorSpec) -> None:
    """Raise EngineError unless `images` is what the engine takes."""
    if images.dtype != np.uint8 or images.shape != spec.shape:
        raise EngineError(
            f"the engine takes {spec.dtype}{list(spec.shape)}, but was given {images.dtype}{list(images.shape)};"
            " prepare frames with runtime.frame.fit(image, size, mode)"
        )


class HostTicket:
    """A Ticket over a worker thread's future."""

    def __init__(self, future: Future[tuple[Images, int]], release: threading.Semaphore) -> None:
        self._future = future
        self._release = release
        self.compute_ns = 0

    def result(self, out: Images | None = None) -> Images:
        try:
            images, self.compute_ns = self._future.result()
        finally:
            self._release.release()
        if out is None:
            return images
        np.copyto(out, images)
        return out


class HostEngine(abc.ABC):
    """An engine that computes on the CPU in one worker thread, so that submit() returns at once.

    A subclass sets input and output, and implements describe(), _run() and, where it holds resources, _close().
    """

    input: TensorSpec
    output: TensorSpec

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._free = threading.Semaphore(slots)
        self._worker: ThreadPoolExecutor | None = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @abc.abstractmethod
    def describe(self) -> dict[str, str]: ...

    @abc.abstractmethod
    def _run(self, images: Images) -> Images: ...

    def _close(self) -> None:
        return

    def submit(self, images: Images) -> HostTicket:
        check_images(images, self.input)
        if self._worker is None:
            raise EngineError("the engine is closed; open it again with open_engine(path)")
        self._free.acquire()
        return HostTicket(self._worker.submit(self._timed, images), self._free)

    def _timed(self, images: Images) -> tuple[Images, int]:
        start = time.perf_counter_ns()
        translated = self._run(images)
        return translated, time.perf_counter_ns() - start

    def __call__(self, images: Images) -> Images:
        return self.submit(images).result()

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown(wait=True)
            self._worker = None
            self._close()

    def __enter__(self) -> HostEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_engine(path: str | Path, *, backend: str = "auto", slots: int = 2, threads: int | None = None) -> Engine:
    """Open an exported graph or plan: .plan with TensorRT, .onnx on the CPU.

    backend: for .onnx: "onnxruntime", "openvino", or "auto" (OpenVINO where it is installed and may be trusted).
    threads: CPU threads, None for all cores. Raises InputError (no such file, unknown ending, more threads than CPUs)
    and EngineError (it cannot be opened here).
    """
    path = Path(path)
    if threads is not None and not 1 <= threads <= (most := os.cpu_count() or threads):
        # they spin while they wait for one another: with more than there are CPUs the whole machine stands still
        raise InputError(f"--threads is from 1 to {most} on this machine, not {threads}; leave it out for all cores")
    if not path.is_file():
        raise InputError(
            f"there is no engine file {path}; make one with: python -m export convert GENERATOR.keras --out DIR"
        )
    if path.suffix not in (".onnx", ".plan"):
        raise InputError(f"{path} is neither .onnx nor .plan; give --engine a file written by: python -m export")
    sidecar = read_sidecar(path) or {}
    if sidecar.get("sha256", (digest := sha256_of(path))) != digest:
        raise EngineError(
            f"{path} was altered after it was exported (its SHA-256 is not the one in {sidecar_path(path).name});"
            f" export it again with: {_command_that_makes(path, sidecar)}"
        )
    if path.suffix == ".plan":
        from runtime.tensorrt_engine import TensorRTEngine

        try:
            return TensorRTEngine(path, slots=slots)
        except ToolkitError as error:
            raise type(error)(f"{error}{_instead_of(path)}") from error
    openvino: dict[str, Any] = sidecar.get("backends", {}).get("openvino", {})
    if backend == "openvino" or (backend == "auto" and _openvino_is_better(path, openvino)):
        from runtime.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(path, slots=slots, threads=threads, bf16=openvino.get("bf16", False))
    from runtime.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, slots=slots, threads=threads)


def _openvino_is_better(path: Path, entry: dict[str, Any]) -> bool:
    """Whether "auto" means OpenVINO: installed, and it has not failed the fidelity gate with this very file.

    It is faster than ONNX Runtime, but has given wrong pictures with INT8 graphs: those it gets only once it has
    passed. `entry` is the sidecar's backends.openvino.
    """
    if importlib.util.find_spec("openvino") is None:
        return False
    passed = entry.get("passed")
    return passed is not False and (passed is True or not is_quantized(path))


def is_quantized(path: Path) -> bool:
    """Whether an .onnx file holds quantised layers: ONNX keeps operator names as plain bytes."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"DequantizeLinear") >= 0


def precision_of(path: Path) -> str:
    """Return the precision that a report prints: what the sidecar says was asked, else what the .onnx shows."""
    asked = (read_sidecar(path) or {}).get("precision", {}).get("asked")
    return str(asked) if asked else "int8" if is_quantized(path) else "unknown (no sidecar)"


def _command_that_makes(path: Path, sidecar: Sidecar) -> str:
    if path.suffix == ".plan":
        from runtime.plan import rebuild_command

        return rebuild_command(path, sidecar)
    source = sidecar.get("source", {}).get("file")
    if sidecar.get("precision", {}).get("asked") == "int8":
        return f"python -m export quantize {source or 'NAME.fp32.onnx'} --out {path.parent}"
    return f"python -m export convert {source or 'GENERATOR.keras'} --out {path.parent}"


def _instead_of(plan: Path) -> str:
    """Return how to run the same generator on the CPU: "; meanwhile …", or "" with no .onnx beside the plan."""
    name = plan.name.partition(".")[0]
    for candidate in (plan.with_suffix(".cpu.onnx"), plan.with_suffix(".onnx"), plan.with_name(f"{name}.fp32.onnx")):
        if candidate.is_file():
            return f"; meanwhile it runs on the CPU with: --engine {candidate}"
    return "; meanwhile give --engine the .onnx file that the plan was built from, which runs on any CPU"
