"""Free the batch dimension of an ONNX file, without the onnx package, which a Jetson does not have.

An exported graph has a fixed batch. TensorRT's parser bakes it into every layer that it makes from a reshape, so that
changing the shape of the parsed network's input comes too late: the dimension must be free before parsing. An ONNX
file is a protobuf message, and only two small fields of it change.
"""

from __future__ import annotations

from pix2pix_edge.runtime.engines.protobuf import BYTES, fields, with_body
from pix2pix_edge.runtime.errors import InputError

# Field numbers of onnx.proto3, outermost first: ModelProto.graph, GraphProto.input and .output, ValueInfoProto.type,
# TypeProto.tensor_type, TypeProto.Tensor.shape, TensorShapeProto.dim.
PATH = ({7}, {11, 12}, {2}, {1}, {2}, {1})
FREE = b"\x12\x05batch"  # TensorShapeProto.Dimension.dim_param = "batch"


def free_batch(model: bytes) -> bytes:
    """Return the ONNX file with the first dimension of every input and output free, and nothing else changed.

    Raises InputError when the bytes are no whole protobuf message.
    """
    try:
        return _rewrite(memoryview(model), 0)
    except ValueError as error:
        raise InputError("the file is not a whole ONNX file; export it again") from error


def _rewrite(message: memoryview, depth: int) -> bytes:
    """Return a message whose fields at PATH[depth] are rewritten in turn; the last step frees its first field only."""
    last = depth == len(PATH) - 1
    parts: list[bytes | memoryview] = []
    freed = False
    for field in fields(message):
        if field.kind == BYTES and field.number in PATH[depth] and not freed:
            parts.append(with_body(field.number, FREE if last else _rewrite(field.body, depth + 1)))
            freed = last
        else:
            parts.append(field.whole)
    return b"".join(parts)
