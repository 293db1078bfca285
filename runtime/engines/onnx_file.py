"""What an .onnx file holds, and whether it may be opened: a model is data, never a program, never a door.

Every check is made before an engine sees the file. Engines follow "external data" to any file that the process may
read (ONNX Runtime up to 1.23 through links and ../ too), load custom operators, run loops, and reserve what a shape
says. The files of this project are self-contained and have one fixed shape, so none of that is needed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.engines.protobuf import Message, edited, fields, with_body
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.sidecar import TensorSpec

# Field numbers of onnx.proto3.
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUES, GRAPH_SPARSE = 1, 5, 11, 12, 13, 15
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = 5, 6, 10, 11, (22, 23)
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
TENSOR_FLOATS, TENSOR_INT32S, TENSOR_STRINGS, TENSOR_INT64S, TENSOR_DOUBLES, TENSOR_UINT64S = 4, 5, 6, 7, 10, 11
TENSOR_NUMBERS = (TENSOR_FLOATS, TENSOR_INT32S, TENSOR_INT64S, TENSOR_DOUBLES, TENSOR_UINT64S)

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
          10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}  # fmt: skip
ITEM_BYTES = {"bool": 1, "bfloat16": 2} | {d: np.dtype(d).itemsize for d in DTYPES.values() if d != "bfloat16"}
OUR_DOMAINS = ("", "ai.onnx")

MOST_VALUES = 1 << 28
"""Of one tensor: a picture of 9,400 × 9,400, or a gigabyte of float32."""


@dataclass(frozen=True)
class OnnxFile:
    """A graph's inputs and outputs, a free dimension as -1, and the names of its operators."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: frozenset[str]

    @property
    def quantized(self) -> bool:
        return not self.operators.isdisjoint(("DequantizeLinear", "ConvInteger", "MatMulInteger"))


class ElsewhereError(ValueError):
    """Weights lie in a file beside the graph, as PyTorch writes them."""


def read_onnx(path: Path) -> OnnxFile:
    """Return what a file holds. Raises EngineError for what is no ONNX file, or none that may be opened."""
    try:
        return _model(np.memmap(path, np.uint8, "r").data)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror}; run: ls -l {shlex.quote(str(path))}") from error
    except (ValueError, OverflowError) as error:
        reason = "it is empty" if path.stat().st_size == 0 else str(error)
        remedy = "export it again with: python -m export convert MODEL --out DIR"
        if isinstance(error, ElsewhereError):
            remedy = f"make one file of both with: python -m export convert {shlex.quote(str(path))} --out DIR"
        raise EngineError(f"{path} cannot be opened as an exported graph ({reason}); {remedy}") from error


def _model(content: memoryview) -> OnnxFile:
    model = Message(content)
    if model.bodies(MODEL_TRAINING, MODEL_FUNCTIONS):
        raise ValueError("it brings functions or training code of its own")
    graphs = model.bodies(MODEL_GRAPH)
    if len(graphs) != 1:
        raise ValueError("it holds no graph" if not graphs else "it holds more than one graph")
    graph = Message(graphs[0])
    if graph.bodies(GRAPH_SPARSE):
        raise ValueError("it has sparse weights")
    for tensor in map(Message, graph.bodies(GRAPH_INITIALIZER)):
        _check_tensor(tensor)
    operators = set()
    for message in graph.bodies(GRAPH_NODE):
        node = Node.of(message)
        _check_domain(node.domain)
        _check_attributes(node)
        operators.add(node.operator)
    inputs, outputs = (tuple(map(_spec, graph.bodies(number))) for number in (GRAPH_INPUT, GRAPH_OUTPUT))
    return OnnxFile(inputs, outputs, frozenset(operators))


def _check_domain(domain: str) -> None:
    if domain not in OUR_DOMAINS:
        raise ValueError(f"it needs operators of {domain[:60]!r}, which are not ONNX's own")


@dataclass(frozen=True)
class Node:
    """One operator of a graph; attributes: as messages."""

    operator: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[memoryview]

    @classmethod
    def of(cls, body: memoryview) -> Node:
        message = Message(body)
        return cls(
            message.text(NODE_OPERATOR),
            message.text(NODE_DOMAIN),
            message.texts(NODE_INPUT),
            message.texts(NODE_OUTPUT),
            message.bodies(NODE_ATTRIBUTE),
        )


