"""Which convolutions may be INT8, and what they read and write.

The inputs of a concatenation share one scale, so that it joins codes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

import onnx

from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.export.int8.equalize import input_axis


@dataclass(frozen=True)
class Pixels:
    """The uint8 image as a convolution reads it: scale·level + shift."""

    scale: float
    shift: float


@dataclass(frozen=True)
class Layer:
    """Convolutions that are INT8 together or not at all: one, or the phases of one.

    convolutions: names of their nodes. source: the tensor they read. parts: the tensors that it joins (itself, where
    it is no concatenation). results: the tensors to quantise after them. pixels: where they read the image itself.
    """

    convolutions: tuple[str, ...]
    source: str
    parts: tuple[str, ...]
    results: tuple[str, ...]
    multiply_adds: int
    weights: int
    pixels: Pixels | None = None

    @property
    def name(self) -> str:
        return self.convolutions[0]


def find_layers(graph: Graph) -> list[Layer]:
    """Return what may be INT8, in the order of the graph.

    Left out: depthwise and transposed convolutions, and the last ones before the picture, whose codes would be seen as
    banding.
    """
    shapes, producers, consumers = graph.shapes(), graph.producers(), graph.consumers()

    def full(node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and input_axis(graph, node) == 1 and attributes(node).get("group", 1) == 1

    leads_on: dict[str, bool] = {}  # tensor -> whether a full convolution reads it, sooner or later
    for node in reversed(graph.nodes):
        further = full(node) or any(leads_on.get(name, False) for name in node.output)
        for name in node.input:
            leads_on[name] = leads_on.get(name, False) or further

    found: dict[tuple[str, str], list[onnx.NodeProto]] = {}
    results: dict[str, str] = {}
    for node in graph.nodes:
        if not full(node) or not leads_on.get(node.output[0], False):
            continue
        result, readers = node.output[0], consumers[node.output[0]]
        if len(readers) == 1 and readers[0].op_type == "Relu":
            result, readers = readers[0].output[0], consumers[readers[0].output[0]]
        results[node.name] = result
        joined = len(readers) == 1 and readers[0].op_type == "Concat"
        found.setdefault((node.input[0], readers[0].name if joined else node.name), []).append(node)
    layers = []
    for nodes in found.values():
        source = nodes[0].input[0]
        layers.append(
            Layer(
                tuple(node.name for node in nodes),
                source,
                _parts(source, producers, shapes),
                tuple(results[node.name] for node in nodes),
                sum(prod(shapes[n.output[0]]) * prod(graph.constants[n.input[1]].shape[1:]) for n in nodes),
                sum(graph.constants[n.input[1]].size for n in nodes),
                _pixels(graph, source, producers),
            )
        )
    return layers


def _parts(
    source: str, producers: Mapping[str, onnx.NodeProto], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    maker = producers.get(source)
    if maker is None or maker.op_type != "Concat" or attributes(maker)["axis"] not in (1, 1 - len(shapes[source])):
        return (source,)
    return tuple(part for name in maker.input for part in _parts(name, producers, shapes))


def _pixels(graph: Graph, source: str, producers: Mapping[str, onnx.NodeProto]) -> Pixels | None:
    """Follow a tensor back to the uint8 image through casts, transposes and arithmetic with one number."""
    steps, name = [], source
    while name != graph.input.name:
        node = producers.get(name)
        others = [] if node is None else [n for n in node.input[1:] if n not in graph.constants]
        if node is None or others or any(graph.constants[n].size != 1 for n in node.input[1:]):
            return None
        if node.op_type not in ("Cast", "Transpose", "Add", "Sub", "Mul", "Div"):
            return None
        steps.append(node)
        name = node.input[0]
    scale, shift = 1.0, 0.0
    for node in reversed(steps):
        by = float(graph.constants[node.input[1]].reshape(())) if len(node.input) > 1 else 0.0
        if node.op_type in ("Mul", "Div"):
            factor = by if node.op_type == "Mul" else 1 / by
            scale, shift = scale * factor, shift * factor
        elif node.op_type in ("Add", "Sub"):
            shift += by if node.op_type == "Add" else -by
    return Pixels(scale, shift) if scale > 0 else None


def scale_groups(layers: Collection[Layer]) -> dict[str, str]:
    """Return tensor to quantise -> the group whose scale it takes: tensors that are ever concatenated share one."""
    group: dict[str, str] = {}

    def find(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    for layer in layers:
        if layer.pixels is None:
            for part in layer.parts:
                group[find(part)] = find(layer.parts[0])
        for result in layer.results:
            find(result)
    return {name: find(name) for name in list(group)}
