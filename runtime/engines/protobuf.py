"""The wire format of protobuf, as much of it as an .onnx file needs: a machine that only runs engines has no onnx.

A message is a sequence of fields: a key (field number and wire type), then a number or so many bytes. See
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message. value: of a VARINT, else 0. body: of BYTES and fixed numbers. whole: key included."""

    number: int
    kind: int
    value: int
    body: memoryview
    whole: memoryview


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in order. Raises ValueError where the bytes are no whole message."""
    position, end = 0, len(message)
    while position < end:
        start = position
        key, position = _varint(message, position)
        number, kind, value, begin = key >> 3, key & 7, 0, position
        if kind == BYTES:
            size, begin = _varint(message, position)
            position = begin + size
        elif kind == VARINT:
            value, position = _varint(message, position)
        elif kind in (FIXED32, FIXED64):
            position += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"protobuf has no wire type {kind}")
        if position > end or not 0 < number < 1 << 29:  # beyond it others read the key without its upper bits
            raise ValueError("it is cut short or damaged")
        yield Field(number, kind, value, message[begin:position], message[start:position])


class Message:
    """The fields of a message by their number, read once. Raises ValueError where the bytes are no whole message."""

    def __init__(self, message: memoryview) -> None:
        self.fields: dict[int, list[Field]] = defaultdict(list)
        for field in fields(message):
            self.fields[field.number].append(field)

    def bodies(self, *numbers: int) -> list[memoryview]:
        """Return the bytes of the fields of these numbers: messages, texts, packed numbers."""
        return [field.body for number in numbers for field in self.fields.get(number, ()) if field.kind == BYTES]

    def texts(self, number: int) -> list[str]:
        return [bytes(body).decode(errors="replace") for body in self.bodies(number)]

    def text(self, number: int) -> str:
        """Return a text field, the last one as protobuf does; "" where there is none."""
        return (self.texts(number) or [""])[-1]

    def integers(self, number: int) -> list[int]:
        """Return a repeated field of int64 numbers, packed or not."""
        found = []
        for field in self.fields.get(number, ()):
            if field.kind == VARINT:
                found.append(field.value)
            elif field.kind == BYTES:
                position = 0
                while position < len(field.body):
                    value, position = _varint(field.body, position)
                    found.append(value)
        return [value - (1 << 64) if value >> 63 else value for value in found]


def with_body(number: int, body: bytes) -> bytes:
    """Return a field of bytes."""
    return _encoded(number << 3 | BYTES) + _encoded(len(body)) + body


def with_number(number: int, value: int) -> bytes:
    """Return a field of a number, not a negative one."""
    return _encoded(number << 3 | VARINT) + _encoded(value)


def edited(message: memoryview, number: int, edit: Callable[[memoryview], bytes]) -> bytes:
    """Return a message whose fields of this number, which are bytes, are edited."""
    return b"".join(
        with_body(number, edit(field.body)) if field.number == number else field.whole for field in fields(message)
    )


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number at `position`, and where it ends."""
    if position < len(message) and message[position] < 0x80:  # nearly all of them
        return message[position], position + 1
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
        shift += 7
        if shift > 63:
            raise ValueError("it has a number that does not end")
    raise ValueError("it is cut short or damaged")


def _encoded(value: int) -> bytes:
    """Return a number as a protobuf varint."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
