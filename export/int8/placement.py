"""Where Q/DQ go: which convolutions may be INT8, what they read and write, and the nodes that make them so.

Both targets quantise the inputs of convolutions, per tensor, and their weights, per output channel. The inputs of a
concatenation share one scale, so that it joins codes. For CPUs also the outputs: ONNX Runtime computes in INT8 only
between two quantised tensors; what is between an output and the next input stays in floating point.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.export.int8.equalize import input_axis
from pix2pix_edge.export.int8.histogram import Range

TARGETS = ("tensorrt", "cpu")

NARROWEST_SCALE = 2.0**-14
"""The smallest scale of activations, for those that are always zero: the smallest normal number of FP16."""
NARROWEST_WEIGHT_SCALE = 2.0**-20
"""The smallest scale of weights for TensorRT: below it FP16 has fewer than 16 numbers up to the next power of two."""
PIXEL_STEP = 2.0**-7
"""What one level of the image is for TensorRT: (level - 128)·2⁻⁷ lies in [-1, 1), and FP16 has it exactly."""


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


def quantized(graph: Graph, layers: Collection[Layer], ranges: Mapping[str, Range], target: str) -> Graph:
    """Return a copy of an FP32 graph in which `layers` are INT8 for one of TARGETS; the rest is still FP32.

    ranges: tensor -> [low, high] that its codes are to span; the same for all of a scale group.
    """
    placer = _Placer(graph.copy(), ranges, target)
    if target == "cpu":
        for layer in layers:
            for result in layer.results:
                placer.quantize_for_all(result)
    for layer in layers:
        placer.quantize_inputs(layer)
    placer.graph.sort()
    return placer.graph


class _Placer:
    """Adds Q/DQ to a graph. TensorRT: int8 codes around zero; CPUs: uint8 codes with a zero point."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Range], target: str) -> None:
        self.graph, self.ranges, self.target = graph, ranges, target
        self.codes: dict[str, tuple[str, str, str]] = {}  # tensor -> its codes, their scale and zero point
        self.plain: dict[str, str] = {}  # tensor -> what its codes stand for

    def quantize_for_all(self, tensor: str) -> None:
        """Let everything that reads a tensor read what its codes stand for."""
        readers = self.graph.consumers()[tensor]
        stands_for = self._dequantized(tensor)
        for node in readers:
            for position, name in enumerate(node.input):
                if name == tensor:
                    node.input[position] = stands_for

    def quantize_inputs(self, layer: Layer) -> None:
        """Make the convolutions of a layer read codes, of their source and of their weights."""
        factor, shift = self._exact_pixels(layer) or (1.0, 0.0)
        self._joined(layer)
        by_name = {node.name: node for node in self.graph.nodes}
        for name in layer.convolutions:
            self._quantize_weights(by_name[name], layer.source, factor, shift)

    def _exact_pixels(self, layer: Layer) -> tuple[float, float] | None:
        """Use the image's levels themselves as codes.

        Returns (factor, shift): the source is factor·(what the codes then stand for) + shift. None where they do not
        fit the target's codes to within half a level, which is what a border, whose zeros are not shifted, would be
        wrong by.
        """
        pixels, graph = layer.pixels, self.graph
        if pixels is None:
            return None
        zero = 128 if self.target == "tensorrt" else round(-pixels.shift / pixels.scale)
        shift = pixels.shift + pixels.scale * zero
        if not 0 <= zero <= 255 or abs(shift) > 0.501 * pixels.scale:
            return None
        tensor, producers, perms = layer.source, graph.producers(), []
        while tensor != graph.input.name:
            if producers[tensor].op_type == "Transpose":
                perms.append(attributes(producers[tensor])["perm"])
            tensor = producers[tensor].input[0]
        if self.target == "tensorrt":
            tensor = self._add("Cast", [tensor], "image/real", to=onnx.TensorProto.FLOAT)
            step = graph.constant("image/step:constant", np.array(PIXEL_STEP, np.float32))
            tensor = self._add("Mul", [tensor, step], "image/step")
            middle = graph.constant("image/middle:constant", np.array(-zero * PIXEL_STEP, np.float32))
            tensor = self._add("Add", [tensor, middle], "image/middle")
        for perm in reversed(perms):
            tensor = self._add("Transpose", [tensor], "image/transpose", perm=perm)
        if self.target == "tensorrt":
            scale, zero_point = self._constants("image", PIXEL_STEP, np.int8(0))
            tensor = self._add("QuantizeLinear", [tensor, scale, zero_point], "image/quantize")
            self.codes[layer.source] = tensor, scale, zero_point
            return pixels.scale / PIXEL_STEP, shift
        self.codes[layer.source] = tensor, *self._constants("image", pixels.scale, np.uint8(zero))
        return 1.0, shift

    def _joined(self, layer: Layer) -> None:
        """Quantise the parts of a source, and join their codes."""
        if layer.source in self.codes:
            return
        codes = [self._quantized(part, layer.pixels) for part in layer.parts]
        joined, scale, zero = codes[0]
        if len(codes) > 1:
            joined = self._add("Concat", [name for name, _, _ in codes], f"{_stem(layer.source)}/codes", axis=1)
        self.codes[layer.source] = joined, scale, zero

    def _quantized(self, tensor: str, pixels: Pixels | None = None) -> tuple[str, str, str]:
        if tensor not in self.codes:
            low, high = self.ranges[tensor] if pixels is None else (pixels.shift, pixels.shift + 255 * pixels.scale)
            scale, zero = self._code_constants(tensor, min(low, 0.0), max(high, 0.0))
            code = self._add("QuantizeLinear", [tensor, scale, zero], f"{_stem(tensor)}/quantize")
            self.codes[tensor] = code, scale, zero
        return self.codes[tensor]

    def _dequantized(self, tensor: str) -> str:
        if tensor not in self.plain:
            self.plain[tensor] = self._add("DequantizeLinear", self._quantized(tensor), f"{_stem(tensor)}/dequantize")
        return self.plain[tensor]

    def _code_constants(self, tensor: str, low: float, high: float) -> tuple[str, str]:
        if self.target == "tensorrt":
            return self._constants(_stem(tensor), _fp16(max(-low, high) / 127, NARROWEST_SCALE), np.int8(0))
        scale = max((high - low) / 255, NARROWEST_SCALE)
        return self._constants(_stem(tensor), scale, np.uint8(np.clip(round(-low / scale), 0, 255)))

    def _constants(self, stem: str, scale: float, zero: np.int8 | np.uint8) -> tuple[str, str]:
        return (
            self.graph.constant(f"{stem}/quantize:scale", np.array(scale, np.float32)),
            self.graph.constant(f"{stem}/quantize:zero", np.array(zero)),
        )

    def _quantize_weights(self, conv: onnx.NodeProto, source: str, factor: float, shift: float) -> None:
        graph = self.graph
        weight = graph.constants[conv.input[1]].astype(np.float64)
        has_bias = len(conv.input) > 2 and conv.input[2]
        bias = graph.constants[conv.input[2]].astype(np.float64) if has_bias else np.zeros(len(weight))
        bias = bias + shift * weight.sum(axis=(1, 2, 3))
        weight = factor * weight
        largest = np.abs(weight).max(axis=(1, 2, 3))
        scales = np.where(largest > 0, largest, 127.0) / 127
        source_scale = float(graph.constants[self.codes[source][1]])
        if self.target == "tensorrt":
            scales = np.array([_fp16(scale, NARROWEST_WEIGHT_SCALE) for scale in scales])
        else:  # the bias, counted in steps of source_scale·scale, must fit into 32 bits
            scales = np.maximum(scales, np.abs(bias) / source_scale / 2**30)
        scales = scales.astype(np.float32)
        codes = np.clip(np.round(weight / scales.astype(np.float64)[:, None, None, None]), -127, 127).astype(np.int8)
        inputs = [
            graph.constant(f"{conv.name}:weight_codes", codes),
            graph.constant(f"{conv.name}:weight_scales", scales),
            graph.constant(f"{conv.name}:weight_zeros", np.zeros(len(scales), np.int8)),
        ]
        conv.input[0] = self._dequantized(source)
        conv.input[1] = self._add("DequantizeLinear", inputs, f"{conv.name}/weight", axis=0)
        del conv.input[2:]
        if self.target == "cpu":
            steps = source_scale * scales.astype(np.float64)
            inputs = [
                graph.constant(f"{conv.name}:bias_codes", np.round(bias / steps).astype(np.int32)),
                graph.constant(f"{conv.name}:bias_scales", steps.astype(np.float32)),
                graph.constant(f"{conv.name}:bias_zeros", np.zeros(len(scales), np.int32)),
            ]
            conv.input.append(self._add("DequantizeLinear", inputs, f"{conv.name}/bias", axis=0))
        elif has_bias or bias.any():
            conv.input.append(graph.constant(f"{conv.name}:bias", bias.astype(np.float32)))

    def _add(self, op: str, inputs: Collection[str], name: str, **attributes_: Any) -> str:
        node = self.graph.node(op, inputs, name, **attributes_)
        self.graph.nodes.append(node)
        return str(node.output[0])


def _stem(tensor: str) -> str:
    """Return the name of the node that a tensor is named after."""
    return tensor.rpartition(":")[0] or tensor


def _fp16(scale: float, narrowest: float) -> float:
    """Round a scale up to one that FP16 has, so that the largest value still fits the codes."""
    rounded = np.float16(max(scale, narrowest))
    return float(rounded if rounded >= scale else np.nextafter(rounded, np.float16(np.inf)))
