"""Round weights to INT8 so that the results of a convolution stay closest, rather than each weight.

What rounding one weight does to the results, weights that are not rounded yet undo as far as the values they read go
together, which those of neighbouring pixels and of drawn labels mostly do. Frantar, Ashkboos, Hoefler and Alistarh,
"GPTQ" (2022), after Hassibi and Stork, "Optimal Brain Surgeon" (1993). What codes of weights and of values are off on
average goes into the bias: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
(2019); here it is measured. It costs nothing at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from pix2pix_edge.export.graph.graph import Array, Graph, attributes
from pix2pix_edge.export.int8.calibrate import observe
from pix2pix_edge.export.int8.placement import Layer
from pix2pix_edge.runtime.frame import Image

IMAGES = 64
"""So many images are looked at: there are enough places in each."""
PLACES = 8192
"""Of a convolution's places in all images together, so many tell what it reads."""
TOGETHER = 1024
"""Errors are undone among so many weights of one result; a whole row would need its square in memory."""
AT_ONCE = 64
"""Columns whose errors are carried on together."""
DAMPING = 0.01
"""Of the mean variance, added to each, as GPTQ does: no direction counts as if it never occurred."""


@dataclass
class Moments:
    """Mean and covariance of what the weights of one result are multiplied with, in their order.

    total: [weights]. products: [TOGETHER or less, as many] for successive weights.
    """

    count: int
    total: Array
    products: list[Array]

    @classmethod
    def of(cls, weights: int) -> Moments:
        sizes = [min(TOGETHER, weights - start) for start in range(0, weights, TOGETHER)]
        return cls(0, np.zeros(weights), [np.zeros((size, size), np.float32) for size in sizes])

    def add(self, rows: Array) -> None:
        """Count rows: float32 [places, weights]."""
        self.count += len(rows)
        self.total += rows.sum(axis=0, dtype=np.float64)
        for i, products in enumerate(self.products):
            part = rows[:, i * TOGETHER : (i + 1) * TOGETHER]
            products += part.T @ part

    @property
    def mean(self) -> Array:
        return self.total / self.count

    def covariances(self) -> Iterable[Array]:
        for i, products in enumerate(self.products):
            mean = self.mean[i * TOGETHER : (i + 1) * TOGETHER]
            yield products / self.count - np.outer(mean, mean)


@dataclass
class Rounding:
    """Rounds the weights of convolutions whose moments are known, each set of scales once.

    values: tensor that convolutions read -> some of its values, [channels, places].
    """

    moments: Mapping[str, Moments]
    values: Mapping[str, Array]
    _done: dict[tuple[str, bytes], Array] = field(default_factory=dict)

    def codes(self, name: str, weight: Array, scales: Array) -> Array:
        """Return int8 codes of a convolution's weight [out, in, kh, kw]; scales: [out], such that all codes fit."""
        key = name, scales.tobytes()
        if key not in self._done:
            steps = weight.reshape(len(weight), -1) / scales[:, None]
            parts, start = [], 0
            for covariance in self.moments[name].covariances():
                parts.append(_rounded(steps[:, start : start + len(covariance)], covariance))
                start += len(covariance)
            self._done[key] = np.concatenate(parts, axis=1).reshape(weight.shape).astype(np.int8)
        return self._done[key]

    def off(self, tensor: str, scale: float, zero: Array) -> Array:
        """Return how much more each channel of a tensor is on average than what its codes stand for, [channels]."""
        values, ends = self.values[tensor], np.iinfo(zero.dtype)
        codes = np.clip(np.round(values / scale) + int(zero), ends.min, ends.max) - int(zero)
        return np.asarray((values - codes * scale).mean(axis=1))

    def lost(self, name: str, rest: Array) -> Array:
        """Return what is lost on average, [out], where weights are less by `rest`, [out, in, kh, kw]."""
        return np.asarray(rest.reshape(len(rest), -1) @ self.moments[name].mean)


def _rounded(steps: Array, covariance: Array) -> Array:
    """Round numbers of steps, [out, weights], to whole ones from -127 to 127; covariance: of what they multiply."""
    spread = np.diag(covariance)
    # the weights that count most first, while all others can make up for them
    order = np.argsort(-spread, kind="stable")
    damped = covariance[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * max(float(spread.mean()), 1e-12)
    left = np.linalg.cholesky(np.linalg.inv(damped)).T  # row i: how others make up for an error of weight i
    steps = steps[:, order].astype(np.float64)
    for start in range(0, len(order), AT_ONCE):
        end = min(start + AT_ONCE, len(order))
        errors = np.empty((len(steps), end - start))
        for i in range(start, end):
            whole = np.clip(np.round(steps[:, i]), -127, 127)
            errors[:, i - start] = (steps[:, i] - whole) / left[i, i]
            steps[:, i] = whole
            steps[:, i + 1 : end] -= np.outer(errors[:, i - start], left[i, i + 1 : end])
        steps[:, end:] -= errors @ left[start:end, end:]
    codes = np.empty_like(steps)
    codes[:, order] = steps
    return codes


def measure_moments(graph: Graph, layers: Sequence[Layer], images: Iterable[Image]) -> Rounding:
    """Return how to round the weights of layers, by what they read in an FP32 graph for some images."""
    convolutions = {name: layer.source for layer in layers for name in layer.convolutions}
    nodes = {node.name: node for node in graph.nodes if node.name in convolutions}
    moments = {name: Moments.of(graph.constants[node.input[1]][0].size) for name, node in nodes.items()}
    waiting: dict[str, list[Array]] = {name: [] for name in nodes}
    seen: dict[str, list[Array]] = {source: [] for source in sorted(set(convolutions.values()))}
    each = PLACES // IMAGES
    random = np.random.default_rng(0)
    for values in observe(graph, list(seen), images):
        for source, parts in seen.items():
            flat = values[source][0].reshape(values[source].shape[1], -1)
            parts.append(flat[:, random.choice(flat.shape[1], min(each, flat.shape[1]), replace=False)])
        for name, node in nodes.items():
            waiting[name].append(
                read_at(values[convolutions[name]][0], node, graph.constants[node.input[1]].shape, each, random)
            )
            if sum(map(len, waiting[name])) >= AT_ONCE * 8:
                moments[name].add(np.concatenate(waiting[name]))
                waiting[name].clear()
    for name, rows in waiting.items():
        if rows:
            moments[name].add(np.concatenate(rows))
    return Rounding(moments, {source: np.concatenate(parts, axis=1) for source, parts in seen.items()})


def read_at(
    values: Array, conv: onnx.NodeProto, shape: tuple[int, ...], places: int, random: np.random.Generator
) -> Array:
    """Return what a convolution reads, [places, in·kh·kw], at places drawn at random, of values [in, H, W]."""
    known = attributes(conv)
    top, left, bottom, right = known.get("pads", (0, 0, 0, 0))
    (down, across), (step_y, step_x) = known.get("dilations", (1, 1)), known.get("strides", (1, 1))
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right)))
    height, width = (shape[2] - 1) * down + 1, (shape[3] - 1) * across + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    windows = windows[:, ::step_y, ::step_x, ::down, ::across]
    all_places = windows.shape[1] * windows.shape[2]
    drawn = random.choice(all_places, min(places, all_places), replace=False)
    rows = windows[:, drawn // windows.shape[2], drawn % windows.shape[2]].swapaxes(0, 1)
    return np.ascontiguousarray(rows, np.float32).reshape(len(drawn), -1)
