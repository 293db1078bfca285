"""The owner's own pictures: a trained network in its own framework, behind the engine contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pix2pix_edge.export.fidelity import Fidelity, compare, max_difference
from pix2pix_edge.export.graph.simplify import fold_constants
from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.export.translator import open_keras, open_translator
from pix2pix_edge.export.translator.contract import Floats, Options, Pixels, picture_shape
from pix2pix_edge.export.translator.examine import examine
from pix2pix_edge.export.translator.translator import Translator
from pix2pix_edge.export.translator.wrap import wrap
from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME, Engine, Images
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import GateFailedError, InputError
from pix2pix_edge.runtime.sidecar import FidelitySummary, TensorSpec

if TYPE_CHECKING:
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.runtime.frame import Image

RELATIVE_ERROR = 1e-6
"""About eight roundings of FP32: what another order of the same sums may change."""

MAX_DIFFERENCE = 1
"""Of 255: float rounding may tip a value that lies between two levels."""

UNSURE = 8.0
"""Levels: a picture that a few roundings change by more decides nothing."""


class ReferenceEngine(HostEngine):
    """A network run by the framework of its owner: uint8 [N, H, W, C] RGB in and out, any N when called."""

    kind = "reference"

    def __init__(self, translator: Translator, pixels: Pixels) -> None:
        super().__init__(slots=1)
        self.translator, self.pixels = translator, pixels
        self.input = TensorSpec(INPUT_NAME, (1, *pixels.picture), "uint8")
        self.output = TensorSpec(OUTPUT_NAME, (1, *pixels.gives), f"uint{pixels.bits}")

    def describe(self) -> dict[str, str]:
        return {
            "engine": self.translator.framework.partition(",")[0],
            "version": self.translator.framework,
            "file": self.translator.path.name,
            "precision": self.precision,
            "device": "CPU",
        }

    def __call__(self, images: Images) -> Images:
        return self._run(images)

    def doubt(self, image: Image) -> float:
        """Return by how many levels the picture of one image changes when its values change by a few roundings.

        Much where the network divides by next to nothing: instance norm on a flat picture. A network of uint8 is given
        the smallest change that it can be: one value by one level, which tells more than it should near that pixel.
        """
        if self.translator.is_uint8:
            moved = image.copy()
            moved[0, 0, 0] ^= 1
            return float(np.abs(self._run(image[None]).astype(np.float32) - self._run(moved[None])).mean())
        values = self.pixels.to_network(image[None])
        noise = np.random.default_rng(0).uniform(-1, 1, values.shape).astype(np.float32)
        largest = np.float32(max(abs(limit) for limit in self.pixels.input_range) * RELATIVE_ERROR)
        usual, moved = (self._levels(v) for v in (values, values + noise * largest))
        return float(np.abs(usual - moved).max())

    def _run(self, images: Images) -> Images:
        results = []
        for image in images:
            values = self.pixels.to_network(image[None])
            results.append(self.translator.run(values.astype(np.uint8) if self.translator.is_uint8 else values))
        return self.pixels.to_picture(np.concatenate(results))

    def _levels(self, values: Floats) -> Floats:
        return np.clip(self.pixels.to_levels(self.translator.run(values)), 0, 255)


class Owner:
    """The gate of an FP32 file: the pictures that its owner's framework gives, and how sure it is of each itself."""

    def __init__(self, reference: ReferenceEngine, images: Sequence[Image], kind: str) -> None:
        self.images, self.kind, self._reference = images, kind, reference
        self.name = reference.describe()["engine"]
        self.file = reference.translator.path.name
        self.expected = [reference(image[None])[0] for image in images]
        self._doubts: dict[int, float] = {}

    def compare(self, engine: Engine) -> tuple[Fidelity, str]:
        """Compare with the owner's pictures; return also what differs by more than may be, or "".

        A picture may differ by as much more as the framework itself is unsure of it, and decides nothing beyond UNSURE.
        """
        pairs, beyond = [], 0
        for place, (image, expected) in enumerate(zip(self.images, self.expected, strict=True)):
            translated = engine(image[None])[0]
            difference = max_difference(expected, translated)
            if difference > MAX_DIFFERENCE:
                if place not in self._doubts:
                    self._doubts[place] = self._reference.doubt(image)
                doubt = self._doubts[place]
                if doubt > UNSURE:
                    continue
                if difference > MAX_DIFFERENCE + round(2 * doubt):
                    beyond = max(beyond, difference)
            pairs.append((expected, translated))
        if not pairs:
            raise InputError(
                f"{self.name} itself is unsure of every one of {self.kind}, by more than {UNSURE:g} levels; give"
                " pictures of the model's own kind with --data DIR"
            )
        if skipped := len(self.images) - len(pairs):
            print(f"{skipped} of {self.kind} decide nothing: {self.name} itself is unsure of them", flush=True)
        return compare(pairs), f"{beyond} levels of 255 (at most {MAX_DIFFERENCE} is allowed)" if beyond else ""

    def deciding(self) -> list[Image]:
        """Return the images that its framework is sure of, as far as that was asked."""
        return [image for place, image in enumerate(self.images) if self._doubts.get(place, 0.0) <= UNSURE]

    def judge(self, engine: Engine) -> FidelitySummary:
        found, beyond = self.compare(engine)
        if beyond:
            raise GateFailedError(
                f"the exported graph differs from {self.name} by {beyond} on {self.kind}; nothing was written; see"
                " whether a rewrite is the cause with: --fold none"
            )
        return found.summary(self.file)


def open_reference(path: str | Path) -> ReferenceEngine:
    """Open a trained network as an Engine that computes as its owner does. Raises InputError as open_translator()."""
    translator = open_translator(path, Options())
    images = drawn_images(picture_shape(translator.takes))
    return ReferenceEngine(translator, examine(translator, translator.graph(), Options(), images)[0])


def plain_graph(path: str | Path, *, as_keras_upsamples: bool = True) -> Graph:
    """Return a Keras model's graph of the contract as tf2onnx gives it: what a user gets without this project.

    as_keras_upsamples: False for upsampling as one Resize, which is what convert folds.
    """
    translator = open_keras(path)
    graph = translator.trace(as_keras_upsamples=as_keras_upsamples)
    pixels, _ = examine(translator, graph, Options(), drawn_images(picture_shape(translator.takes)))
    wrap(graph, pixels, translator.layout)
    fold_constants(graph)
    return graph