def _check_attributes(node: Node) -> None:
    for attribute in map(Message, node.attributes):
        if attribute.fields.keys() & {ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS}:
            raise ValueError(f"it holds a program ({node.operator[:60]!r} with a graph inside)")
        if attribute.fields.keys() & {*ATTRIBUTE_SPARSE}:
            raise ValueError("it has sparse weights")
        for tensor in attribute.bodies(ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            _check_tensor(Message(tensor))


def _check_tensor(tensor: Message) -> None:
    """Raise ValueError for a tensor that lies elsewhere, or whose sizes lie."""
    name = tensor.text(TENSOR_NAME)[:60]
    if TENSOR_EXTERNAL in tensor.fields or any(field.value for field in tensor.fields.get(TENSOR_LOCATION, ())):
        raise ElsewhereError(f"its tensor {name!r} lies in another file")
    dims, kinds, raw = tensor.integers(TENSOR_DIMS), tensor.integers(TENSOR_TYPE), tensor.bodies(TENSOR_RAW)
    dtype = DTYPES.get(kinds[-1] if kinds else 0)
    if dtype is None or tensor.bodies(TENSOR_STRINGS):
        raise ValueError(f"its tensor {name!r} holds no numbers that a generator is made of")
    if any(dim < 0 for dim in dims) or (size := prod(dims)) > MOST_VALUES:
        raise ValueError(f"its tensor {name!r} has the absurd shape {str(dims)[:60]}")
    there = len(raw[-1]) / ITEM_BYTES[dtype] if raw else sum(_count(tensor, number) for number in TENSOR_NUMBERS)
    if there != size:
        raise ValueError(f"its tensor {name!r} says {size} values and holds {there:g}")


def _count(tensor: Message, number: int) -> int:
    """Return how many numbers a field holds, packed or not; packed varints each end with the only byte below 128."""
    packed = tensor.bodies(number)
    single = len(tensor.fields.get(number, ())) - len(packed)
    if width := {TENSOR_FLOATS: 4, TENSOR_DOUBLES: 8}.get(number):
        return single + sum(map(len, packed)) // width
    return single + sum(int(np.count_nonzero(np.frombuffer(body, np.uint8) < 0x80)) for body in packed)


def _spec(body: memoryview) -> TensorSpec:
    """Return a graph's input or output (a ValueInfoProto)."""
    value, shape, dtype = Message(body), [], "no tensor"
    for kind in value.bodies(2):
        for tensor in map(Message, Message(kind).bodies(1)):
            number = (tensor.integers(1) or [0])[-1]
            dtype = DTYPES.get(number, f"type {number}")
            for dim in (dim for dims in tensor.bodies(2) for dim in Message(dims).bodies(1)):
                shape.append((Message(dim).integers(1) or [-1])[-1])
    if prod(max(size, 1) for size in shape) > MOST_VALUES:
        raise ValueError(f"{value.text(1)[:60]!r} has the absurd shape {str(shape)[:60]}")
    return TensorSpec(value.text(1), tuple(shape), dtype)


CONVOLUTIONS = ("Conv", "ConvTranspose")


def only_inputs_quantized(path: Path) -> bytes:
    """Return an INT8 file with the roundings that only ONNX Runtime needs left out: those after convolutions.

    ONNX Runtime computes a convolution in INT8 only between two quantised tensors; others need its input alone. So
    whatever is no convolution reads the values that were rounded, instead of what their codes stand for.
    """
    model = np.memmap(path, np.uint8, "r").data
    graphs = [Message(graph) for graph in Message(model).bodies(MODEL_GRAPH)]
    nodes = [Node.of(node) for graph in graphs for node in graph.bodies(GRAPH_NODE)]
    rounded = {node.outputs[0]: node.inputs[0] for node in nodes if node.operator == "QuantizeLinear"}
    instead = {node.outputs[0]: rounded[node.inputs[0]] for node in nodes
               if node.operator == "DequantizeLinear" and node.inputs[0] in rounded}  # fmt: skip
    wanted = {Message(value).text(1) for graph in graphs for value in graph.bodies(GRAPH_OUTPUT)}
    kept: list[Node | None] = []
    for node in reversed(nodes):
        kept.append(node if wanted & set(node.outputs) else None)
        if kept[-1]:
            wanted |= {name if node.operator in CONVOLUTIONS else instead.get(name, name) for name in node.inputs}
    keeping = iter(reversed(kept))

    def rounding_less(graph: memoryview) -> bytes:
        parts: list[bytes | memoryview] = []
        for field in fields(graph):
            if field.number != GRAPH_NODE:
                parts.append(field.whole)
            elif node := next(keeping):
                unchanged = node.operator in CONVOLUTIONS or not instead.keys() & set(node.inputs)
                parts.append(field.whole if unchanged else with_body(GRAPH_NODE, _reading(field.body, instead)))
        return b"".join(parts)

    return edited(model, MODEL_GRAPH, rounding_less)


def _reading(node: memoryview, instead: dict[str, str]) -> bytes:
    """Return a node that reads other tensors than before."""
    return edited(node, NODE_INPUT, lambda name: instead.get(bytes(name).decode(), "").encode() or bytes(name))
