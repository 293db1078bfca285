"""A network that someone has trained, in whatever framework: what it takes and gives, its graph, its results.

open_translator() knows the files: .keras and .h5 of Keras 2 and 3, SavedModel folders, and .onnx.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pix2pix_edge.export.translator.contract import Floats
from pix2pix_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from pix2pix_edge.export.graph.graph import Graph

TRAIN = "python -m train --data DIR --out RUN"
CHANNELS = (1, 3, 4)
DEFAULT_SIZE = "256x256"
OWN_STATISTICS = "by the statistics of the picture itself, as in training with batch 1"
OTHER_STATISTICS = "batch norm's other statistics (moving or the picture's own)"

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Norm:
    """What a batch norm is given, [samples, channels], and the statistics that it kept of its training, [channels]."""

    values: Floats
    mean: Floats
    variance: Floats


class Translator(abc.ABC):
    """One network, one picture in and one of the same size out.

    framework: what runs it as its owner does, for messages. takes, gives: (height, width, channels). layout: "NHWC" or
    "NCHW" of the graph's input and output. notes: what its owner should know, said by convert. tools: package ->
    version, for the sidecar.
    """

    framework: str
    takes: Shape
    gives: Shape
    layout: tuple[str, str] = ("NHWC", "NHWC")
    is_uint8 = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []

    @abc.abstractmethod
    def graph(self) -> Graph:
        """Return the network as a graph of its own with one input and one output, in FP32, batch 1."""

    @abc.abstractmethod
    def run(self, values: Floats) -> Floats:
        """Compute with its own framework: one picture float32 (or uint8) [1, H, W, C] in and out."""

    @abc.abstractmethod
    def tools(self) -> dict[str, str]: ...

    def first_norm(self, graph: Graph, values: Floats) -> Norm | None:
        """Return what the first batch norm is given for one picture [1, H, W, C]; None where there is none."""
        import onnxruntime as ort

        node = next((node for node in graph.nodes if node.op_type == "BatchNormalization"), None)
        if node is None or any(name not in graph.constants for name in node.input[3:5]):
            return None
        model = graph.to_model()
        del model.graph.output[:]
        model.graph.output.add(name=node.input[0])
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        given = values.transpose(0, 3, 1, 2) if self.layout[0] == "NCHW" else values
        found = session.run(None, {graph.input.name: np.ascontiguousarray(given)})[0]
        channels = np.moveaxis(found, 1, -1).reshape(-1, found.shape[1])
        return Norm(channels, graph.constants[node.input[3]], graph.constants[node.input[4]])

    def other_modes(self) -> list[tuple[str, Translator]]:
        """Return the same network in the other modes that its file leaves open, and what is other in each."""
        return []

    def check_shapes(self, takes: tuple[int | None, ...], gives: tuple[int | None, ...]) -> None:
        """Set takes and gives, or raise InputError where this is no image-to-image network of one size."""
        found = f"{self.path} is not a generator: it takes {listed(takes)} and gives {listed(gives)}"
        if gives == takes[:2]:
            raise InputError(
                f"{found}: one value a pixel without its channel; let it end in y[:, None] or y[..., None]"
            )
        if len(takes) == len(gives) == 3 and takes[0] in CHANNELS and takes[2] not in CHANNELS:
            raise InputError(f"{found}, channels first; put it between Permute((3, 1, 2)) and Permute((2, 3, 1))")
        if len(takes) != 3 or len(gives) != 3 or takes[2] not in CHANNELS:
            raise InputError(f"{found}; it must take and give pictures [N, H, W, C] of {_or(CHANNELS)} channels")
        if None in takes:
            raise InputError(f"{found}: its size is open; choose one, with --size {DEFAULT_SIZE}")
        if gives[:2] != takes[:2]:
            larger = None not in gives and gives[0] > (takes[0] or 0)  # type: ignore[operator]
            why = "a network that enlarges" if larger else "another size"
            raise InputError(f"{found}: {why}; only pictures of one size, in and out, can be translated")
        if gives[2] not in CHANNELS:
            raise InputError(f"{found}: {gives[2]} channels are no picture; it must give {_or(CHANNELS)} of them")
        self.takes, self.gives = takes, gives  # type: ignore[assignment]


def listed(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join(['N', *('?' if length is None else str(length) for length in shape)])}]"


def _or(values: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"


def few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more layers"
