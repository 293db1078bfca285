"""Nearest-neighbour upsampling, however a converter spells it, becomes one Resize in the form that TensorRT accepts.

Keras' UpSampling2D reaches ONNX as Unsqueeze, Tile, Transpose and Reshape in an order that changes with the version of
the converter. So no order is matched: a chain of operators that only move data is run on an array of distinct numbers,
and what comes out says exactly what the chain does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.export.graph.simplify import CONVOLUTIONS, cancel_transposes
from pix2pix_edge.runtime.errors import InputError

# These repeat data: a chain with one of them is nearest upsampling, or it is refused.
REPEATING = ("Tile", "Expand")
# These may be nearest upsampling (a Concat only of one tensor with itself); as anything else they are left alone.
POSSIBLY = ("Resize", "Gather", "Concat")
MOVING = (*REPEATING, *POSSIBLY, "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Identity")
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Repeat:
    """result = source.transpose(to_nchw), repeated by `factors` (height, width), .transpose(from_nchw)."""

    to_nchw: Shape
    factors: tuple[int, int]
    from_nchw: Shape


def to_resize(graph: Graph) -> list[str]:
    """Replace every chain that upsamples by nearest neighbour, and return the names of the Resize nodes.

    Raises InputError, naming the nodes, for a chain that repeats data in any other way.
    """
    shapes = graph.shapes()
    made: list[str] = []
    settled: set[str] = set()
    while (found := _next_chain(graph, settled)) is not None:
        chain, seed = found
        for span in _spans(chain, seed):
            source, result = shapes[span[0].input[0]], shapes[span[-1].output[0]]
            repeat = _recognise(graph, span, source) if len(source) == len(result) == 4 else None
            if repeat is not None:
                made += _replace(graph, span, repeat, source, shapes)
                settled.update(made)
                break
        else:
            if seed.op_type in REPEATING:
                raise _unknown(chain)
            settled.add(seed.name)
    if computed := [node for node in graph.nodes if node.op_type in REPEATING]:
        raise _unknown(computed)
    cancel_transposes(graph)
    return made


def _unknown(nodes: list[onnx.NodeProto]) -> InputError:
    return InputError(
        f"cannot tell what {', '.join(node.name for node in nodes)} do: they repeat data, but not as nearest upsampling"
        " of an image; use keras.layers.UpSampling2D for that layer"
    )


def _only_moves(graph: Graph, node: onnx.NodeProto) -> bool:
    """Say whether a node only moves the data of its first input, as its constants say."""
    if node.op_type not in MOVING or attributes(node).get("mode", b"nearest") != b"nearest":
        return False
    computed = {name for name in node.input if name and name not in graph.constants}
    others = node.op_type == "Concat" and any(name in graph.constants for name in node.input)
    return computed == {node.input[0]} and not others


def _next_chain(graph: Graph, settled: Set[str]) -> tuple[list[onnx.NodeProto], onnx.NodeProto] | None:
    """Return the longest chain of data-moving nodes around the first repeating node not yet settled, and that node."""
    producers, consumers = graph.producers(), graph.consumers()

    def moves(node: onnx.NodeProto | None) -> bool:
        return node is not None and node.name not in settled and _only_moves(graph, node)

    for seed in graph.nodes:
        if seed.op_type not in (*REPEATING, *POSSIBLY) or not moves(seed):
            continue
        chain = [seed]
        # Backwards, a tensor that others read too is no obstacle: they keep the nodes that make it.
        while moves(before := producers.get(chain[0].input[0])):
            assert before is not None
            chain.insert(0, before)
        while chain[-1].output[0] != graph.output.name:
            readers = {id(node): node for node in consumers[chain[-1].output[0]]}
            after = next(iter(readers.values())) if len(readers) == 1 else None
            if not moves(after):
                break
            assert after is not None
            chain.append(after)
        return chain, seed
    return None


def _spans(chain: list[onnx.NodeProto], seed: onnx.NodeProto) -> Iterator[list[onnx.NodeProto]]:
    """Yield the parts of the chain that hold the seed, the longest first."""
    place = next(i for i, node in enumerate(chain) if node is seed)
    ends = itertools.product(range(place + 1), range(place + 1, len(chain) + 1))
    for first, last in sorted(ends, key=lambda span: span[0] - span[1]):
        yield chain[first:last]


def _recognise(graph: Graph, span: list[onnx.NodeProto], source: Shape) -> Repeat | None:
    """Run the nodes on distinct numbers and find the repetition that gives the same result."""
    numbers = np.arange(int(np.prod(source)), dtype=np.int32).reshape(source)
    result = _run(graph, span, numbers)
    for perm in itertools.permutations(range(4)):
        sizes = [source[axis] for axis in perm]
        if any(have % size for have, size in zip(result.shape, sizes, strict=True)):
            continue
        factors = [have // size for have, size in zip(result.shape, sizes, strict=True)]
        if _equal(result, numbers.transpose(perm), factors):
            return _as_nchw(perm, {axis: factor for axis, factor in zip(perm, factors, strict=True)})
    return None


def _run(graph: Graph, span: list[onnx.NodeProto], numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    import onnxruntime as ort

    constants = {name: graph.constants[name] for node in span for name in node.input if name in graph.constants}
    body = helper.make_graph(
        span,
        "probe",
        [helper.make_tensor_value_info(span[0].input[0], TensorProto.INT32, numbers.shape)],
        [helper.make_tensor_value_info(span[-1].output[0], TensorProto.INT32, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(body, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    ort.set_default_logger_severity(4)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {span[0].input[0]: numbers})[0]


def _equal(result: NDArray[np.int32], moved: NDArray[np.int32], factors: Sequence[int]) -> bool:
    """Say whether `result` is `moved` with each axis repeated; the edges first, because they tell most cases apart."""
    for axis, factor in enumerate(factors):
        edge = tuple(slice(None) if other == axis else 0 for other in range(4))
        if not np.array_equal(result[edge], np.repeat(moved[edge], factor)):
            return False
    for axis, factor in enumerate(factors):
        moved = np.repeat(moved, factor, axis) if factor > 1 else moved
    return np.array_equal(result, moved)


def _as_nchw(perm: Shape, factors: dict[int, int]) -> Repeat | None:
    """Say how to reach NCHW and the result's axes with the fewest transposes; factors: source axis -> times."""
    candidates = []
    for to_nchw in itertools.permutations(range(4)):
        if to_nchw[0] != 0 or factors[0] != 1 or factors[to_nchw[1]] != 1:
            continue
        from_nchw = tuple(to_nchw.index(axis) for axis in perm)
        cost = sum(list(order) != sorted(order) for order in (to_nchw, from_nchw))
        candidates.append((cost, Repeat(to_nchw, (factors[to_nchw[2]], factors[to_nchw[3]]), from_nchw)))
    return min(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def _replace(
    graph: Graph, span: list[onnx.NodeProto], repeat: Repeat, source: Shape, shapes: dict[str, Shape]
) -> list[str]:
    """Put transpose, Resize and transpose where the span's last node stood; return the name of the Resize, if any."""
    layer = _layer(graph, span)
    shape = tuple(source[axis] for axis in repeat.to_nchw)
    new = [graph.node("Transpose", [span[0].input[0]], f"{layer}/transpose", perm=repeat.to_nchw)]
    shapes[new[0].output[0]] = shape
    made = []
    if repeat.factors != (1, 1):
        scales = graph.constant(f"{layer}/upsample:scales", np.array([1, 1, *repeat.factors], np.float32))
        new.append(graph.node("Resize", [*new[0].output, "", scales], f"{layer}/upsample", **NEAREST))
        shapes[new[1].output[0]] = (*shape[:2], shape[2] * repeat.factors[0], shape[3] * repeat.factors[1])
        made.append(new[1].name)
    back = graph.node("Transpose", new[-1].output, f"{layer}/transpose", span[-1].output[0], perm=repeat.from_nchw)
    graph.replace(span[-1:], [*new, back])
    graph.sort()
    return made


def _layer(graph: Graph, span: list[onnx.NodeProto]) -> str:
    """Return the layer that the span prepares for: that of the next convolution, else the one it comes from."""
    consumers = graph.consumers()
    node = span[-1]
    while readers := consumers.get(node.output[0]):
        node = readers[0]
        if node.op_type in CONVOLUTIONS:
            return node.name.rpartition("/")[0] or node.name
    return span[0].name.rpartition("/")[0] or span[0].name
