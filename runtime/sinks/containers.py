"""The containers of a video while it is written: what has come is on the disk and plays, whatever ends the process.

OpenCV has FFmpeg write the index of a file at its end, through a buffer of its own, at one fixed rate. These two need
no index, give each frame the time at which it is shown, and are finished in place when there is an end.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

MS = 1_000_000
NEWEST_CLUSTER_MS = 5000  # a block's time is 16 bits, from its cluster's
FRAGMENT_NS = 1_000_000_000
TIMESCALE = 90_000
CODECS = {"VP80": (b"V_VP8", "vp08"), "VP90": (b"V_VP9", "vp09"), "MJPG": (b"V_MJPEG", "jpeg")}
"""OpenCV's name -> Matroska's, MP4's."""


class Matroska:
    """A .webm or .mkv; every packet is on the disk at once (RFC 9559; https://www.webmproject.org/docs/container/)."""

    def __init__(self, path: Path, codec: str, size: tuple[int, int], frame_ns: int) -> None:
        """codec: of CODECS. size: (width, height). frame_ns: the usual time of a frame. Raises OSError."""
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self._codec, self.packets, self._cues = codec, 0, b""
        self._cluster: tuple[int, int] | None = None  # its place and its time
        kind = b"webm" if path.suffix.lower() == ".webm" else b"matroska"
        # EBMLVersion, -ReadVersion, -MaxIDLength, -MaxSizeLength, DocType, DocTypeVersion, DocTypeReadVersion
        numbers: list[tuple[str, int | bytes]] = [("4286", 1), ("42F7", 1), ("42F2", 4), ("42F3", 8)]
        head = [*numbers, ("4282", kind), ("4287", 4), ("4285", 2)]
        self._file.write(_element("1A45DFA3", *(_element(name, value) for name, value in head)))
        self._file.write(bytes.fromhex("18538067") + _UNKNOWN)
        self._begin = self._file.tell()
        self._file.write(_void(len(self._seek_head(0))))
        info = [_element("2AD7B1", MS), _element("4D80", b"pix2pix-edge"), _element("5741", b"pix2pix-edge")]
        self._duration = self._begin + len(self._seek_head(0)) + 12 + len(b"".join(info))
        self._file.write(_element("1549A966", *info, _void(len(_element("4489", 0.0)))))
        track = [("D7", 1), ("73C5", 1), ("83", 1), ("9C", 0), ("23E383", frame_ns)]
        video = _element("E0", _element("B0", size[0]), _element("BA", size[1]))
        name = _element("86", CODECS[codec][0])
        entry = _element("AE", *(_element(name, value) for name, value in track), name, video)
        self._file.write(_element("1654AE6B", entry))

    def fileno(self) -> int:
        return self._file.fileno()

    def add(self, packet: bytes, time_ns: int) -> None:
        """Take a packet, in the order of their times. time_ns: when it is shown, from the first. Raises OSError."""
        key, time = _is_key(self._codec, packet), round(time_ns / MS)
        if self._cluster is None or key or time - self._cluster[1] > NEWEST_CLUSTER_MS:
            self._end_cluster()
            self._cluster = self._file.tell(), time
            if key:
                place = _element("B7", _element("F7", 1), _element("F1", self._cluster[0] - self._begin))
                self._cues += _element("BB", _element("B3", time), place)
            self._file.write(bytes.fromhex("1F43B675") + _UNKNOWN + _element("E7", time))
        block = struct.pack(">BhB", 0x81, time - self._cluster[1], 0x80 if key else 0) + packet
        self._file.write(_element("A3", block))
        self.packets += 1

    def close(self, end_ns: int) -> None:
        """Make it whole. end_ns: when the last one is shown no more. Raises OSError."""
        self._end_cluster()
        cues = self._file.tell()
        self._file.write(_element("1C53BB6B", self._cues))
        end = self._file.tell()
        for place, data in (
            (self._begin - 8, _length(end - self._begin)),
            (self._begin, self._seek_head(cues - self._begin)),
            (self._duration, _element("4489", end_ns / MS)),
        ):
            self._file.seek(place)
            self._file.write(data)
        os.fsync(self._file.fileno())
        self._file.close()

    def _end_cluster(self) -> None:
        if self._cluster is None:
            return
        end = self._file.tell()
        self._file.seek(self._cluster[0] + 4)
        self._file.write(_length(end - self._cluster[0] - 12))
        self._file.seek(end)

    def _seek_head(self, cues: int) -> bytes:
        place = struct.pack(">Q", cues)
        return _element(
            "114D9B74", _element("4DBB", _element("53AB", bytes.fromhex("1C53BB6B")), _element("53AC", place))
        )


_UNKNOWN = b"\x01" + b"\xff" * 7


def _length(size: int) -> bytes:
    return (1 << 56 | size).to_bytes(8, "big")


def _element(name: str, *value: bytes | int | float) -> bytes:
    """Return an element of EBML. name: its ID in hex. value: its bytes, an unsigned integer, or a float64."""
    parts = [
        part if isinstance(part, bytes) else struct.pack(">d" if isinstance(part, float) else ">Q", part)
        for part in value
    ]
    return bytes.fromhex(name) + _length(sum(map(len, parts))) + b"".join(parts)


