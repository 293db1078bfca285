"""A function of TensorFlow as an ONNX graph, as tf2onnx gives it, and Keras' own layers in spellings that it can write.

This module, export/translator and train/ alone load TensorFlow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from pix2pix_edge.runtime.errors import InputError, native_stderr, require

if TYPE_CHECKING:
    from pix2pix_edge.export.graph.graph import Graph

# The newest that tf2onnx writes, and older than what TensorRT 10.0 reads.
OPSET = 18
INPUT, OUTPUT = "pixels", "result"
PURPOSE = "exporting a generator"
RESAMPLING = "ScaleAndTranslate"
UNKNOWN = re.compile(r"Could not locate \w+ '\w+'|Unknown layer: '[\w>]+'|Cannot deserialize object of type `\w+`")
"""How Keras says that it does not know a class."""


def tensorflow() -> Any:
    """Import TensorFlow, quietly, and off the GPU: memory that TensorFlow takes there is lost to others."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with native_stderr():
        tf = require("tensorflow", "export", "loading a Keras model")
    tf.get_logger().setLevel("ERROR")
    with contextlib.suppress(RuntimeError):  # too late once TensorFlow has run something
        tf.config.set_visible_devices([], "GPU")
    return tf


def trace(
    call: Callable[..., Any], shape: Sequence[int], dtype: str, weights: Sequence[tuple[str, Any]], path: Path
) -> Graph:
    """Trace call(pixels, *weights) to an ONNX graph with one input, INPUT, and one output, OUTPUT.

    call: one tensor of `shape`, [1, H, W, C], and one for each of the weights; gives one tensor. weights: (the layer
    that owns it, its value); they go through the converter as inputs and are put back afterwards, because it copies
    constants again and again, which takes most of a minute for 40 million of them. path: for messages. Raises
    InputError where an operator does not exist in ONNX.
    """
    import onnx

    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.graph.simplify import fold_constants, readable_names

    tf = tensorflow()
    tf2onnx = require("tf2onnx", "export", PURPOSE)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    signature = [tf.TensorSpec(shape, dtype, name=INPUT)]
    signature += [tf.TensorSpec(v.shape, v.dtype, name=f"weight_{i}") for i, (_, v) in enumerate(weights)]
    function = tf.function(
        lambda image, *values: {OUTPUT: call(image, *values)}, input_signature=signature, autograph=False
    )
    try:
        with mock.patch.object(tf, "function", _not_compiled):
            traced = function.get_concrete_function().graph
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    except InputError:
        raise
    except Exception as error:  # the converter raises many kinds
        raise InputError(f"tf2onnx cannot convert {path} ({reason(error)}); replace the layer it names") from error
    if "ResizeArea" in str(traced.as_graph_def(add_shapes=False)):
        raise InputError(
            f"{path} resizes by interpolation='area', which tf2onnx gets wrong; use 'bilinear' with antialias=True"
        )
    if loop := next((node for node in proto.graph.node if node.op_type in ("Loop", "Scan", "If")), None):
        raise InputError(
            f"{path} computes {loop.op_type} ({loop.name}), whose course is not fixed; replace that layer by one whose"
            " course is, as with unroll=True"
        )
    _express(proto)
    unknown = {n.op_type for n in proto.graph.node if n.domain or not onnx.defs.has(n.op_type, OPSET)} - {RESAMPLING}
    if unknown:
        raise InputError(
            f"{path} computes {', '.join(sorted(unknown))}, which tf2onnx cannot express in ONNX; replace the layers"
            " that do"
        )
    opset = [entry for entry in proto.opset_import if not entry.domain]
    del proto.opset_import[:], proto.graph.input[1:]
    proto.opset_import.extend(opset)
    proto.graph.name = "generator"
    graph = Graph(proto)
    # tensors that a layer keeps beside its variables, as Normalization its mean, which the converter makes inputs
    read = {name for node in graph.nodes for name in node.input}
    graph.constants |= {inner.name: np.asarray(outer) for outer, inner in traced.captures if inner.name in read}
    layers = {} if weights else {name: _layer(name) for name in graph.constants if "/" in name}
    for number, (layer, value) in enumerate(weights):
        graph.constants[f"weight_{number}"] = np.asarray(value)
        layers[f"weight_{number}"] = layer
    _resample(graph, path)
    origins = fold_constants(graph)
    layers |= {name: layers[origin] for name, origin in origins.items() if origin in layers}
    readable_names(graph, layers)
    return graph


def _layer(constant: str) -> str:
    """Return the layer that owns a constant of a frozen function, by its name, "model/layer/operator/variable"."""
    parts = [
        part
        for part in constant.partition(":")[0].split("/")
        if part not in ("ReadVariableOp", "StatefulPartitionedCall")
    ]
    return "/".join(parts[-3:-1] if len(parts) > 2 else parts[:1])


def _not_compiled(function: Any = None, **settings: Any) -> Any:
    """Stand in for tf.function: Keras compiles grouped convolutions with it, which hides them from the converter."""
    return function if function is not None else lambda inner: inner


