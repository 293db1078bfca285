"""Round weights to INT8 so that the results of a convolution stay closest, rather than each weight.

What rounding one weight does to the results, weights that are not rounded yet undo as far as the values they read go
together, which those of neighbouring pixels and of drawn labels mostly do. Frantar, Ashkboos, Hoefler and Alistarh,
"GPTQ" (2022), after Hassibi and Stork, "Optimal Brain Surgeon" (1993). Where the phases of an upsampling are summed
over a box, the sums have to stay close, and weights of all phases make up for each other. What codes of weights and of
values are off on average goes into the bias: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (2019); here it is measured. It costs nothing at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

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


@dataclass(frozen=True)
class Box:
    """The sums over a window that follow a convolution of phases: depth-to-space, and a depthwise convolution.

    kernel: [height, width], of every channel up to a factor; its sum is the number of phases, so that a sum is as large
    as one of them on average. pads: top, left, bottom, right. by_columns: a channel's phases are neighbours (CRD).
    """

    blocksize: int
    kernel: Array
    pads: tuple[int, ...]
    by_columns: bool

    @classmethod
    def after(cls, graph: Graph, conv: onnx.NodeProto) -> Box | None:
        """Return the box that alone reads what a convolution writes; None where there is none."""
        interleave = graph.only_reader(conv.output[0])
        if interleave is None or interleave.op_type != "DepthToSpace":
            return None
        summing = graph.only_reader(interleave.output[0])
        if summing is None or summing.op_type != "Conv":
            return None
        weight = graph.constants.get(summing.input[1])
        if weight is None or weight.shape[1] != 1:
            return None
        known, sums = attributes(summing), weight.sum(axis=(1, 2, 3), dtype=np.float64)
        shares = weight[sums != 0, 0] / sums[sums != 0, None, None]
        steps = {*known.get("strides", ()), *known.get("dilations", ())}
        if steps - {1} or len(shares) == 0 or shares.min() < 0 or not np.allclose(shares, shares[0], atol=1e-3):
            return None
        blocksize, mode = attributes(interleave)["blocksize"], attributes(interleave).get("mode", b"DCR")
        return cls(blocksize, shares[0] * blocksize**2, tuple(known.get("pads", (0, 0, 0, 0))), mode == b"CRD")

    @property
    def phases(self) -> int:
        return self.blocksize**2

    def split(self, weight: Array) -> Array:
        """Return what belongs to each channel of the sums: [out, weights] -> [out/phases, phases, weights]."""
        if self.by_columns:
            return np.asarray(weight.reshape(-1, self.phases, weight.shape[1]))
        return np.asarray(weight.reshape(self.phases, -1, weight.shape[1]).swapaxes(0, 1))

    def joined(self, parts: Array) -> Array:
        """Undo split()."""
        parts = parts if self.by_columns else parts.swapaxes(0, 1)
        return np.asarray(parts.reshape(-1, parts.shape[2]))


@dataclass
class Moments:
    """Mean and covariance of what the weights of one result are multiplied with, in their order.

    Of a sum over a box, these are the weights of all its phases, and the phases of one weight are neighbours.
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

    values: tensor that convolutions read -> some of its values, [channels, places]. boxes: of those convolutions whose
    results are summed.
    """

    moments: Mapping[str, Moments]
    values: Mapping[str, Array]
    boxes: Mapping[str, Box] = field(default_factory=dict)
    _done: dict[tuple[str, bytes], Array] = field(default_factory=dict)

    def codes(self, name: str, weight: Array, scales: Array) -> Array:
        """Return int8 codes of a convolution's weight [out, in, kh, kw]; scales: [out], such that all codes fit."""
        key = name, scales.tobytes()
        if key not in self._done:
            rows = weight.reshape(len(weight), -1)
            self._done[key] = self._codes(name, rows, scales).reshape(weight.shape).astype(np.int8)
        return self._done[key]

    def _codes(self, name: str, rows: Array, scales: Array) -> Array:
        box, sizes = self.boxes.get(name), np.broadcast_to(scales[:, None].astype(np.float64), rows.shape)
        if box:
            rows, sizes = (
                box.split(each).swapaxes(1, 2).reshape(-1, rows.shape[1] * box.phases) for each in (rows, sizes)
            )
        parts, start = [], 0
        for covariance in self.moments[name].covariances():
            these = slice(start, start + len(covariance))
            parts.append(_rounded(rows[:, these], sizes[:, these], covariance))
            start += len(covariance)
        codes = np.concatenate(parts, axis=1)
        return box.joined(codes.reshape(len(codes), -1, box.phases).swapaxes(1, 2)) if box else codes

    def off(self, tensor: str, scale: float, zero: Array) -> Array:
        """Return how much more each channel of a tensor is on average than what its codes stand for, [channels]."""
        values, ends = self.values[tensor], np.iinfo(zero.dtype)
        codes = np.clip(np.round(values / scale) + int(zero), ends.min, ends.max) - int(zero)
        return np.asarray((values - codes * scale).mean(axis=1))

    def lost(self, name: str, rest: Array) -> Array:
        """Return what is lost on average, [out], where weights are less by `rest`, [out, in, kh, kw]."""
        rows, mean, box = rest.reshape(len(rest), -1), self.moments[name].mean, self.boxes.get(name)
        if not box:
            return np.asarray(rows @ mean)
        each = np.einsum("cpk,kp->cp", box.split(rows), mean.reshape(-1, box.phases))
        return box.joined(each[:, :, None])[:, 0]


