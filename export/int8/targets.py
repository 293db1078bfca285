"""The Q/DQ nodes that make convolutions INT8, for each kind of engine.

Every target quantises the inputs of convolutions, per tensor, and their weights, per output channel. What is between an
output and the next input stays in floating point.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import onnx

from pix2pix_edge.export.graph.graph import Array, Graph, attributes
from pix2pix_edge.export.graph.layout import arrange
from pix2pix_edge.export.int8.histogram import Range
from pix2pix_edge.export.int8.placement import Layer, Pixels
from pix2pix_edge.export.int8.rounding import Rounding

NARROWEST_SCALE = 2.0**-14
"""The smallest scale of activations, for those that are always zero: the smallest normal number of FP16."""
NARROWEST_WEIGHT_SCALE = 2.0**-20
"""The smallest scale of weights in FP16: below it FP16 has fewer than 16 numbers up to the next power of two."""
PIXEL_STEP = 2.0**-7
"""What one level of the image is for TensorRT: (level - 128)·2⁻⁷ lies in [-1, 1), and FP16 has it exactly."""

Codes = tuple[str, str, str]
"""The names of codes, their scale and their zero point."""


class Target(abc.ABC):
    """Adds Q/DQ to a copy of an FP32 graph; a subclass says how codes look for its engines.

    name: what --target calls it. ending: of its files.
    """

    name: ClassVar[str]
    ending: ClassVar[str]

    def __init__(self, graph: Graph, ranges: Mapping[str, Range], rounding: Rounding) -> None:
        """ranges: tensor -> [low, high] that its codes are to span; the same for all of a scale group."""
        self.graph, self.ranges, self.rounding = graph.copy(), ranges, rounding
        self.codes: dict[str, Codes] = {}
        self.plain: dict[str, str] = {}  # tensor -> what its codes stand for

    @classmethod
    def quantized(
        cls, graph: Graph, layers: Collection[Layer], ranges: Mapping[str, Range], rounding: Rounding
    ) -> Graph:
        """Return a copy of an FP32 graph in which `layers` are INT8; the rest is still FP32."""
        target = cls(graph, ranges, rounding)
        target.quantize_results(layers)
        for layer in layers:
            target.quantize_inputs(layer)
        target.graph.sort()
        return target.graph

    @classmethod
    def finished(cls, graph: Graph) -> Graph:
        """Return a quantised graph as it is written: its types and layout as they suit the target."""
        return graph

    @abc.abstractmethod
    def quantize_results(self, layers: Collection[Layer]) -> None:
        """Quantise what convolutions write, where the target computes in INT8 only then."""

    @abc.abstractmethod
    def middle(self, pixels: Pixels) -> int:
        """Return the level of the image whose code is the zero point."""

    @abc.abstractmethod
    def image_codes(self, tensor: str, perms: Collection[Any], pixels: Pixels) -> tuple[Codes, float]:
        """Return the image's codes, transposed as `perms` say, and the factor to what the source holds."""

    @abc.abstractmethod
    def code_constants(self, tensor: str, low: float, high: float) -> tuple[str, str]:
        """Return the names of a scale and a zero point whose codes span [low, high]."""

    @abc.abstractmethod
    def weight_scales(self, scales: Array, bias: Array, source_scale: float) -> Array:
        """Return the scales of weights, a little larger where the target needs it."""

    @abc.abstractmethod
    def bias(self, conv: onnx.NodeProto, bias: Array, steps: Array, given: bool) -> str | None:
        """Return the name of a bias, of what `steps` count for INT8; None where it needs none."""

    def quantize_inputs(self, layer: Layer) -> None:
        """Make the convolutions of a layer read codes, of their source and of their weights."""
        exact = self._exact_pixels(layer)
        self._joined(layer)
        by_name = {node.name: node for node in self.graph.nodes}
        for name in layer.convolutions:
            self._quantize_weights(by_name[name], layer.source, exact)

    def _exact_pixels(self, layer: Layer) -> tuple[float, float] | None:
        """Use the image's levels themselves as codes.

        Returns (factor, shift): the source is factor·(what the codes then stand for) + shift. None where they do not
        fit the target's codes to within half a level, which is what a border, whose zeros are not shifted, would be
        wrong by.
        """
        pixels = layer.pixels
        if pixels is None:
            return None
        zero = self.middle(pixels)
        shift = pixels.shift + pixels.scale * zero
        if not 0 <= zero <= 255 or abs(shift) > 0.501 * pixels.scale:
            return None
        tensor, producers, perms = layer.source, self.graph.producers(), []
        while tensor != self.graph.input.name:
            if producers[tensor].op_type == "Transpose":
                perms.append(attributes(producers[tensor])["perm"])
            tensor = producers[tensor].input[0]
        self.codes[layer.source], factor = self.image_codes(tensor, perms[::-1], pixels)
        return factor, shift

    def _joined(self, layer: Layer) -> None:
        """Quantise the parts of a source, and join their codes."""
        if layer.source in self.codes:
            return
        codes = [self._quantized(part, layer.pixels) for part in layer.parts]
        joined, scale, zero = codes[0]
        if len(codes) > 1:
            joined = self.add("Concat", [name for name, _, _ in codes], f"{_stem(layer.source)}/codes", axis=1)
        self.codes[layer.source] = joined, scale, zero

    def _quantized(self, tensor: str, pixels: Pixels | None = None) -> Codes:
        if tensor not in self.codes:
            low, high = self.ranges[tensor] if pixels is None else (pixels.shift, pixels.shift + 255 * pixels.scale)
            scale, zero = self.code_constants(_stem(tensor), min(low, 0.0), max(high, 0.0))
            code = self.add("QuantizeLinear", [tensor, scale, zero], f"{_stem(tensor)}/quantize")
            self.codes[tensor] = code, scale, zero
        return self.codes[tensor]

    def dequantized(self, tensor: str) -> str:
        """Return the name of what a tensor's codes stand for."""
        if tensor not in self.plain:
            self.plain[tensor] = self.add("DequantizeLinear", self._quantized(tensor), f"{_stem(tensor)}/dequantize")
        return self.plain[tensor]

    def constants(self, stem: str, scale: float, zero: np.int8 | np.uint8) -> tuple[str, str]:
        """Add a scale and a zero point, and return their names."""
        return (
            self.graph.constant(f"{stem}/quantize:scale", np.array(scale, np.float32)),
            self.graph.constant(f"{stem}/quantize:zero", np.array(zero)),
        )

    def _quantize_weights(self, conv: onnx.NodeProto, source: str, exact: tuple[float, float] | None) -> None:
        graph, (factor, shift) = self.graph, exact or (1.0, 0.0)
        weight = graph.constants[conv.input[1]].astype(np.float64)
        given = len(conv.input) > 2 and bool(conv.input[2])
        bias = graph.constants[conv.input[2]].astype(np.float64) if given else np.zeros(len(weight))
        bias = bias + shift * weight.sum(axis=(1, 2, 3))
        weight = factor * weight
        largest = np.abs(weight).max(axis=(1, 2, 3))
        source_scale, zero = float(graph.constants[self.codes[source][1]]), graph.constants[self.codes[source][2]]
        if not exact:
            bias = bias + weight.sum(axis=(2, 3)) @ self.rounding.off(source, source_scale, zero)
        scales = self.weight_scales(np.where(largest > 0, largest, 127.0) / 127, bias, source_scale).astype(np.float32)
        codes = self.rounding.codes(conv.name, weight, scales)
        rest = weight - scales.astype(np.float64)[:, None, None, None] * codes
        bias = bias + (self.rounding.lost(conv.name, rest) - shift * rest.sum(axis=(1, 2, 3))) / factor
        conv.input[0] = self.dequantized(source)
        read_codes(graph, conv, codes, scales)
        del conv.input[2:]
        name = self.bias(conv, bias, source_scale * scales.astype(np.float64), given)
        if name is not None:
            conv.input.append(name)

    def add(self, op: str, inputs: Collection[str], name: str, **attributes_: Any) -> str:
        """Add a node, and return the name of its result."""
        node = self.graph.node(op, inputs, name, **attributes_)
        self.graph.nodes.append(node)
        return str(node.output[0])


