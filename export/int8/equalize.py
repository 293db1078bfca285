"""Scale channels against each other, so that one quantisation scale for a whole tensor fits all of its channels.

The graph's function stays the same: a convolution may give its channel k times as large if everything that reads the
channel divides by k again; ReLU, leaky ReLU, depth-to-space, concatenation and the shift of a batch norm let a positive
k through. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), balance
weights this way; here activations are balanced, by how large each channel gets on the calibration images, because
weights have a scale for each output channel anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from pix2pix_edge.export.graph.graph import Array, Graph, attributes

Ids = NDArray[np.int64]

SAME_CHANNELS = frozenset(("Identity", "Relu", "LeakyRelu", "MaxPool", "AveragePool", "Resize"))
WITH_CONSTANT = frozenset(("Add", "Sub", "Max", "Min"))

WIDEST = 2.0**8
"""No channel is scaled by more than this, or by less than its inverse."""


class Channels:
    """Which channels of which tensors take one scale together.

    of: tensor -> the group of each of its channels (axis 1), for tensors whose channels can be followed. fixed: groups
    whose scale must stay 1, because they are also read or written by what does not let a scale through.
    """

    def __init__(self, graph: Graph) -> None:
        """graph: NCHW, static shapes, in topological order."""
        self._parent: list[int] = []
        self._pinned: list[Ids] = []
        self.of: dict[str, Ids] = {}
        shapes = graph.shapes()
        for node in graph.nodes:
            written = self._written(graph, node, shapes)
            if written is None:
                self._pinned += [self.of[name] for name in node.input if name in self.of]
            else:
                self.of[node.output[0]] = written
        self._pinned += [self.of[graph.output.name]] if graph.output.name in self.of else []
        self.of = {name: np.array([self._find(int(i)) for i in ids]) for name, ids in self.of.items()}
        self.fixed = {self._find(int(i)) for ids in self._pinned for i in ids}
        self.count = len(self._parent)

    def _written(self, graph: Graph, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> Ids | None:
        """Return the groups of the channels that a node writes, or None where it lets no scale through."""
        known = attributes(node)
        if input_axis(graph, node) is not None:
            return self._new(shapes[node.output[0]][1])
        if node.op_type == "Concat" and known["axis"] in (1, 1 - len(shapes[node.output[0]])):
            for name in node.input:
                if name not in self.of:
                    self.of[name] = self._new(shapes[name][1])
                    self._pinned.append(self.of[name])
            return np.concatenate([self.of[name] for name in node.input])
        ids = self.of.get(node.input[0])
        if ids is None:
            return None
        if node.op_type in SAME_CHANNELS or shift_of(graph, node, len(ids)) is not None:
            return ids
        if node.op_type == "DepthToSpace":
            phases = known["blocksize"] ** 2
            by_columns = known.get("mode", b"DCR") == b"CRD"
            together = ids.reshape(-1, phases) if by_columns else ids.reshape(phases, -1).T
            for first, *others in together:
                for other in others:
                    self._parent[self._find(int(other))] = self._find(int(first))
            return together[:, 0]
        return None

    def _new(self, count: int) -> Ids:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _find(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i


def input_axis(graph: Graph, node: onnx.NodeProto) -> int | None:
    """Return the axis of a convolution's constant weight that stands for input channels, or None.

    None for what is no convolution, or reads some of its input channels only (groups), but for depthwise ones.
    """
    if node.op_type not in ("Conv", "ConvTranspose") or node.input[1] not in graph.constants:
        return None
    weight, groups = graph.constants[node.input[1]], attributes(node).get("group", 1)
    if groups == 1:
        return 1 if node.op_type == "Conv" else 0
    return 0 if node.op_type == "Conv" and weight.shape[1] == 1 and weight.shape[0] == groups else None


def shift_of(graph: Graph, node: onnx.NodeProto, channels: int) -> Array | None:
    """Return the constant that a node adds to, or compares with, each channel: [channels] or a scalar; else None."""
    if node.op_type not in WITH_CONSTANT or len(node.input) != 2 or node.input[1] not in graph.constants:
        return None
    value = graph.constants[node.input[1]]
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.shape[-3:] == (channels, 1, 1) and value.size == channels else None


def choose_scales(channels: Channels, sizes: Mapping[str, Array]) -> Array:
    """Return the scale by which each group of channels gets as large as the others: [channels.count].

    1 for those that nothing is known about. sizes: tensor -> how large each of its channels gets; those that cannot be
    followed do not count. Weights that read the channels get as unlike as these were; rounding.py makes up for it.
    """
    largest = np.zeros(channels.count)
    for name, size in sizes.items():
        if name in channels.of:
            np.maximum.at(largest, channels.of[name], size)
    scales = np.ones(channels.count)
    free = largest > 0
    free[sorted(channels.fixed)] = False
    if free.any():
        logs = np.log(largest[free])
        scales[free] = np.exp(logs.mean() - logs)
    return np.clip(scales, 1 / WIDEST, WIDEST)


def equalize(graph: Graph, channels: Channels, scales: Array) -> None:
    """Scale the channels of a graph in place. scales: of each group, > 0."""

    def of(name: str) -> Array:
        return scales[channels.of[name]] if name in channels.of else np.ones(1)

    def put(node: onnx.NodeProto, position: int, value: Array) -> None:
        old = graph.constants[node.input[position]]
        node.input[position] = graph.constant(node.input[position], value.astype(old.dtype))

    for node in graph.nodes:
        axis = input_axis(graph, node)
        if axis is not None:
            weight = graph.constants[node.input[1]]
            depthwise = attributes(node).get("group", 1) > 1
            inwards = [1] * weight.ndim
            inwards[axis] = -1
            outwards = [1] * weight.ndim
            outwards[0 if depthwise else 1 - axis] = -1
            put(node, 1, weight / of(node.input[0]).reshape(inwards) * of(node.output[0]).reshape(outwards))
            if len(node.input) > 2 and node.input[2]:
                put(node, 2, graph.constants[node.input[2]] * of(node.output[0]))
        elif node.output[0] in channels.of and node.input[0] in channels.of:
            ids = channels.of[node.output[0]]
            shift = shift_of(graph, node, len(ids))
            if shift is not None:
                put(node, 1, (shift * scales[ids]).reshape(1, -1, 1, 1))
    graph.sort()
