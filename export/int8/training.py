"""Quantisation-aware distillation: an INT8 graph learns the pictures of the FP32 graph that it was made from.

What learns is the quantised graph itself, as its Q/DQ nodes round it; gradients pass through a rounding as if it were
not there, and not beyond the ends of the codes (Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018). It begins with weights that are rounded well already. Operators,
scales and zero points stay, so speed stays; no photographs are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, tee
from typing import Any

import numpy as np
import onnx

from pix2pix_edge.export.fidelity import levels
from pix2pix_edge.export.graph.graph import TO_NCHW, TO_NHWC, Graph, attributes
from pix2pix_edge.export.int8.calibrate import observe
from pix2pix_edge.export.int8.sensitivity import translated
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.engines.onnx_file import CONVOLUTIONS
from pix2pix_edge.runtime.errors import InputError, require
from pix2pix_edge.runtime.frame import Image

RATE = 0.005
"""What Adam moves a weight by in a step, at first, of what one code counts; it falls to nothing along a cosine."""
BATCH = 4
"""Images in a step."""
ARITHMETIC = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum"}
FUNCTIONS = {**ARITHMETIC, "Sigmoid": "sigmoid", "Tanh": "tanh", "Abs": "abs", "Sqrt": "sqrt"}
"""Operators of ONNX -> functions of TensorFlow."""
COARSE = 127
"""Steps of what is learned without codes, up to its largest value: they are as coarse as codes would be."""


class Network:
    """A quantised graph in TensorFlow, channels last, for any batch; its weights and biases are variables.

    reads: the tensors, made by what learns nothing, that the rest of the graph begins with.
    """

    def __init__(self, graph: Graph) -> None:
        """graph: NCHW but for its ends."""
        self.tf = require("tensorflow", "export", "quantize --train")
        self.graph = graph
        self.variables: dict[str, Any] = {}
        self.steps: dict[str, np.float32] = {}
        self.nodes: list[onnx.NodeProto] = []
        made: set[str] = set()
        for node in graph.nodes:
            self._learn(node)
            learned = made | self.variables.keys()
            if node.op_type == "QuantizeLinear" or not learned.isdisjoint(node.input):
                self.nodes.append(node)
                made.update(node.output)
        read = {name for node in self.nodes for name in node.input if name}
        self.reads = sorted(read - made - graph.constants.keys())
        rounded = {node.output[0]: node.input[0] for node in self.nodes if node.op_type == "QuantizeLinear"}
        others = {name for node in self.nodes if node.op_type not in CONVOLUTIONS for name in node.input}
        self.unrounded = {
            node.output[0]: rounded[node.input[0]]
            for node in self.nodes
            if node.op_type == "DequantizeLinear" and node.input[0] in rounded and node.output[0] in others
        }

    def _learn(self, node: onnx.NodeProto) -> None:
        """Make variables of a node's weights and biases, and of what it adds to channels."""
        constants = self.graph.constants
        names = [name for name in node.input if name in constants]
        if node.op_type == "DequantizeLinear":
            names = [name for name in names if name == node.input[0]]
        elif node.op_type == "Conv" and attributes(node).get("group", 1) > 1:  # the box of an upsampling
            names = names[1:]
        elif node.op_type != "Conv":
            names = [name for name in names if node.op_type == "Add" and constants[name].ndim == 4]
        for name in names:
            if name not in self.variables:
                value = constants[name].astype(np.float32)
                step = 1 if constants[name].dtype == np.int8 else max(np.abs(value).max(), 1e-6) / COARSE
                self.steps[name] = np.float32(step)
                self.variables[name] = self.tf.Variable(value / self.steps[name])

    def __call__(self, read: Mapping[str, Any], results_rounded: bool = True) -> Any:
        """Return pictures, float32 [N, H, W, C] in the graph's own levels. read: float32 [N, H, W, C] by name.

        results_rounded: as ONNX Runtime computes the file; else as engines do that need inputs alone in INT8.
        Raises InputError for an operator that it does not know.
        """
        values = dict(read)
        for node in self.nodes:
            names = [name for name in node.input if name]
            if not results_rounded and node.op_type not in CONVOLUTIONS:
                names = [self.unrounded.get(name, name) for name in names]
            inputs = [values[name] if name in values else self._constant(name, node) for name in names]
            values[node.output[0]] = self._computed(node, inputs)
        return values[self.graph.output.name]

    def _constant(self, name: str, reader: onnx.NodeProto) -> Any:
        """Return what a constant is now, weights as whole codes; channels last for arithmetic."""
        value, learned = self.graph.constants[name], self.variables.get(name)
        if learned is not None:
            value = self._rounded(learned, -127, 127) if value.dtype == np.int8 else learned * self.steps[name]
        if reader.op_type in ARITHMETIC and len(value.shape) >= 3:
            *ahead, channels, rows, columns = range(len(value.shape))
            return self.tf.transpose(value, (*ahead, rows, columns, channels))
        return value

    def _rounded(self, values: Any, low: float, high: float) -> Any:
        inside = self.tf.clip_by_value(values, float(low), float(high))
        return inside + self.tf.stop_gradient(self.tf.round(inside) - inside)

    def _computed(self, node: onnx.NodeProto, inputs: list[Any]) -> Any:
        tf, known, (first, *others) = self.tf, attributes(node), inputs
        match node.op_type:
            case "Conv":
                return self._convolved(known, first, *others)
            case "QuantizeLinear":  # codes are carried as what they stand for, so that one operator does both
                scale, zero = float(others[0]), int(others[1])
                low, high = ((end - zero) * scale for end in _ends(others[1].dtype))
                return tf.quantization.fake_quant_with_min_max_args(first, low, high)
            case "DequantizeLinear" if node.input[0] in self.graph.constants:
                scale = others[0].astype(np.float32)
                return first * scale.reshape([-1] + [1] * (len(first.shape) - 1))
            case "Identity" | "DequantizeLinear":
                return first
            case "Transpose" if known["perm"] in (TO_NCHW, TO_NHWC):  # here channels always are last
                return first
            case "DepthToSpace":
                return self._interleaved(known, first)
            case "Concat" if known["axis"] in (1, -3):
                return tf.concat(inputs, -1)
            case "InstanceNormalization":
                scale, bias = others
                mean, variance = tf.nn.moments(first, (1, 2), keepdims=True)
                return (first - mean) * tf.math.rsqrt(variance + known.get("epsilon", 1e-5)) * scale + bias
            case "Pad":
                return self._padded(known, first, *others)
            case "Relu":
                return tf.nn.relu(first)
            case "LeakyRelu":
                return tf.nn.leaky_relu(first, known.get("alpha", 0.01))
            case "Clip":
                return tf.clip_by_value(first, *others)
            case "Round":
                return self._rounded(first, -np.inf, np.inf)
            case "Cast":
                dtype = onnx.helper.tensor_dtype_to_np_dtype(known["to"])
                return tf.clip_by_value(first, *_ends(dtype)) if dtype.kind in "iu" else first
            case operator if operator in FUNCTIONS:
                return getattr(tf, FUNCTIONS[operator])(*inputs)
        raise InputError(f"{node.name} computes {node.op_type}, which cannot be trained; leave --train out")

    def _convolved(self, known: Mapping[str, Any], values: Any, weight: Any, bias: Any = 0.0) -> Any:
        tf, strides = self.tf, list(known.get("strides", (1, 1)))
        top, left, bottom, right = known.get("pads", (0, 0, 0, 0))
        padding, dilations = [[0, 0], [top, bottom], [left, right], [0, 0]], list(known.get("dilations", (1, 1)))
        if known.get("group", 1) == 1:
            kernel = tf.transpose(weight, (2, 3, 1, 0))
            return tf.nn.conv2d(values, kernel, strides, padding, dilations=dilations) + bias
        kernel = tf.transpose(weight, (2, 3, 0, 1))
        # TensorFlow 2.21 crashes on the gradient of a depthwise convolution that pads by given numbers
        values = tf.pad(values, padding)
        return tf.nn.depthwise_conv2d(values, kernel, [1, *strides, 1], "VALID", dilations=dilations) + bias

    def _padded(self, known: Mapping[str, Any], values: Any, pads: Any, number: Any = 0.0) -> Any:
        _, _, top, left, _, _, bottom, right = map(int, pads)
        mode = known.get("mode", b"constant").decode()
        if mode not in ("constant", "reflect"):
            raise InputError(f"an operator pads by {mode!r}, which cannot be trained; leave --train out")
        return self.tf.pad(values, [[0, 0], [top, bottom], [left, right], [0, 0]], mode, np.float32(number))

    def _interleaved(self, known: Mapping[str, Any], values: Any) -> Any:
        tf, size = self.tf, known["blocksize"]
        if known.get("mode", b"DCR") == b"CRD":  # TensorFlow's order is the other one
            parts = tf.reshape(values, (*values.shape[:3], -1, size**2))
            values = tf.reshape(tf.transpose(parts, (0, 1, 2, 4, 3)), values.shape)
        return tf.nn.depth_to_space(values, size)

    def learned(self) -> Graph:
        """Return a copy of the graph with what was learned."""
        graph = self.graph.copy()
        for name, variable in self.variables.items():
            dtype = graph.constants[name].dtype
            value = variable.numpy().astype(np.float64) * self.steps[name]
            if dtype.kind == "i":
                low, high = _ends(dtype)
                value = np.clip(np.round(value), max(low, -high), high)
            graph.constants[name] = value.astype(dtype)
        return graph


