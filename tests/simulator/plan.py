"""The simulated plan: the header that trtexec reads, then what the simulated runtime needs, then the ONNX graph.

bytes 0..3 `ftrt`, 4..7 zero, 24..27 TensorRT's major, minor, patch and build, as in a real plan (trtexec
--getPlanVersionOnly); the rest is the simulator's own.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Any

MAGIC = b"ftrt"
HEADER = 32
_SIZES = struct.Struct("<IIII")  # JSON, ONNX, CRC of both, zero


class NotAPlanError(Exception):
    """The text is what TensorRT would log."""


@dataclass
class Tensor:
    """One input or output. `profile`: lowest, best and highest shape of a dimension that is free (-1)."""

    name: str
    dtype: str
    shape: list[int]
    profile: list[list[int]] | None = None


@dataclass
class Plan:
    """What the simulated builder makes and the simulated runtime runs."""

    version: list[int]
    compute_capability: list[int]
    inputs: list[Tensor]
    outputs: list[Tensor]
    layers: list[dict[str, Any]]  # as the inspector of 10.x lists them
    detailed: bool  # whether the inspector may tell more than names
    onnx: bytes

    def to_bytes(self) -> bytes:
        fields = asdict(self)
        fields.pop("onnx")
        text = json.dumps(fields).encode()
        header = MAGIC + bytes(20) + bytes(self.version) + bytes(4)
        return header + _SIZES.pack(len(text), len(self.onnx), zlib.crc32(text + self.onnx), 0) + text + self.onnx

    @classmethod
    def from_bytes(cls, data: bytes, runtime: list[int], compute_capability: tuple[int, int]) -> Plan:
        """Raises NotAPlanError with the words TensorRT has for it."""
        if data[:4] != MAGIC:
            raise NotAPlanError("Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match")
        built = list(data[24:28])
        if built != runtime:
            raise NotAPlanError(
                "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match."
                f" Note: Current Version: {runtime[0]}{runtime[1]}, Serialized Engine Version: {built[0]}{built[1]}"
            )
        start = HEADER + _SIZES.size
        sizes = _SIZES.unpack(data[HEADER:start]) if len(data) >= start else (1, 1, 0, 0)
        body = data[start : start + sizes[0] + sizes[1]]
        if len(body) != sizes[0] + sizes[1] or zlib.crc32(body) != sizes[2]:
            raise NotAPlanError("Serialization assertion length <= bufferSize failed.The buffer is too short")
        fields = json.loads(body[: sizes[0]])
        if fields["compute_capability"] != list(compute_capability):
            made, here = (".".join(map(str, c)) for c in (fields["compute_capability"], compute_capability))
            raise NotAPlanError(
                "The engine plan file is generated on an incompatible device,"
                f" expecting compute {here} got compute {made}, please rebuild."
            )
        for side in ("inputs", "outputs"):
            fields[side] = [Tensor(**tensor) for tensor in fields[side]]
        return cls(onnx=body[sizes[0] :], **fields)
