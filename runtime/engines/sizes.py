"""How much memory a graph would take, by its shapes alone: nothing is computed, and no weight is read.

A file of a few bytes may ask for any amount, by a chain of operators that each only double what they are given. ONNX
Runtime works the shapes out, as an engine would, on a copy that has no weights and gives out every tensor.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.engines.onnx_file import (
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUES,
    ITEM_BYTES,
    MODEL_GRAPH,
    MOST_VALUES,
    NODE_INPUT,
    NODE_OPERATOR,
    NODE_OUTPUT,
    TENSOR_DIMS,
    TENSOR_NAME,
    TENSOR_TYPE,
    Node,
)
from pix2pix_edge.runtime.engines.protobuf import Message, edited, fields, with_body, with_number
from pix2pix_edge.runtime.errors import EngineError, require

MOST_BYTES = 1 << 32
"""Of all the tensors that a run holds at once."""
MOST_PARTS = 1 << 12
"""Of a shape: working the shapes out follows the values of shapes, and a chain may make a shape of any length."""
SMALL = 64
"""Constants of so many values are kept in the copy: they may be a size that an operator is given."""
NAMES = {"float": "float32", "double": "float64"}
"""What ONNX Runtime calls otherwise than ITEM_BYTES does."""
RANK = ":rank"
ONE_LIMIT = threading.Lock()

Shapes = dict[str, tuple[str, list[int | str | None]]]


def check_sizes(path: Path, content: bytes | None = None, *, known: bool = True) -> None:
    """Raise EngineError for a graph that would fill the memory.

    content: the graph, where it is not what the file holds. known: whether a size that only a run would tell is an
    error too; exported files have none.
    """
    model = memoryview(content) if content else np.memmap(path, np.uint8, "r").data
    graph = Message(Message(model).bodies(MODEL_GRAPH)[-1])
    weights = {t.text(TENSOR_NAME): t.integers(TENSOR_DIMS) for t in map(Message, graph.bodies(GRAPH_INITIALIZER))}
    pictures = {Message(value).text(1) for value in graph.bodies(GRAPH_INPUT)}
    nodes = [Node.of(body) for body in graph.bodies(GRAPH_NODE)]
    try:
        _check_parts(nodes, pictures, weights)
        shapes: Shapes = {name: ("", list(lengths)) for name, lengths in weights.items()}
        _check(shapes | _shapes(_without_weights(model)), nodes, pictures, known)
    except ValueError as error:
        raise EngineError(
            f"{path} cannot be opened as an exported graph ({error}); export it again with: python -m export convert"
            " MODEL --out DIR"
        ) from error


def _shapes(model: bytes) -> Shapes:
    """Return each tensor's type and shape: no whole number where a length is not known, [None] without a rank."""
    ort = require("onnxruntime", "", "reading .onnx files")
    ort.set_default_logger_severity(4)  # what matters is raised
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # the others compute with constants
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise ValueError(reason_of(error)) from error
    return {value.name: (value.type, value.shape) for value in (*session.get_inputs(), *session.get_outputs())}


def reason_of(error: Exception) -> str:
    """Return the part of ONNX Runtime's message that speaks of the cause."""
    return " ".join(str(error).split()).rpartition(" : ")[2][:200].rstrip(". ")


@contextlib.contextmanager
def limited_memory(most: int) -> Iterator[None]:
    """Let this process take no more than so many bytes in addition, where the system can see to that (Linux)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    most += pages * resource.getpagesize()
    with ONE_LIMIT:  # two at once would each put back what the other has set
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if soft < 0 else min(most, soft), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _without_weights(model: memoryview) -> bytes:
    """Return a copy whose weights are inputs and whose tensors are all outputs, each with its shape's shape."""
    return edited(model, MODEL_GRAPH, lambda graph: b"".join(_graph(graph)))