def distil(graph: Graph, reference: Engine, images: Iterator[Image], steps: int, bar: Any) -> Graph:
    """Return a quantised graph that has learned for some steps what the FP32 engine makes of images.

    images: uint8 [H, W, C], as many as BATCH for each step. bar: a tqdm, updated for each step. The loss is the mean
    squared error, in which the worst images count most. Raises InputError for what cannot be trained.
    """
    network, level = Network(graph), 257 if reference.output.dtype == "uint16" else 1
    tf, variables = network.tf, list(network.variables.values())
    rates = tf.keras.optimizers.schedules.CosineDecay(RATE, steps)
    optimizer = tf.keras.optimizers.Adam(rates, 0.9, 0.99)
    optimizer.build(variables)

    def step(read: Mapping[str, Any], expected: Any, results_rounded: bool) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(read, results_rounded) / level - expected))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    learn, ways = tf.function(step, autograph=False), (True, False) if network.unrounded else (True,)
    seen, shown = tee(images)
    examples = zip(observe(graph, network.reads, seen), translated(reference, shown), strict=False)
    for i in range(steps):
        values, pictures = zip(*islice(examples, BATCH), strict=True)
        read = {name: np.concatenate([np.moveaxis(each[name], 1, -1) for each in values]) for name in network.reads}
        learn(read, np.stack([levels(picture) for picture in pictures]).astype(np.float32), ways[i % len(ways)])
        bar.update()
    return network.learned()


def _ends(dtype: Any) -> tuple[float, float]:
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