class TensorRt(Target):
    """int8 codes around zero, scales and biases that FP16 has, the rest in FP16."""

    name, ending = "tensorrt", ".int8.onnx"

    @classmethod
    def finished(cls, graph: Graph) -> Graph:
        from pix2pix_edge.export.graph.half import to_half

        return to_half(graph)

    def quantize_results(self, layers: Collection[Layer]) -> None:
        """Nothing: inputs are enough for TensorRT."""

    def middle(self, pixels: Pixels) -> int:
        return 128

    def image_codes(self, tensor: str, perms: Collection[Any], pixels: Pixels) -> tuple[Codes, float]:
        tensor = self.add("Cast", [tensor], "image/real", to=onnx.TensorProto.FLOAT)
        step = self.graph.constant("image/step:constant", np.array(PIXEL_STEP, np.float32))
        tensor = self.add("Mul", [tensor, step], "image/step")
        middle = self.graph.constant("image/middle:constant", np.array(-self.middle(pixels) * PIXEL_STEP, np.float32))
        tensor = self.add("Add", [tensor, middle], "image/middle")
        for perm in perms:
            tensor = self.add("Transpose", [tensor], "image/transpose", perm=perm)
        scale, zero = self.constants("image", PIXEL_STEP, np.int8(0))
        code = self.add("QuantizeLinear", [tensor, scale, zero], "image/quantize")
        return (code, scale, zero), pixels.scale / PIXEL_STEP

    def code_constants(self, tensor: str, low: float, high: float) -> tuple[str, str]:
        return self.constants(tensor, _fp16(max(-low, high) / 127, NARROWEST_SCALE), np.int8(0))

    def weight_scales(self, scales: Array, bias: Array, source_scale: float) -> Array:
        return fp16_weight_scales(scales)

    def bias(self, conv: onnx.NodeProto, bias: Array, steps: Array, given: bool) -> str | None:
        if not given and not bias.any():
            return None
        return self.graph.constant(f"{conv.name}:bias", bias.astype(np.float32))


