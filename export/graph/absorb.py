"""Scales and shifts of channels (batch norm, the input conversion) go into the convolutions beside them, exactly.

Backwards, a scale goes through ReLU and leaky ReLU as far as it is positive: a·max(x, 0) = max(a·x, 0). Forwards, it
goes through zero padding, upsampling and concatenation into the input channels of every convolution that reads it, and
shifts on the way are divided by it; so do the signs that cannot go backwards. A shift next to its convolution becomes
bias; forwards it goes only into convolutions without padding, because the zeros at a border are not shifted. Any other
shift stays as it is, one Add.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx

from pix2pix_edge.export.graph.graph import Array, Graph, attributes
from pix2pix_edge.runtime.sidecar import Rewrite

Shapes = dict[str, tuple[int, ...]]
Edit = Callable[[], None]

# f(a·x) = a·f(x) for a > 0.
HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")
# A scale passes these, whatever its sign: they are linear in each channel.
LINEAR = ("Identity", "Resize", "AveragePool", "Pad")
# A shift on the way forwards is divided by the scale: a wider range would cost precision, and overflow FP16.
WIDEST_RANGE = 1024.0


@dataclass(frozen=True)
class Affine:
    """source -> scale·source + shift; each a float64 vector of channels (axis 1), a scalar, or None."""

    source: str
    scale: Array | None = None
    shift: Array | None = None


def absorb(graph: Graph) -> list[Rewrite]:
    """Absorb what can be, in place, and return one record for each node that went."""
    shapes = graph.shapes()
    rewrites = []
    for node in list(graph.nodes):
        affine = _affine(graph, node, shapes)
        if affine is None or node.output[0] == graph.output.name:
            continue
        for attempt in (_into_bias_and_weight, _backwards, _forwards, _shift_forwards):
            form = attempt(graph, node, affine, shapes)
            if form:
                what = "shift" if affine.scale is None else "scale" if affine.shift is None else "batch norm"
                rewrites.append(Rewrite(node.name, what, form))
                break
    graph.sort()
    return rewrites


def _affine(graph: Graph, node: onnx.NodeProto, shapes: Shapes) -> Affine | None:
    """Read a node as an affine map of each channel, or return None."""
    if node.op_type == "BatchNormalization":
        if attributes(node).get("training_mode", 0) or any(name not in graph.constants for name in node.input[1:]):
            return None
        gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in node.input[1:])
        scale = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        return Affine(node.input[0], scale, beta - mean * scale)
    if node.op_type not in ("Mul", "Div", "Add", "Sub"):
        return None
    position = next((i for i, name in enumerate(node.input) if name in graph.constants), None)
    if position is None or (position == 0 and node.op_type in ("Div", "Sub")):
        return None
    source = node.input[1 - position]
    value = graph.constants[node.input[position]].astype(np.float64)
    shape = shapes[source]
    if source in graph.constants or shapes[node.output[0]] != shape:
        return None
    if value.size == 1:
        value = value.reshape(())
    elif len(shape) == 4 and value.shape[-3:] == (shape[1], 1, 1) and value.size == shape[1]:
        value = value.reshape(-1)
    else:
        return None
    if node.op_type == "Div":
        return Affine(source, scale=1 / value) if value.all() else None
    if node.op_type == "Mul":
        return Affine(source, scale=value)
    return Affine(source, shift=value if node.op_type == "Add" else -value)


def _into_bias_and_weight(graph: Graph, node: onnx.NodeProto, affine: Affine, shapes: Shapes) -> str | None:
    conv = _alone(graph, affine.source)
    if conv is None or not _constant_convolution(graph, conv):
        return None
    _scale_results(graph, conv, 1.0 if affine.scale is None else affine.scale, affine.shift)
    graph.drop(node, affine.source)
    return f"into {conv.name}"


def _backwards(graph: Graph, node: onnx.NodeProto, affine: Affine, shapes: Shapes) -> str | None:
    activation = _alone(graph, affine.source)
    if affine.scale is None or activation is None or activation.op_type not in HOMOGENEOUS:
        return None
    if any(name not in graph.constants for name in activation.input[1:]):
        return None
    conv = _alone(graph, activation.input[0])
    if conv is None or not _constant_convolution(graph, conv):
        return None
    signs = np.where(affine.scale < 0, -1.0, 1.0)
    if (signs < 0).any() and not _carry(graph, node, affine.source, signs, affine.shift, shapes):
        return None
    if (signs > 0).all():
        _leave_shift(graph, node, affine.source, affine.shift)
    _scale_results(graph, conv, np.abs(affine.scale), None)
    return f"into {conv.name}"


def _forwards(graph: Graph, node: onnx.NodeProto, affine: Affine, shapes: Shapes) -> str | None:
    if affine.scale is None or not _carry(graph, node, affine.source, affine.scale, affine.shift, shapes):
        return None
    return "into the convolutions after it"


def _shift_forwards(graph: Graph, node: onnx.NodeProto, affine: Affine, shapes: Shapes) -> str | None:
    if affine.scale is not None or affine.shift is None:
        return None
    readers = graph.consumers()[node.output[0]]
    if not readers or not all(_constant_convolution(graph, r) and r.input[0] == node.output[0] for r in readers):
        return None
    if any(r.op_type != "Conv" or _pads(r) or attributes(r).get("group", 1) != 1 for r in readers):
        return None
    for conv in readers:
        weight = graph.constants[conv.input[1]].astype(np.float64)
        shift = np.broadcast_to(affine.shift, weight.shape[1])
        _scale_results(graph, conv, 1.0, np.einsum("oihw,i->o", weight, shift))
    graph.drop(node, affine.source)
    return f"into {', '.join(conv.name for conv in readers)}"


def _carry(graph: Graph, node: onnx.NodeProto, source: str, scale: Array, shift: Array | None, shapes: Shapes) -> bool:
    """Replace node's `scale·x + shift` by `x + shift / scale`, and let the readers make up for it, if all can."""
    edits: list[Edit] = []
    magnitudes = np.abs(scale)
    narrow = magnitudes.min() > 0 and magnitudes.max() <= WIDEST_RANGE * magnitudes.min()
    if not _readers_scaled(graph, node.output[0], scale, shapes, narrow, edits) or (shift is not None and not narrow):
        return False
    for edit in edits:
        edit()
    _leave_shift(graph, node, source, None if shift is None else shift / scale)
    return True


