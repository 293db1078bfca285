"""The Engine contract: uint8 RGB images in, uint8 RGB images out, at most `slots` submissions in flight."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.engines.onnx_file import OnnxFile
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.sidecar import TensorSpec as TensorSpec
from pix2pix_edge.runtime.sidecar import read_sidecar

Images = NDArray[np.uint8]
"""A batch: uint8 [N, H, W, C]: RGB, with C = 3; a mask or depth, with 1; RGBA, with 4."""

CHANNELS = (1, 3, 4)
"""Of what an engine gives; it takes 3 or 4, and a network that wants grey makes it itself."""

UNKNOWN = "unknown"
"""The precision of a file that has no sidecar."""

INPUT_NAME = "image"
OUTPUT_NAME = "translated"


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
    """What every engine offers; a context manager. Usable from any thread, by one thread at a time.

    kind: what computes: "onnxruntime", "openvino", "tensorrt", "keras", … on_cpu: whether it does so on the cores that
    also capture, decode and deliver. precision: "fp32", "fp16", "bf16", "int8", UNKNOWN where no sidecar tells.
    threads: CPU threads of one run, None where the engine does not tell.
    """

    input: TensorSpec
    output: TensorSpec
    slots: int
    kind: str
    on_cpu: bool
    precision: str
    threads: int | None

    def describe(self) -> dict[str, str]:
        """Return what a report prints for people, by which nothing is decided: engine, version, device, …"""
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


def check_contract(path: Path | str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise EngineError unless the graph has our one input and one output (docs/architecture.md, "Exported graph")."""
    model = shlex.quote(str(path)) if str(path).endswith(".onnx") else "GENERATOR.keras"
    ends = ((inputs, INPUT_NAME, "input", CHANNELS[1:]), (outputs, OUTPUT_NAME, "output", CHANNELS))
    for specs, name, what, channels in ends:
        spec = specs[0] if len(specs) == 1 else None
        is_picture = spec and spec.dtype == "uint8" and len(spec.shape) == 4 and spec.shape[3] in channels
        if not is_picture or not spec or spec.name != name or min(spec.shape) < 1:
            found = ", ".join(f"{s.name} {s.dtype}{list(s.shape)}" for s in specs) or "none"
            raise EngineError(
                f"{path} is not an exported generator: its {what} must be {name} uint8[N, H, W, C], found {found};"
                f" export it with: python -m export convert {model} --out DIR"
            )
    if inputs[0].shape[:3] != outputs[0].shape[:3]:
        raise EngineError(
            f"{path} is not an exported generator: it makes {list(outputs[0].shape)} of {list(inputs[0].shape)}, but a"
            " picture must keep its size; export one that does with: python -m export convert GENERATOR.keras --out DIR"
        )


def check_images(images: Images, spec: TensorSpec) -> None:
    """Raise EngineError unless `images` is what the engine takes."""
    if images.dtype != np.uint8 or images.shape != spec.shape:
        raise EngineError(
            f"the engine takes {spec.dtype}{list(spec.shape)}, but was given {images.dtype}{list(images.shape)};"
            " prepare frames with runtime.frame.fit(image, size, mode)"
        )


def printed_precision(precision: str) -> str:
    """Return a precision for people."""
    return f"{precision} (no sidecar)" if precision == UNKNOWN else precision


def precision_of(path: Path, file: OnnxFile) -> str:
    """Return the precision that a report prints: what the sidecar says was asked, else what the .onnx shows."""
    sidecar = read_sidecar(path)
    asked = sidecar.precision.asked if sidecar else ""
    return asked or ("int8" if file.quantized else UNKNOWN)
