"""Whether a video file holds all that its container promises (a copy, a card or a crash may lose a part), and sound."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PADDING = 4096
"""So many zeros behind the last unit are no damage: some devices write whole blocks."""

SMALLEST = 16
"""So few bytes at the end are a unit that has lost its own."""

HEAD_BYTES = 1 << 20

Step = tuple[int, int]
"""From where a unit begins: bytes to the next one, which lies inside it where it holds others, and to its own end."""

Layout = tuple[int, int, Callable[[bytes], Step | None]]
"""Where the first unit begins; how many bytes from there show the way on; and the way: None where no unit begins,
(0, 0) where one goes on to the end of the file."""


@dataclass(frozen=True)
class Break:
    """The byte at which a file ceases to be what its container promises."""

    at: int
    length: int

    @property
    def cut(self) -> bool:
        """Whether the end is missing, and not a part in the middle."""
        return self.at >= self.length


def find_break(path: Path) -> Break | None:
    """Return where a video file is cut or has a hole; None for a whole one, and for a container without units.

    FFmpeg passes over what it cannot read of most containers, and ends where the file does, without a word. Counting
    frames would not tell: an edit list leaves out frames that the file holds, and a rate is but a claim.
    """
    length = path.stat().st_size
    with path.open("rb", buffering=1 << 16) as file:
        end = promised = 0  # of all units; of those that hold others
        for at, _, step in _units(file):
            if at >= promised > 0 and (step is None or step[0] == step[1]):
                break  # no player minds what follows
            if step is None:
                file.seek(at)
                rest = file.read(PADDING + 1)
                if not promised and len(rest) <= PADDING and not any(rest):
                    break
                return Break(length if at + SMALLEST > length else at, length)
            if at < promised < at + step[1] and promised <= length:  # it is no unit, then
                return Break(at, length)
            end = max(end, at + step[1])
            promised = end if step[1] > step[0] else promised
    return Break(length, length) if end > length else None


def has_sound(path: Path) -> bool:
    """Whether an MP4, MOV, AVI or Matroska file has a track of sound; False for any other file."""
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        if start[4:8] not in _BOXES:
            # AVI's kind of stream, Matroska's name of a codec
            return re.search(rb"strh....auds|\x86[\x81-\xbf]A_", start, re.DOTALL) is not None
        for at, head, step in _units(file):
            if head[4:8] == b"moov" and step:
                file.seek(at)
                return re.search(rb"hdlr.{8}soun", file.read(min(step[1], 64 * HEAD_BYTES)), re.DOTALL) is not None
        return False


def _units(file: BinaryIO) -> Iterator[tuple[int, bytes, Step | None]]:
    """Yield where each unit of a file begins, its first bytes, and the step to the next; the last may have none."""
    length = file.seek(0, 2)
    file.seek(0)
    at, size, step_of = _layout(file.read(1 << 16))
    while at < length:
        file.seek(at)
        head = file.read(size)
        step = step_of(head)
        yield at, head, step
        at = at + step[0] if step and step[0] else length


_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


LARGEST_PAGE = 27 + 255 + 255 * 255
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _layout(start: bytes) -> Layout:
    """Return how the container that begins so is laid out."""
    if start[4:8] in _BOXES:
        return 0, 16, _box
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return 0, 12, _chunk
    if start[:4] == b"\x1aE\xdf\xa3":
        return 0, 12, _element
    if start[:4] == b"0&\xb2u":
        file, data = start.find(_ASF_FILE), start.find(_ASF_DATA)
        known = start[data + 50 : data + 51] == b"\x82"
        packet = int.from_bytes(start[file + 92 : file + 96], "little") if known else 0
        return 0, 24, functools.partial(_object, packet)
    if start[:4] == b"\0\0\1\xba":
        return 0, 64, _pack
    if start[:3] == b"FLV":
        return int.from_bytes(start[5:9], "big") + 4, 11, _tag
    if start[:4] == b"OggS":
        return 0, LARGEST_PAGE, _page
    if start[:4] == b"DKIF":
        return int.from_bytes(start[6:8], "little"), 12, _ivf_frame
    for packet, sync in ((188, 0), (192, 4)):
        if start[sync::packet][:5] == b"GGGGG":
            return 0, 256 * packet, functools.partial(_packets, packet, sync)
    return 0, 1, lambda _: (0, 0)


def _box(head: bytes) -> Step | None:
    """MP4 and MOV (ISO/IEC 14496-12, 4.2)."""
    size = int.from_bytes(head[:4], "big")
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    if not any(head):
        return None
    return (size, size) if size >= 8 else (0, 0)


def _chunk(head: bytes) -> Step | None:
    """AVI; one RIFF for each gibibyte or so (OpenDML)."""
    name, size = head[:4], int.from_bytes(head[4:8], "little")
    end = 8 + size + size % 2
    if name == b"RIFF" or (name == b"LIST" and head[8:12] in (b"movi", b"rec ")):
        return 12, 12 if size in (0, 0xFFFFFFFF) else end  # not known while it was written
    return (end, end) if re.fullmatch(rb"[\w ]{4}", name) else None


def _element(head: bytes) -> Step | None:
    """Matroska and WebM (RFC 8794, 5 and 6; RFC 9559)."""
    name = head[: 9 - head[0].bit_length()]
    size = head[len(name) : len(name) + 9 - (head[len(name)] if len(name) < len(head) else 0).bit_length()]
    if len(name) > 4 or not 1 <= len(size) <= 8:
        return None
    begin, highest = len(name) + len(size), (1 << 7 * len(size)) - 1
    inside = int.from_bytes(size, "big") & highest
    if name in (b"\x18S\x80g", b"\x1fC\xb6u"):  # segment, cluster: of unknown size while they are written
        return begin, begin if inside == highest else begin + inside
    return None if inside == highest else (begin + inside, begin + inside)


def _object(packet: int, head: bytes) -> Step | None:
    """ASF (WMV). packet: bytes of each packet in the data object, which begin with the flags 0x82; 0: not known."""
    if packet and head[0] == 0x82:
        return packet, packet
    size = int.from_bytes(head[16:24], "little")
    if packet and head[:16] == _ASF_DATA:
        return 50, max(size, 50)
    return (size, size) if size >= 24 and any(head[:4]) else None


def _pack(head: bytes) -> Step | None:
    """MPEG program streams (ISO/IEC 11172-1, 13818-1): packs, and packets with their length."""
    zeros = len(head) - len(head.lstrip(b"\0"))
    code = head[3] if head[:3] == b"\0\0\1" and len(head) > 13 else 0
    if zeros > 2 and head[zeros : zeros + 1] == b"\1":  # as a video CD fills its sectors
        size = zeros - 2
    elif code == 0xBA:
        size = 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
    elif code >= 0xB9:
        size = 4 if code == 0xB9 else 6 + int.from_bytes(head[4:6], "big")
    else:
        return None
    return size, size


def _tag(head: bytes) -> Step | None:
    """FLV: sound, pictures and scripts, each with its size before and behind it."""
    size = 11 + int.from_bytes(head[1:4], "big") + 4
    return (size, size) if head[0] & 0x1F in (8, 9, 18) else None


def _page(head: bytes) -> Step | None:
    """Ogg (RFC 3533, 6)."""
    lengths = head[27 : 27 + int.from_bytes(head[26:27], "big")]
    size = 27 + len(lengths) + sum(lengths)
    if head[:4] != b"OggS":
        return None
    # the same polynomial as zlib's, of bits in the other order, and nothing inverted; FFmpeg drops a page that differs
    page = (head[:22] + bytes(4) + head[26:size]).translate(_MIRRORED)
    found = (zlib.crc32(page, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_MIRRORED)
    return (size, size) if found == head[22:26] or size > len(head) else None


def _ivf_frame(head: bytes) -> Step | None:
    """IVF: each frame's size before it."""
    size = 12 + int.from_bytes(head[:4], "little")
    return (size, size) if size > 12 else None


def _packets(size: int, sync: int, head: bytes) -> Step | None:
    """MPEG transport streams (ISO/IEC 13818-1, 2.4.3.2): packets of one size, each with the same byte at `sync`."""
    signs = head[sync::size]
    whole = size * (len(signs) - len(signs.lstrip(b"G")))
    return (whole, whole) if whole else None
