"""Whether a video file is as long as its container says (a copy, a card or a crash may have cut it), and has sound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp")


def is_truncated(path: Path) -> bool:
    """Whether an MP4, MOV, AVI or Matroska file ends before the end that it promises; False for any other file.

    Counting frames would not tell: an edit list leaves out frames that the file holds, and a rate is but a claim.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        file.seek(0)
        if start[4:8] in _BOXES:
            return _boxes_end(file, length) > length
        if start[:4] == b"RIFF":
            return _riff_end(file, length) > length
        if start[:4] == b"\x1aE\xdf\xa3":
            return _segment_end(file) > length
    return False


HEAD_BYTES = 1 << 20


def has_sound(path: Path) -> bool:
    """Whether an MP4, MOV, AVI or Matroska file has a track of sound; False for any other file."""
    length = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        if start[4:8] not in _BOXES:
            # AVI's kind of stream, Matroska's name of a codec
            return re.search(rb"strh....auds|\x86[\x81-\xbf]A_", start, re.DOTALL) is not None
        at = 0
        while at + 8 <= length:
            file.seek(at)
            size, name = _box_head(file)
            if name == b"moov":
                file.seek(at)
                return re.search(rb"hdlr.{8}soun", file.read(min(size, 64 * HEAD_BYTES)), re.DOTALL) is not None
            at += size or length
        return False


def _box_head(file: BinaryIO) -> tuple[int, bytes]:
    """Return the size (0: to the end of the file) and the name of the box that begins here."""
    header = file.read(16)
    size = int.from_bytes(header[:4], "big")
    if size == 1:
        size = int.from_bytes(header[8:16], "big")
    return size if size >= 8 else 0, header[4:8]


def _boxes_end(file: BinaryIO, length: int) -> int:
    """Return where the last box of an MP4 or MOV file ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= length:
        file.seek(at)
        size, _ = _box_head(file)
        if not size:
            return length
        at += size
    return at


def _riff_end(file: BinaryIO, length: int) -> int:
    """Return where the last RIFF chunk of an AVI file ends; there is one for each gibibyte or so (OpenDML)."""
    at = 0
    while at + 8 <= length:
        file.seek(at)
        header = file.read(8)
        size = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):  # not known while it was written
            return length
        at += 8 + size + size % 2
    return at


def _segment_end(file: BinaryIO) -> int:
    """Return where the segment of a Matroska file ends (RFC 9559); 0 where it does not say."""
    file.seek(4)
    header = _size(file)
    file.seek(header or 0, 1)
    if header is None or file.read(4) != b"\x18S\x80g":
        return 0
    segment = _size(file)
    return 0 if segment is None else file.tell() + segment


def _size(file: BinaryIO) -> int | None:
    """Read a size of EBML (RFC 8794, 6); None for one that is not known."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    value = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + rest, "big")
    return None if value == (1 << 7 * width) - 1 else value
