"""Free the batch dimension of an ONNX file, without the onnx package, which a Jetson does not have.

An exported graph has a fixed batch. TensorRT's parser bakes it into every layer that it makes from a reshape, so that
changing the shape of the parsed network's input comes too late: the dimension must be free before parsing. An ONNX
file is a protobuf message, and only two small fields of it change.
"""

from __future__ import annotations

from pix2pix_edge.runtime.errors import InputError

# Field numbers of onnx.proto3, outermost first: ModelProto.graph, GraphProto.input and .output, ValueInfoProto.type,
# TypeProto.tensor_type, TypeProto.Tensor.shape, TensorShapeProto.dim.
PATH = ({7}, {11, 12}, {2}, {1}, {2}, {1})
FREE = b"\x12\x05batch"  # TensorShapeProto.Dimension.dim_param = "batch"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def free_batch(model: bytes) -> bytes:
    """Return the ONNX file with the first dimension of every input and output free, and nothing else changed.

    Raises InputError when the bytes are no whole protobuf message.
    """
    try:
        return _rewrite(memoryview(model), 0)
    except (IndexError, ValueError) as error:
        raise InputError("the file is not a whole ONNX file; export it again") from error


def _rewrite(message: memoryview, depth: int) -> bytes:
    """Return a message whose fields at PATH[depth] are rewritten in turn; the last step frees its first field only."""
    last = depth == len(PATH) - 1
    parts: list[bytes | memoryview] = []
    position, freed = 0, False
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            size, body = _varint(message, position)
            position = body + size
        elif kind == _VARINT:
            _, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"protobuf has no wire type {kind}")
        if position > len(message):
            raise ValueError("truncated")
        if kind == _BYTES and number in PATH[depth] and not freed:
            inner = FREE if last else _rewrite(message[body:position], depth + 1)
            freed = last
            parts += [_encoded(key), _encoded(len(inner)), inner]
        else:
            parts.append(message[start:position])
    return b"".join(parts)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number at `position`, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number that does not end")


def _encoded(value: int) -> bytes:
    """Return a number as a protobuf varint."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