def _express(proto: Any) -> None:
    """Write in ONNX's words what tf2onnx does not.

    Erfc(x) = 1 - Erf(x), of Keras' exact GELU, and Expm1(x) = Exp(x) - 1, of its CELU. A transposed convolution that
    cuts off less than nothing at its end has output padding.
    """
    from onnx import helper, numpy_helper

    nodes = []
    for node in proto.graph.node:
        for pads in (a.ints for a in node.attribute if node.op_type == "ConvTranspose" and a.name == "pads"):
            ends = pads[len(pads) // 2 :]
            if min(ends) < 0:
                node.attribute.append(helper.make_attribute("output_padding", [max(0, -end) for end in ends]))
                pads[len(pads) // 2 :] = [max(0, end) for end in ends]
        if node.op_type not in ("Erfc", "Expm1"):
            nodes.append(node)
            continue
        one, inner = f"{node.output[0]}:one", f"{node.output[0]}:inner"
        operator, terms = ("Erf", [one, inner]) if node.op_type == "Erfc" else ("Exp", [inner, one])
        proto.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), one))
        nodes.append(helper.make_node(operator, node.input, [inner], name=f"{node.name}:{operator.lower()}"))
        nodes.append(helper.make_node("Sub", terms, node.output, name=f"{node.name}:sub"))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _resample(graph: Graph, path: Path) -> None:
    """Write each ScaleAndTranslate, [N, H, W, C], as two matrix products, of rows and columns by TensorFlow's weights.

    It is what antialiased resizes are, and those by kernels that ONNX lacks. Raises InputError where it does more.
    """
    from pix2pix_edge.export.graph.graph import TO_NHWC, attributes

    tf = tensorflow()
    for node in [node for node in graph.nodes if node.op_type == RESAMPLING]:
        sizes, scales, shifts = _values(graph, node.input[1:])
        lengths = np.rint(sizes / scales).astype(int)  # of what it is given
        if shifts.any() or not np.allclose(lengths * scales, sizes, rtol=1e-5):
            raise InputError(f"{path} crops while it resizes ({node.name}); resize, and crop by a layer of its own")
        kernel = attributes(node)
        nodes: list[Any] = []
        for axis, turned in enumerate(([0, 3, 2, 1], [0, 1, 3, 2])):  # the axis that is resampled stands last
            weights = tf.raw_ops.ScaleAndTranslate(
                images=np.eye(lengths[axis], dtype=np.float32)[None, :, None],
                size=[sizes[axis], 1],
                scale=[scales[axis], 1.0],
                translation=[0.0, 0.0],
                kernel_type=kernel["kernel_type"],
                antialias=bool(kernel["antialias"]),
            )
            matrix = graph.constant(f"{node.name}:weights", np.ascontiguousarray(weights.numpy()[0, :, 0].T))
            source = nodes[-1].output[0] if nodes else node.input[0]
            nodes.append(graph.node("Transpose", [source], node.name, perm=turned))
            nodes.append(graph.node("MatMul", [nodes[-1].output[0], matrix], node.name))
        nodes.append(graph.node("Transpose", [nodes[-1].output[0]], node.name, output=node.output[0], perm=TO_NHWC))
        graph.replace([node], nodes)


def _values(graph: Graph, names: Sequence[str]) -> list[Any]:
    """Return the values of tensors that depend on shapes alone, computed for a picture of zeros."""
    import onnxruntime as ort

    found = {name: graph.constants[name] for name in names if name in graph.constants}
    if unknown := [name for name in names if name not in found]:
        before = graph.copy()
        before.model.graph.output.clear()
        for name in unknown:
            before.model.graph.output.add(name=name)
        before.sort()
        kind = before.input.type.tensor_type
        zeros = np.zeros([dim.dim_value for dim in kind.shape.dim], "uint8" if kind.elem_type == 2 else "float32")
        session = ort.InferenceSession(before.to_model().SerializeToString(), providers=["CPUExecutionProvider"])
        found |= dict(zip(unknown, session.run(None, {before.input.name: zeros}), strict=True))
    return [found[name] for name in names]


@contextlib.contextmanager
def upsampling_as_resize(layer: Any) -> Iterator[None]:
    """Let UpSampling2D call TensorFlow's nearest resize, which tf2onnx writes as one Resize (asymmetric, floor).

    layer: the class, of Keras 2 or 3.
    """
    usual = layer.call

    def call(self: Any, inputs: Any) -> Any:
        if self.interpolation != "nearest" or self.data_format != "channels_last":
            return usual(self, inputs)
        size = [length * times for length, times in zip(inputs.shape[1:3], self.size, strict=True)]
        return tensorflow().raw_ops.ResizeNearestNeighbor(images=inputs, size=size)

    with mock.patch.object(layer, "call", call):
        yield


def reason(error: Exception) -> str:
    """Return the part of a long message that says what is wrong: the class that is unknown, or the first sentence."""
    message = " ".join(str(error).split()) or type(error).__name__
    unknown = UNKNOWN.search(message)
    if unknown:
        return unknown.group()
    first = message.partition(". ")[0]
    return first if len(first) <= 200 else f"{first[:200].rpartition(' ')[0]} …"