def _graph(graph: memoryview) -> Iterator[bytes | memoryview]:
    given = {Message(value).text(1) for value in Message(graph).bodies(GRAPH_INPUT)}
    for field in fields(graph):
        if field.number == GRAPH_INITIALIZER:
            tensor = Message(field.body)
            name, dims = tensor.text(TENSOR_NAME), tensor.integers(TENSOR_DIMS)
            if prod(dims) <= SMALL:
                yield field.whole
            elif name not in given:
                yield with_body(GRAPH_INPUT, _value(name, tensor.integers(TENSOR_TYPE)[-1], dims))
        elif field.number not in (GRAPH_OUTPUT, GRAPH_VALUES):  # which may lie
            yield field.whole
        if field.number == GRAPH_NODE:
            for name in filter(None, Node.of(field.body).outputs):
                # [] is the shape of a scalar, and of a tensor whose rank is not known: the shape's own shape tells
                rank = ((NODE_INPUT, name), (NODE_OUTPUT, name + RANK), (NODE_OPERATOR, "Shape"))
                yield with_body(GRAPH_NODE, b"".join(with_body(number, text.encode()) for number, text in rank))
                yield with_body(GRAPH_OUTPUT, with_body(1, name.encode()))
                yield with_body(GRAPH_OUTPUT, with_body(1, (name + RANK).encode()))


def _value(name: str, dtype: int, dims: Sequence[int]) -> bytes:
    """Return a ValueInfoProto."""
    shape = b"".join(with_body(1, with_number(1, length)) for length in dims)
    return with_body(1, name.encode()) + with_body(2, with_body(1, with_number(1, dtype) + with_body(2, shape)))


def _check_parts(nodes: Sequence[Node], pictures: Iterable[str], weights: Iterable[str]) -> None:
    """Raise ValueError where constants or shapes are put together to one of an absurd length."""
    parts = dict.fromkeys(weights, 1)  # what is constant: of how many others it may be put together
    there = {"", *pictures, *weights}
    for node in nodes:
        if not there.issuperset(node.inputs):
            raise ValueError("its operators are not in order")
        there.update(node.outputs)
        given = [parts[name] for name in node.inputs if name in parts]
        if node.operator in ("Shape", "Size", "Constant"):
            made = 1
        elif given and len(given) == sum(map(bool, node.inputs)):
            made = sum(given) if node.operator == "Concat" else max(given)
        else:
            continue
        if made > MOST_PARTS:
            raise ValueError(f"its operator {node.operator} would make a result of an absurd size")
        parts |= dict.fromkeys(node.outputs, made)


def _check(shapes: Shapes, nodes: Sequence[Node], moving: set[str], known: bool) -> None:
    """Raise ValueError where a tensor is absurdly large, or more is held at once than may be.

    moving: what is another with each picture. All else is computed when a file is opened, and held from then on.
    """
    last = {name: number for number, node in enumerate(nodes) for name in node.inputs}
    held: dict[str, int] = {}
    total = 0
    for number, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            dtype, shape = shapes[name]
            lengths = [length for length in shape if isinstance(length, int) and length > 0]
            if known and (lengths != shape or None in shapes[name + RANK][1]):
                raise ValueError(f"only a run would tell the size of what its operator {node.operator} makes")
            kind = dtype[len("tensor(") : -1]
            if (bytes_each := ITEM_BYTES.get(NAMES.get(kind, kind))) is None:
                raise ValueError(f"its operator {node.operator} makes {dtype}, and no numbers")
            if prod(lengths) > MOST_VALUES:
                raise ValueError(f"its operator {node.operator} would make a result of an absurd size, {shape}")
            held[name] = prod(lengths) * bytes_each
            total += held[name]
        if total + _work(node, shapes) > MOST_BYTES:
            raise ValueError(f"up to its operator {node.operator} it would hold an absurd amount of memory")
        if not moving.isdisjoint(node.inputs):
            moving.update(node.outputs)
        for name in moving.intersection(node.inputs):
            if last[name] == number:
                total -= held.pop(name, 0)


def _work(node: Node, shapes: Shapes) -> int:
    """Return the bytes that an operator needs beside its result: the windows of its input, side by side."""
    if node.operator not in ("ConvTranspose", "ConvInteger"):
        return 0
    moved = node.inputs[0] if node.operator == "ConvTranspose" else node.outputs[0]
    lengths = shapes[node.inputs[1]][1][1:] + shapes[moved][1][2:]
    return 4 * prod(length for length in lengths if isinstance(length, int))