def _rounded(weights: Array, sizes: Array, covariance: Array) -> Array:
    """Return codes, -127 to 127, of weights [out, weights] in steps of sizes; covariance: of what they multiply."""
    spread = np.diag(covariance)
    # the weights that count most first, while all others can make up for them
    order = np.argsort(-spread, kind="stable")
    damped = covariance[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * max(float(spread.mean()), 1e-12)
    left = np.linalg.cholesky(np.linalg.inv(damped)).T  # row i: how others make up for an error of weight i
    weights, sizes = weights[:, order].astype(np.float64), sizes[:, order]
    codes = np.empty_like(weights)
    for start in range(0, len(order), AT_ONCE):
        end = min(start + AT_ONCE, len(order))
        errors = np.empty((len(weights), end - start))
        for i in range(start, end):
            codes[:, order[i]] = whole = np.clip(np.round(weights[:, i] / sizes[:, i]), -127, 127)
            errors[:, i - start] = (weights[:, i] - whole * sizes[:, i]) / left[i, i]
            weights[:, i + 1 : end] -= np.outer(errors[:, i - start], left[i, i + 1 : end])
        weights[:, end:] -= errors @ left[start:end, end:]
    return codes


def measure_moments(graph: Graph, layers: Sequence[Layer], images: Iterable[Image]) -> Rounding:
    """Return how to round the weights of layers, by what they read in an FP32 graph for some images."""
    convolutions = {name: layer.source for layer in layers for name in layer.convolutions}
    nodes = {node.name: node for node in graph.nodes if node.name in convolutions}
    weights = {name: graph.constants[node.input[1]].shape for name, node in nodes.items()}
    boxes = {name: box for name, node in nodes.items() if (box := Box.after(graph, node))}
    phases = {name: boxes[name].phases if name in boxes else 1 for name in nodes}
    moments = {name: Moments.of(prod(weights[name][1:]) * phases[name]) for name in nodes}
    waiting: dict[str, list[Array]] = {name: [] for name in nodes}
    seen: dict[str, list[Array]] = {source: [] for source in sorted(set(convolutions.values()))}
    each = PLACES // IMAGES
    random = np.random.default_rng(0)
    for values in observe(graph, list(seen), images):
        for source, parts in seen.items():
            flat = values[source][0].reshape(values[source].shape[1], -1)
            parts.append(flat[:, random.choice(flat.shape[1], min(each, flat.shape[1]), replace=False)])
        for name, node in nodes.items():
            read = values[convolutions[name]][0]
            waiting[name].append(read_at(read, node, weights[name], each, random, boxes.get(name)))
            if sum(map(len, waiting[name])) >= AT_ONCE * 8:
                moments[name].add(np.concatenate(waiting[name]))
                waiting[name].clear()
    for name, rows in waiting.items():
        if rows:
            moments[name].add(np.concatenate(rows))
    return Rounding(moments, {source: np.concatenate(parts, axis=1) for source, parts in seen.items()}, boxes)


def read_at(
    values: Array,
    conv: onnx.NodeProto,
    shape: tuple[int, ...],
    places: int,
    random: np.random.Generator,
    box: Box | None = None,
) -> Array:
    """Return what a convolution reads, [places, in·kh·kw], at places drawn at random, of values [in, H, W].

    box: at places of its sums, what each phase reads for them: [places, in·kh·kw·phases].
    """
    known = attributes(conv)
    top, left, bottom, right = known.get("pads", (0, 0, 0, 0))
    (down, across), (step_y, step_x) = known.get("dilations", (1, 1)), known.get("strides", (1, 1))
    padded = np.pad(values, ((0, 0), (top, bottom), (left, right)))
    height, width = (shape[2] - 1) * down + 1, (shape[3] - 1) * across + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    windows = windows[:, ::step_y, ::step_x, ::down, ::across]
    # without a box, each place is the sum over itself
    box = box or Box(1, np.ones((1, 1)), (0, 0, 0, 0), by_columns=False)
    size = np.array(windows.shape[1:3]) * box.blocksize
    sums = size + np.array(box.pads[:2]) + np.array(box.pads[2:]) - box.kernel.shape + 1
    drawn = random.choice(prod(sums.tolist()), min(places, prod(sums.tolist())), replace=False)
    found = np.zeros((len(drawn), prod(shape[1:]), box.phases), np.float32)
    for offset, share in np.ndenumerate(box.kernel):
        at = np.stack(np.divmod(drawn, sums[1])) + np.subtract(offset, box.pads[:2])[:, None]
        inside = np.flatnonzero(((at >= 0) & (at < size[:, None])).all(axis=0))
        (y, x), (phase_y, phase_x) = np.divmod(at[:, inside], box.blocksize)
        read = windows[:, y, x].swapaxes(0, 1).reshape(len(inside), -1)
        found[inside, :, phase_y * box.blocksize + phase_x] += np.float32(share) * read
    return found.reshape(len(drawn), -1)