def _void(size: int) -> bytes:
    return _element("EC", bytes(size - 9))


class FragmentedMp4:
    """An .mp4 or .mov in fragments of a second, each with its own index.

    ISO/IEC 14496-12, 8.8; webmproject's VP binding; Apple's QuickTime File Format, Photo-JPEG and movie fragments.
    """

    def __init__(self, path: Path, codec: str, size: tuple[int, int], frame_ns: int) -> None:
        """codec: of CODECS. size: (width, height). frame_ns: the usual time of a frame. Raises OSError."""
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115
        self._codec, self.packets, self._sequence = codec, 0, 0
        self._waiting: list[tuple[int, bytes]] = []
        width, height = size
        quicktime = path.suffix.lower() == ".mov"
        brands = b"qt  \0\0\0\0qt  " if quicktime else b"iso6\0\0\0\1iso6mp41"
        component, name = (b"mhlr", b"\5video") if quicktime else (bytes(4), b"video\0")
        matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
        vpx = _full("vpcC", 1, 0, struct.pack(">6BH", 0, 41, 8 << 4 | 1 << 1, 1, 1, 1, 0))
        sample = struct.pack(">6xH16xHHIII H32xHh", 1, width, height, 0x480000, 0x480000, 0, 1, 0x18, -1)
        table = _box(
            "stbl",
            _full("stsd", 0, 0, struct.pack(">I", 1), _box(CODECS[codec][1], sample, b"" if codec == "MJPG" else vpx)),
            *(_full(name, 0, 0, bytes(4)) for name in ("stts", "stsc", "stco")),
            _full("stsz", 0, 0, bytes(8)),
        )
        media = _box(
            "minf",
            _full("vmhd", 0, 1, bytes(8)),
            _box("dinf", _full("dref", 0, 0, struct.pack(">I", 1), _full("url ", 0, 1))),
            table,
        )
        track = _box(
            "trak",
            _full("tkhd", 0, 3, struct.pack(">8xI24x", 1), matrix, struct.pack(">II", width << 16, height << 16)),
            _box(
                "mdia",
                _full("mdhd", 0, 0, struct.pack(">8xIIHH", TIMESCALE, 0, 0x55C4, 0)),
                _full("hdlr", 0, 0, component, b"vide", bytes(12), name),
                media,
            ),
        )
        movie = _full(
            "mvhd", 0, 0, struct.pack(">8xIIIH10x", TIMESCALE, 0, 0x10000, 0x100), matrix, bytes(24), b"\0\0\0\2"
        )
        fragments = _box("mvex", _box("free", bytes(12)), _full("trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0)))
        self._file.write(_box("ftyp", brands))
        self._duration = self._file.tell() + 8 + len(movie) + len(track) + 8
        self._file.write(_box("moov", movie, track, fragments))

    def fileno(self) -> int:
        return self._file.fileno()

    def add(self, packet: bytes, time_ns: int) -> None:
        """As Matroska.add()."""
        if self._waiting and time_ns - self._waiting[0][0] >= FRAGMENT_NS:
            self._write(time_ns)
        self._waiting.append((time_ns, packet))
        self.packets += 1

    def close(self, end_ns: int) -> None:
        """As Matroska.close()."""
        if self._waiting:
            self._write(end_ns)
        self._file.seek(self._duration)
        self._file.write(_full("mehd", 1, 0, struct.pack(">Q", _ticks(end_ns))))
        os.fsync(self._file.fileno())
        self._file.close()

    def _write(self, until_ns: int) -> None:
        """Write what waits as one fragment; its last packet is shown until until_ns."""
        self._sequence += 1
        times = [_ticks(time) for time, _ in self._waiting] + [_ticks(until_ns)]
        packets = [packet for _, packet in self._waiting]
        rows = b"".join(
            struct.pack(
                ">III", times[i + 1] - times[i], len(one), 0x02000000 if _is_key(self._codec, one) else 0x01010000
            )
            for i, one in enumerate(packets)
        )

        def index(offset: int) -> bytes:
            run = _full("trun", 0, 0x701, struct.pack(">Ii", len(packets), offset), rows)
            base = _full("tfdt", 1, 0, struct.pack(">Q", times[0]))
            track = _box("traf", _full("tfhd", 0, 0x020000, struct.pack(">I", 1)), base, run)
            return _box("moof", _full("mfhd", 0, 0, struct.pack(">I", self._sequence)), track)

        self._file.write(index(len(index(0)) + 8) + _box("mdat", *packets))
        self._waiting = []


def _ticks(time_ns: int) -> int:
    return round(time_ns * TIMESCALE / 1e9)


def _box(name: str, *parts: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, parts))) + name.encode() + b"".join(parts)


def _full(name: str, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *parts)


def _is_key(codec: str, packet: bytes) -> bool:
    """Whether a packet needs none before it (RFC 6386, 9.1; VP9 bitstream, 7.2)."""
    return codec == "MJPG" or not packet[0] & (0x01 if codec == "VP80" else 0x0C)
