"""Passes that leave a graph's function as it is: constants folded, group norm by instances, names made readable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper

from pix2pix_edge.export.graph.graph import Graph, attributes

# Operators that act on each element alone.
ELEMENTWISE = frozenset(
    (
        *("Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
        *("LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "Pow", "PRelu", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"),
    )
)
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
# What the second and further inputs of an operator are called.
SLOTS = {
    "Conv": ("weight", "bias"),
    "ConvTranspose": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
    "MatMul": ("weight",),
    "Resize": ("roi", "scales", "sizes"),
    "Reshape": ("shape",),
    "Pad": ("pads", "value", "axes"),
}


def fold_constants(graph: Graph) -> dict[str, str]:
    """Evaluate every node whose inputs are all constants, and every Shape of a tensor whose shape is known.

    Returns folded constant -> the first constant that it was computed from, so that an owner's name can follow.
    """
    graph.sort()
    origins: dict[str, str] = {}
    _fold_once(graph, origins)
    while _fold_shapes(graph):  # one shape made constant may make the next one known
        _fold_once(graph, origins)
    return origins


def _fold_shapes(graph: Graph) -> bool:
    if all(node.op_type != "Shape" for node in graph.nodes):
        return False
    shapes, before = graph.known_shapes(), len(graph.nodes)
    for node in graph.nodes:
        if node.op_type == "Shape" and not node.attribute and node.input[0] in shapes:
            graph.constants[node.output[0]] = np.array(shapes[node.input[0]], np.int64)
    graph.nodes = [node for node in graph.nodes if node.output[0] not in graph.constants]
    return len(graph.nodes) < before


def _fold_once(graph: Graph, origins: dict[str, str]) -> None:
    """Fold, in one pass from input to output, what follows from the constants that there are."""
    from onnx.reference import ReferenceEvaluator

    kept = []
    for node in graph.nodes:
        names = [name for name in node.input if name]
        constant = names and all(name in graph.constants for name in names)
        if not constant or node.op_type in RANDOM or graph.output.name in node.output:
            kept.append(node)
            if node.op_type == "Compress" and names[1] in graph.constants and node.attribute:
                # which places it keeps is known: a Gather, whose shape is known too
                places = np.flatnonzero(graph.constants[names[1]])
                node.op_type, node.input[1] = "Gather", graph.constant(f"{names[1]}:places", places)
            continue
        values = {name: graph.constants[name] for name in names}
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in values.items()
        ]
        body = helper.make_graph([node], "constant", inputs, [onnx.ValueInfoProto(name=name) for name in node.output])
        results = ReferenceEvaluator(helper.make_model(body, opset_imports=graph.model.opset_import)).run(None, values)
        for name, value in zip(node.output, results, strict=True):
            graph.constants[name] = np.asarray(value)
            origins[name] = origins.get(names[0], names[0])
    graph.nodes = kept
    graph.sort()


def instances_of_groups(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return a group norm as instance norm of its groups: ONNX' own shape inference passes over the operator."""
    source, scale, bias = node.input
    own = attributes(node)
    groups, split, channels = own["num_groups"], np.array([0, own["num_groups"], -1]), np.array([-1, 1, 1])
    ones, zeros = (graph.constant(node.name, np.full(groups, value, np.float32)) for value in (1, 0))
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, *inputs: str, **settings: Any) -> str:
        nodes.append(graph.node(operator, inputs, node.name, **settings))
        return str(nodes[-1].output[0])

    grouped = add("Reshape", source, graph.constant(node.name, split))
    normed = add("InstanceNormalization", grouped, ones, zeros, epsilon=own.get("epsilon", 1e-5))
    tensor = add("Reshape", normed, add("Shape", source))
    for operator, values in (("Mul", scale), ("Add", bias)):
        tensor = add(operator, tensor, add("Reshape", values, graph.constant(node.name, channels)))
    nodes[-1].output[0] = node.output[0]
    return nodes


def readable_names(graph: Graph, layers: dict[str, str]) -> None:
    """Name each node LAYER/OPERATOR and each tensor after its node, by the graph's structure alone.

    layers: constant -> the Keras layer that owns it. A node without weights belongs to the layer its first input comes
    from; nodes before the first layer are called input/…, the final conversion to pixels output/….
    """
    graph.sort()
    owner: dict[str, str] = {}
    nodes: dict[str, str] = {}
    tensors = {value.name: value.name for value in (*graph.model.graph.input, *graph.model.graph.output)}
    taken = set(tensors.values())

    def distinct(base: str) -> str:
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        return name

    tail = set(_conversion_to_pixels(graph))
    for number, node in enumerate(graph.nodes):
        own = [layers[name] for name in node.input if name in layers]
        source = next((name for name in node.input if name and name not in graph.constants), "")
        layer = own[0] if own else owner.get(source, "input")
        owner.update((name, layer) for name in node.output)
        operator = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.op_type).lower()
        node.name = node.name or f"{number}"
        new = nodes[node.name] = distinct(f"{'output' if node.output[0] in tail else layer}/{operator}")
        for slot, name in enumerate(node.input):
            if name in graph.constants and name not in tensors:
                words = SLOTS.get(node.op_type, ())
                tensors[name] = distinct(f"{new}:{words[slot - 1] if 0 < slot <= len(words) else 'constant'}")
        for name in node.output:
            if name not in tensors:
                tensors[name] = distinct(f"{new}:out")
    graph.constants = {name: graph.constants[name] for name in tensors if name in graph.constants}  # order of first use
    graph.relabel(nodes, tensors)


def _conversion_to_pixels(graph: Graph) -> Iterator[str]:
    """Yield the tensors of the chain that turns [-1, 1] into uint8, from the output backwards."""
    producers = graph.producers()
    node = producers.get(graph.output.name)
    while node is not None and node.op_type in ("Cast", "Round", "Transpose", "Min", "Max", "Clip", "Mul", "Add"):
        dynamic = [name for name in node.input if name and name not in graph.constants]
        if len(dynamic) != 1:
            return
        yield node.output[0]
        node = producers.get(dynamic[0])
