"""The Engine contract: uint8 RGB images in, uint8 RGB images out, at most `slots` submissions in flight."""

from __future__ import annotations

import abc
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.engines.onnx_file import OnnxFile, read_onnx
from pix2pix_edge.runtime.engines.sizes import check_sizes
from pix2pix_edge.runtime.engines.turnstile import Turnstile
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.sidecar import TensorSpec as TensorSpec
from pix2pix_edge.runtime.sidecar import read_sidecar

Images = NDArray[Any]
"""A batch: uint8 [N, H, W, C]: RGB, with C = 3; a mask or depth, with 1; RGBA, with 4. What an engine gives may be
uint16."""

CHANNELS = (1, 3, 4)
"""Of what an engine gives; it takes 3 or 4, and a network that wants grey makes it itself."""

DTYPES = ("uint8", "uint16")
"""Of what an engine gives; it takes uint8. With 16 bits, files keep what no screen shows: depth."""

UNKNOWN = "unknown"
"""The precision of a file that has no sidecar."""

INPUT_NAME = "image"
OUTPUT_NAME = "translated"


Opened = TypeVar("Opened", bound="Engine")


class Ticket(Protocol):
    """One submission in flight."""

    @property
    def compute_ns(self) -> int:
        """Nanoseconds of pure computation (CUDA events, or the session's run); valid after result()."""
        ...

    def result(self) -> Images:
        """Wait; return the translated batch, the caller's to keep. Call once; raises EngineError."""
        ...


class Engine(abc.ABC):
    """What every engine offers; a context manager. Usable from any thread, by one thread at a time.

    kind: what computes: "onnxruntime", "openvino", "tensorrt", "keras", … on_cpu: whether it does so on the cores that
    also capture, decode and deliver. precision: "fp32", "fp16", "bf16", "int8", UNKNOWN where no sidecar tells.
    threads: CPU threads of one run, None where the engine does not tell. turnstile: where live streams that share an
    engine wait for their turn, each with its newest frame; None where a stream has the engine to itself.
    """

    input: TensorSpec
    output: TensorSpec
    slots: int
    kind: str
    on_cpu: bool
    precision: str = UNKNOWN
    threads: int | None = None
    turnstile: Turnstile | None = None

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Return what a report prints for people, by which nothing is decided: engine, version, device, …"""

    @abc.abstractmethod
    def submit(self, images: Images) -> Ticket:
        """Start translating; blocks while `slots` submissions are in flight.

        images: uint8 of exactly input.shape, C-contiguous, left unchanged until the ticket's result().
        Raises EngineError.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free everything; a second call does nothing."""

    def __call__(self, images: Images) -> Images:
        """Translate one batch and wait for it."""
        return self.submit(images).result()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_contract(path: Path | str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise EngineError, saying what to do with this file, unless it keeps docs/architecture.md, "Exported graph"."""
    ours = True
    for specs, name, channels in ((inputs, INPUT_NAME, CHANNELS[1:]), (outputs, OUTPUT_NAME, CHANNELS)):
        dtypes = DTYPES if name == OUTPUT_NAME else DTYPES[:1]
        is_picture = len(specs) == 1 and specs[0].dtype in dtypes and len(specs[0].shape) == 4
        ours &= is_picture and specs[0].shape[3] in channels and specs[0].name == name and min(specs[0].shape) > 0
    if ours and inputs[0].shape[:3] == outputs[0].shape[:3]:
        return
    found = f"it takes {_listed(inputs)} and gives {_listed(outputs)}"
    if why := _no_translator(inputs, outputs):
        raise EngineError(
            f"{path} is not an exported generator: {found}, where {why}; convert such a model with: python -m export"
            " convert MODEL --out DIR"
        )
    model = shlex.quote(str(path)) if str(path).endswith(".onnx") else "MODEL"
    size = " --size 256x256" if model != "MODEL" and -1 in inputs[0].shape[1:] else ""
    raise EngineError(
        f"{path} is not an exported generator: {found}, not {INPUT_NAME} and {OUTPUT_NAME}, both uint8[N, H, W, C];"
        f" make one of it with: python -m export convert {model} --out DIR{size}"
    )


def _listed(specs: Sequence[TensorSpec]) -> str:
    shown = (f"{s.name} {s.dtype}[{', '.join('?' if n < 0 else str(n) for n in s.shape)}]" for s in specs)
    return ", ".join(shown) or "nothing"


def _no_translator(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Say why `export convert` could make no engine of such a graph either, or "" where it may."""
    if len(inputs) != 1 or len(outputs) != 1:
        return "one picture in and one out are all that there may be"
    for spec in (inputs[0], outputs[0]):
        places = [spec.shape[place] for place in (1, 3)] if len(spec.shape) == 4 else []
        if "float" not in spec.dtype and spec.dtype not in (DTYPES if spec is outputs[0] else DTYPES[:1]):
            return f"{spec.dtype} are labels or indices, and no picture"
        if not any(length in CHANNELS or length < 0 for length in places):
            return "both must be pictures, [N, H, W, C] or [N, C, H, W], of 1, 3 or 4 channels"
    sizes = [_size(spec.shape) for spec in (inputs[0], outputs[0])]
    if sizes[0] != sizes[1] and min(*sizes[0], *sizes[1]) > 0:
        return "a picture must keep its size"
    return ""


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:3] if shape[3] in CHANNELS else shape[2:]


def read_engine(path: Path) -> OnnxFile:
    """Return what an exported .onnx file holds. Raises EngineError for any other, with what to do with it."""
    file = read_onnx(path)
    check_contract(path, file.inputs, file.outputs)
    check_sizes(path)
    return file


def check_images(images: Images, spec: TensorSpec) -> None:
    """Raise EngineError unless `images` is what the engine takes."""
    if images.dtype != np.uint8 or images.shape != spec.shape:
        raise EngineError(
            f"the engine takes {spec.dtype}{list(spec.shape)}, but was given {images.dtype}{list(images.shape)};"
            " prepare frames with runtime.frame.fit(image, engine.input.shape[1:])"
        )


def printed_precision(precision: str) -> str:
    """Return a precision for people."""
    return f"{precision} (no sidecar)" if precision == UNKNOWN else precision


def precision_of(path: Path, file: OnnxFile) -> str:
    """Return the precision that a report prints: what the sidecar says was asked, else what the .onnx shows."""
    sidecar = read_sidecar(path)
    asked = sidecar.precision.asked if sidecar else ""
    return asked or ("int8" if file.quantized else UNKNOWN)