class Cpu(Target):
    """uint8 codes with a zero point, biases of 32 bits, the rest in FP32; results are quantised, too.

    ONNX Runtime computes a convolution in INT8 only between two quantised tensors. OpenVINO does not need the second,
    and is given the file without it: runtime/engines/onnx_file.py.
    """

    name, ending = "cpu", ".int8.cpu.onnx"

    @classmethod
    def finished(cls, graph: Graph) -> Graph:
        return arrange(graph)

    def quantize_results(self, layers: Collection[Layer]) -> None:
        """Let everything that reads a result read what its codes stand for."""
        for result in (result for layer in layers for result in layer.results):
            readers = self.graph.consumers()[result]
            stands_for = self.dequantized(result)
            for node in readers:
                for position, name in enumerate(node.input):
                    if name == result:
                        node.input[position] = stands_for

    def middle(self, pixels: Pixels) -> int:
        return round(-pixels.shift / pixels.scale)

    def image_codes(self, tensor: str, perms: Collection[Any], pixels: Pixels) -> tuple[Codes, float]:
        for perm in perms:
            tensor = self.add("Transpose", [tensor], "image/transpose", perm=perm)
        return (tensor, *self.constants("image", pixels.scale, np.uint8(self.middle(pixels)))), 1.0

    def code_constants(self, tensor: str, low: float, high: float) -> tuple[str, str]:
        scale = max((high - low) / 255, NARROWEST_SCALE)
        return self.constants(tensor, scale, np.uint8(np.clip(round(-low / scale), 0, 255)))

    def weight_scales(self, scales: Array, bias: Array, source_scale: float) -> Array:
        """Return scales by which the bias, counted in steps of source_scale·scale, fits into 32 bits."""
        return np.maximum(scales, np.abs(bias) / source_scale / 2**30)

    def bias(self, conv: onnx.NodeProto, bias: Array, steps: Array, given: bool) -> str | None:
        inputs = [
            self.graph.constant(f"{conv.name}:bias_codes", np.round(bias / steps).astype(np.int32)),
            self.graph.constant(f"{conv.name}:bias_scales", steps.astype(np.float32)),
            self.graph.constant(f"{conv.name}:bias_zeros", np.zeros(len(steps), np.int32)),
        ]
        return self.add("DequantizeLinear", inputs, f"{conv.name}/bias", axis=0)


TARGETS: dict[str, type[Target]] = {target.name: target for target in (TensorRt, Cpu)}


def read_codes(graph: Graph, conv: onnx.NodeProto, codes: Array, scales: Array) -> None:
    """Make a convolution read, in place of its weights, what int8 codes [out, …] stand for by scales [out]."""
    inputs = [
        graph.constant(f"{conv.name}:weight_codes", codes),
        graph.constant(f"{conv.name}:weight_scales", scales),
        graph.constant(f"{conv.name}:weight_zeros", np.zeros(len(scales), np.int8)),
    ]
    graph.nodes.append(graph.node("DequantizeLinear", inputs, f"{conv.name}/weight", axis=0))
    conv.input[1] = graph.nodes[-1].output[0]


def _stem(tensor: str) -> str:
    """Return the name of the node that a tensor is named after."""
    return tensor.rpartition(":")[0] or tensor


def fp16_weight_scales(scales: Array) -> Array:
    """Round scales of weights up to such as FP16 has."""
    return np.array([_fp16(scale, NARROWEST_WEIGHT_SCALE) for scale in scales])


def _fp16(scale: float, narrowest: float) -> float:
    """Round a scale up to one that FP16 has, so that the largest value still fits the codes."""
    rounded = np.float16(max(scale, narrowest))
    return float(rounded if rounded >= scale else np.nextafter(rounded, np.float16(np.inf)))
