"""Unpack weights of 8 bits that floating-point convolutions read, without the onnx package, which a Jetson lacks.

TensorRT 11 takes a convolution whose weights alone are dequantised; versions before 10 did not ("could not fuse 2nd
input (kernel weights)", NVIDIA/TensorRT#2131). So none is given one.
"""

from __future__ import annotations

import numpy as np

from pix2pix_edge.runtime.engines.onnx_file import (
    CONVOLUTIONS,
    DTYPES,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    MODEL_GRAPH,
    TENSOR_DIMS,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_TYPE,
    Node,
)
from pix2pix_edge.runtime.engines.protobuf import Message, edited, fields, with_body, with_number

INT8 = next(number for number, dtype in DTYPES.items() if dtype == "int8")


def unpack_weights(model: bytes) -> bytes:
    """Return an ONNX file in which such weights are the numbers that codes and scales stand for, in the scales' type.

    model: a file that read_onnx() has read. What others wrote in another way stays.
    """
    whole = memoryview(model)
    graph = Message(Message(whole).bodies(MODEL_GRAPH)[0])
    nodes = [Node.of(body) for body in graph.bodies(GRAPH_NODE)]
    tensors = {tensor.text(TENSOR_NAME): tensor for tensor in map(Message, graph.bodies(GRAPH_INITIALIZER))}
    dequantized = {node.outputs[0]: node.inputs for node in nodes if node.operator == "DequantizeLinear"}
    unpacked: dict[str, bytes] = {}  # what a convolution reads -> the tensor that takes its place
    for node in (node for node in nodes if node.operator in CONVOLUTIONS and node.inputs[0] not in dequantized):
        inputs = dequantized.get(node.inputs[1], [])
        product = _product(node.inputs[1], *(tensors.get(name) for name in inputs)) if len(inputs) == 3 else None
        if product is not None:
            unpacked[node.inputs[1]] = product

    def with_weights(graph: memoryview) -> bytes:
        parts: list[bytes | memoryview] = [with_body(GRAPH_INITIALIZER, tensor) for tensor in unpacked.values()]
        for field in fields(graph):
            if field.number != GRAPH_NODE or unpacked.keys().isdisjoint(Node.of(field.body).outputs):
                parts.append(field.whole)
        return b"".join(parts)

    return edited(whole, MODEL_GRAPH, with_weights) if unpacked else model


def _product(name: str, codes: Message | None, scales: Message | None, zeros: Message | None) -> bytes | None:
    """Return the tensor of int8 codes [out, …] times scales [out]; None for codes of another kind."""
    if codes is None or scales is None or zeros is None:
        return None
    sizes, kinds = codes.integers(TENSOR_DIMS), [tensor.integers(TENSOR_TYPE) for tensor in (codes, scales, zeros)]
    kind = kinds[1][-1]
    raw = [tensor.bodies(TENSOR_RAW) for tensor in (codes, scales, zeros)]
    if kinds[0] != [INT8] or DTYPES[kind] not in ("float16", "float32") or not all(raw) or any(raw[2][-1]):
        return None
    values = np.frombuffer(raw[1][-1], DTYPES[kind])
    if scales.integers(TENSOR_DIMS) != sizes[:1]:
        return None
    weight = np.frombuffer(raw[0][-1], np.int8).reshape(len(values), -1)
    content = (weight * values[:, None].astype(np.float32)).astype(DTYPES[kind]).tobytes()
    parts = [with_number(TENSOR_DIMS, size) for size in sizes]
    return b"".join(
        [*parts, with_number(TENSOR_TYPE, kind), with_body(TENSOR_NAME, name.encode()), with_body(TENSOR_RAW, content)]
    )