def _readers_scaled(graph: Graph, tensor: str, scale: Array, shapes: Shapes, narrow: bool, edits: list[Edit]) -> bool:
    """Collect the edits after which every reader of `tensor` takes it divided by `scale`; False where one cannot."""
    if tensor == graph.output.name:
        return False
    channels = shapes[tensor][1] if len(shapes[tensor]) == 4 else 0
    for node in {id(node): node for node in graph.consumers()[tensor]}.values():
        known = attributes(node)
        places = [i for i, name in enumerate(node.input) if name == tensor]
        if _constant_convolution(graph, node) and places == [0] and known.get("group", 1) == 1:
            edits.append(partial(_scale_inputs, graph, node, scale))
            continue
        passed = [scale]
        if node.op_type in ("Add", "Sub") and narrow and _affine(graph, node, shapes) is not None:
            edits.append(partial(_divide_shift, graph, node, scale, shapes))
        elif node.op_type == "Concat" and known["axis"] in (1, -3) and channels:
            starts = np.cumsum([0, *(shapes[name][1] for name in node.input)])
            passed = []
            for place in places:
                whole = np.ones(starts[-1])
                whole[starts[place] : starts[place + 1]] = scale
                passed.append(whole)
        elif node.op_type == "Transpose":
            if scale.ndim:
                return False
        elif node.op_type not in LINEAR or places != [0] or not _pads_zero(graph, node):
            return False
        if not all(_readers_scaled(graph, node.output[0], by, shapes, narrow, edits) for by in passed):
            return False
    return True


def _scale_results(graph: Graph, conv: onnx.NodeProto, scale: Array | float, shift: Array | None) -> None:
    """Make a convolution give scale·result + shift, per output channel."""
    weight = graph.constants[conv.input[1]]
    transposed = conv.op_type == "ConvTranspose"
    channels = weight.shape[1 if transposed else 0]
    factors = np.broadcast_to(scale, channels).reshape((1, -1, 1, 1) if transposed else (-1, 1, 1, 1))
    has_bias = len(conv.input) > 2 and conv.input[2]
    bias = graph.constants[conv.input[2]].astype(np.float64) if has_bias else np.zeros(channels)
    bias = bias * scale + (0.0 if shift is None else shift)
    inputs = [conv.input[0], _constant(graph, f"{conv.name}:weight", weight * factors, weight.dtype)]
    if has_bias or bias.any():
        inputs.append(_constant(graph, f"{conv.name}:bias", bias, weight.dtype))
    conv.input[:] = inputs


def _scale_inputs(graph: Graph, conv: onnx.NodeProto, scale: Array) -> None:
    """Make a convolution multiply each input channel by `scale` first."""
    weight = graph.constants[conv.input[1]]
    shape = (-1, 1, 1, 1) if conv.op_type == "ConvTranspose" else (1, -1, 1, 1)
    conv.input[1] = _constant(graph, f"{conv.name}:weight", weight * scale.reshape(shape), weight.dtype)


def _divide_shift(graph: Graph, node: onnx.NodeProto, scale: Array, shapes: Shapes) -> None:
    affine = _affine(graph, node, shapes)
    assert affine is not None and affine.shift is not None
    _leave_shift(graph, node, affine.source, affine.shift / scale)


def _leave_shift(graph: Graph, node: onnx.NodeProto, source: str, shift: Array | None) -> None:
    """Turn an affine node into the addition of `shift`, or into nothing."""
    if shift is None:
        graph.drop(node, source)
        return
    dtype = graph.constants[next(name for name in node.input if name in graph.constants)].dtype
    value = _constant(graph, f"{node.name}:shift", shift.reshape((1, -1, 1, 1) if shift.ndim else ()), dtype)
    node.op_type = "Add"
    node.input[:] = [source, value]
    del node.attribute[:]


def _constant(graph: Graph, name: str, value: Array, dtype: np.dtype[Any]) -> str:
    return graph.constant(name, np.asarray(value, np.float64).astype(dtype))


def _alone(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """Return the node that makes a tensor which only one node reads."""
    if tensor == graph.output.name or len(graph.consumers().get(tensor, [])) != 1:
        return None
    return graph.producers().get(tensor)


def _constant_convolution(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type == "ConvTranspose" and attributes(node).get("group", 1) != 1:
        return False
    constant = all(name in graph.constants for name in node.input[1:] if name)
    return node.op_type in ("Conv", "ConvTranspose") and constant and graph.constants[node.input[1]].ndim == 4


def _pads(conv: onnx.NodeProto) -> bool:
    known = attributes(conv)
    return any(known.get("pads", [])) or known.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")


def _pads_zero(graph: Graph, node: onnx.NodeProto) -> bool:
    """Say whether a node, if it pads at all, pads with zeros (or copies: a scale passes these as well)."""
    if attributes(node).get("extrapolation_value", 0.0):
        return False
    value = node.input[2] if node.op_type == "Pad" and len(node.input) > 2 else ""
    return not value or (value in graph.constants and not graph.constants[value].any())
