"""Calibration: how large activations get on real images, kept as one small JSON file that can go to another machine.

Images stream through the FP32 graph one at a time; what is kept are histograms, whose size does not depend on how many
images there are. The file holds the result for every method, so that another method needs no images again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pix2pix_edge.export.graph.graph import Array, Graph
from pix2pix_edge.export.int8.equalize import Channels, choose_scales
from pix2pix_edge.export.int8.histogram import METHODS, Histogram, Range, merged
from pix2pix_edge.export.int8.placement import Layer, scale_groups
from pix2pix_edge.runtime.engines.base import INPUT_NAME
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import sha256_of, written_beside
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import from_json, read_json, to_json

FORMAT = "pix2pix-edge-calibration/2"
LEAST_IMAGES = 32
"""With fewer images a warning is due: rare values decide the ranges."""
OUTLIERS = 1e-5
"""How many of a channel's values may be larger than what counts as its size."""


@dataclass(frozen=True)
class Calibration:
    """What calibration found for one model.

    images: SHA-256 of each image file. sizes: tensor -> how large each of its channels gets. ranges: tensor ->
    method -> [low, high] after equalisation.
    """

    model_sha256: str
    images: tuple[str, ...]
    sizes: dict[str, tuple[float, ...]]
    ranges: dict[str, dict[str, Range]]

    @property
    def images_sha256(self) -> str:
        return hashlib.sha256("".join(self.images).encode()).hexdigest()

    def scales(self, channels: Channels) -> Array:
        """Return the scale of each group of channels; see export/int8/equalize.py."""
        return choose_scales(channels, {name: np.array(size) for name, size in self.sizes.items()})

    def of_method(self, method: str) -> dict[str, Range]:
        return {name: by_method[method] for name, by_method in self.ranges.items()}

    def save(self, path: Path) -> None:
        with written_beside(path) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, **to_json(self)}, separators=(",", ":")) + "\n")

    def check(self, channels: Mapping[str, int]) -> None:
        """Raise ValueError unless it tells the sizes and the ranges of each tensor, which has so many channels."""
        for name, count in channels.items():
            sizes, ranges = self.sizes.get(name, ()), self.ranges.get(name, {})
            if len(sizes) != count or any(size < 0 for size in sizes):
                raise ValueError(f"it does not tell the sizes of {name}'s {count} channels")
            if not ranges.keys() >= METHODS.keys() or any(low > high for low, high in ranges.values()):
                raise ValueError(f"it does not tell the ranges of {name}")

    @classmethod
    def load(cls, path: Path, model_sha256: str, channels: Mapping[str, int]) -> Calibration:
        """Read a calibration. Raises InputError when it is not one, does not fit the model, or is of another one."""
        try:
            found = from_json(cls, read_json(path, FORMAT))
        except ValueError as error:
            raise InputError(f"{path} is not a calibration ({error}); delete it, or name another --cache") from error
        if found.model_sha256 != model_sha256:
            raise InputError(f"{path} is the calibration of another model; delete it, or name another --cache")
        try:
            found.check(channels)
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); delete it, or name another --cache") from error
        return found


def channels_of(graph: Graph, layers: Sequence[Layer]) -> dict[str, int]:
    """Return tensor -> how many channels it has, of those that are calibrated."""
    shapes = graph.shapes()
    return {name: shapes[name][1] for name in sorted(scale_groups(layers))}


def calibrate(
    graph: Graph, layers: Sequence[Layer], images: Iterable[Image], hashes: Sequence[str], model_sha256: str
) -> Calibration:
    """Run images, uint8 [S, S, 3], through an FP32 graph and measure what `layers` read and write.

    hashes: SHA-256 of each image's file. The result depends on the set of images, not on their order. Raises InputError
    when there is no image, or a value is not finite.
    """
    groups = scale_groups(layers)
    names = sorted(groups)
    shapes = graph.shapes()
    histograms = {name: Histogram(shapes[name][1]) for name in names}
    count = 0
    for count, values in enumerate(observe(graph, names, images), start=1):  # noqa: B007 (needed after the loop)
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise InputError(f"{name} is not finite on a calibration image; the model is damaged, export it again")
            histograms[name].add(value)
    if not count:
        raise InputError("there is no image to calibrate on; give --data a folder with at least 4 images")
    sizes = {name: np.array([_rounded(v) for v in histograms[name].sizes(OUTLIERS)]) for name in names}
    channels = Channels(graph)
    scales = choose_scales(channels, sizes)
    ranges: dict[str, dict[str, Range]] = {}
    for group in sorted(set(groups.values())):
        members = [name for name in names if groups[name] == group]
        factors = [_scales_of(channels, scales, name, shapes) for name in members]
        counts, ends = merged([histograms[name] for name in members], factors)
        found = {method: range_of(counts, ends) for method, range_of in METHODS.items()}
        for name in members:
            ranges[name] = {method: (_rounded(low), _rounded(high)) for method, (low, high) in found.items()}
    whole = {name: tuple(float(v) for v in size) for name, size in sizes.items()}
    return Calibration(model_sha256, tuple(sorted(hashes)), whole, ranges)


def image_hashes(paths: Iterable[Path]) -> list[str]:
    """Return the SHA-256 of each image file, in the order given."""
    return [sha256_of(path) for path in paths]


def _scales_of(channels: Channels, scales: Array, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Array:
    return scales[channels.of[name]] if name in channels.of else np.ones(shapes[name][1])


def observe(graph: Graph, names: Sequence[str], images: Iterable[Image]) -> Iterator[dict[str, Array]]:
    """Yield for each image, uint8 [S, S, 3], the tensors `names` of an FP32 graph, [1, ...]."""
    import onnxruntime
    from onnx import TensorProto, helper

    from pix2pix_edge.runtime.engines.onnxruntime import physical_cores

    shapes = graph.shapes()
    observed = graph.copy()
    del observed.model.graph.output[:]
    observed.model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in names)
    observed.sort()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = physical_cores()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        observed.to_model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    batch = shapes[graph.input.name][0]
    for image in images:
        values = session.run(names, {INPUT_NAME: np.repeat(image[None], batch, axis=0)})
        yield {name: value[:1] for name, value in zip(names, values, strict=True)}


def _rounded(value: float) -> float:
    """Keep six digits, as many as the file holds."""
    return float(f"{value:.6g}")
