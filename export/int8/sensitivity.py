"""What INT8 costs layer by layer, and which layers are worth it: the most speed that a budget of error allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.export.fidelity import Fidelity, compare
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.int8.placement import Layer
from pix2pix_edge.runtime.engines.base import Engine, Images
from pix2pix_edge.runtime.frame import Image


@dataclass(frozen=True)
class Judge:
    """Compares a graph's pictures with those of FP32 on a few images, in ONNX Runtime. folder: for passing files."""

    images: Sequence[Image]
    expected: Sequence[Image]
    folder: Path

    def fidelity(self, graph: Graph) -> Fidelity:
        from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine

        path = self.folder / "candidate.onnx"
        path.write_bytes(graph.to_model().SerializeToString())
        with OnnxRuntimeEngine(path) as engine:
            return compare(zip(translated(engine, self.images), self.expected, strict=True))


def translated(engine: Engine, images: Iterable[Image]) -> Iterable[Image]:
    """Translate images one by one, uint8 [S, S, 3]; an engine of a larger batch is given copies of each."""
    for image in images:
        batch: Images = np.repeat(image[None], engine.input.shape[0], axis=0)
        yield engine(batch)[0]


def squared_error(psnr_db: float) -> float:
    """Return the mean squared error, in squared levels, that a PSNR stands for."""
    return float(255**2 / 10 ** (psnr_db / 10))


def mean_squared_error(fidelity: Fidelity) -> float:
    """Return the mean over images of the mean squared error, in squared levels."""
    return float(np.mean([squared_error(psnr) for psnr in fidelity.psnr_db]))


def errors_of(alone: Mapping[str, Fidelity]) -> dict[str, float]:
    """Return layer -> mean squared error, in squared levels, of what sensitivity() found."""
    return {name: mean_squared_error(fidelity) for name, fidelity in alone.items()}


def sensitivity(
    quantized: Callable[[Sequence[Layer]], Graph], layers: Sequence[Layer], judge: Judge, bar: Any
) -> dict[str, Fidelity]:
    """Return layer -> fidelity with it alone quantised, as `quantized` makes the graph; bar, a tqdm, counts them."""
    found = {}
    for layer in layers:
        found[layer.name] = judge.fidelity(quantized([layer]))
        bar.update()
    return found


def select_layers(
    layers: Sequence[Layer],
    errors: Mapping[str, float],
    budget: float,
    worth: Callable[[Layer], int] = attrgetter("multiply_adds"),
) -> list[Layer]:
    """Return the layers to quantise, in their order: what is worth much, with errors adding up to `budget`.

    Errors of layers add up nearly, as rounding errors of different layers are independent. Those with the most error
    for their worth go first; then any that still fits comes back, the one of most worth first.
    """
    kept = sorted(layers, key=lambda layer: errors[layer.name] / worth(layer))
    gone = []
    while kept and sum(errors[layer.name] for layer in kept) > budget:
        gone.append(kept.pop())
    for layer in sorted(gone, key=lambda layer: -worth(layer)):
        if sum(errors[other.name] for other in kept) + errors[layer.name] <= budget:
            kept.append(layer)
    return [layer for layer in layers if layer in kept]
