"""Image files: checked, read and written; and sheets of pictures."""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.files import files_in, written_beside
from pix2pix_edge.runtime.frame import BadPictureError, Image

IMAGE_ENDINGS = (".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

WRITTEN_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
"""PNG, TIFF and WebP keep an alpha; PNG and TIFF keep 16 bits, of which the others get the upper 8."""

MAX_PIXELS = 178_956_970
"""Pillow's limit too: a picture of more pixels is refused before it is decoded, for 2 MB can hold billions of them."""


def only_images(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that have the ending of an image."""
    return [path for path in paths if path.suffix.lower() in IMAGE_ENDINGS]


def list_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the images of a folder as files_in() does."""
    return only_images(files_in(folder, recursive=recursive))


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS, *, channels: int = 3) -> Image:
    """Read an image file as uint8 [H, W, 3] RGB; 16-bit, grey and alpha images are converted.

    channels: 4 keeps the alpha of a file that has one. Raises BadPictureError when it is missing, truncated, an
    animation, too large or no image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadPictureError(f"cannot read {path}: {error.strerror}") from error
    return decode_image(data, str(path), max_pixels, channels=channels)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS, *, channels: int = 3) -> Image:
    """Decode the bytes of an image file, as read_image() does. name: for messages."""
    import cv2

    try:
        width, height = size_of(data) or (0, 0)
        whole, animated = _is_whole(data), _is_animated(data)
    except (struct.error, IndexError):  # it ends in the middle of its header
        whole = animated = False
        width = height = 0
    if width * height > max_pixels:
        raise BadPictureError(
            f"{name} has {width} × {height} pixels, and would need {width * height * 6 >> 20} MiB; shrink it"
            f" (runtime/run.py allows it by --max-pixels {width * height})"
        )
    if animated:
        into = shlex.quote(str(Path(name).with_suffix(".mp4")))
        raise BadPictureError(
            f"{name} holds several pictures, of which only the first could be read; make a video of them, for example:"
            f" magick {'apng:' if data[:8] == _PNG else ''}{shlex.quote(name)} {into}"
        )
    # up to OpenCV 4.10 the missing part of a JPEG comes out grey, without a word
    try:
        buffer = np.frombuffer(data, np.uint8)
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if whole and data else None
        if channels == 4 and image is not None:
            with_alpha = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if with_alpha is not None and with_alpha.shape[2:] == (4,):
                image = with_alpha if with_alpha.dtype == np.uint8 else with_alpha >> 8
    except cv2.error:  # for example more pixels than OpenCV allows
        image = None
    if data.startswith(GIT_LFS):
        raise BadPictureError(f"{name} is a pointer of Git LFS; fetch the file: git lfs pull")
    if image is None:
        state = "is empty" if not data else "is not a whole image of 8 or 16 bits that OpenCV can read"
        raise BadPictureError(f"{name} {state}; repair or convert it, or take it away")
    return as_rgb(np.asarray(image, np.uint8))


def as_rgb(image: Image) -> Image:
    """Return OpenCV's BGR or BGRA picture as RGB or RGBA, or one of these as OpenCV's, in its own memory."""
    import cv2

    if image.size <= 4:  # OpenCV 4.5.4 takes a single pixel for damaged
        return np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[2]]])
    order = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    swapped: Image = cv2.cvtColor(image, order, dst=image)
    return swapped


GIT_LFS = b"version https://git-lfs"
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*")
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34676, 34677, 34925, 50000, 50001}
"""What libtiff reads, or refuses by itself; of others OpenCV makes a black picture (numbers: libtiff's tiff.h)."""

_JPEG_MARKER = re.compile(rb"\xff\xff*[^\x00\x01\xd0-\xd7\xff]")
"""A marker, with fill bytes before it; 00 behind FF is data, D0 to D7 restart the data (ITU T.81, B.1.1). One byte
stands by itself, for which Python searches forty times as fast as for a repeated one."""


def jpeg_segments(data: bytes | bytearray, start: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, where it begins, where the next may begin) of a JPEG file up to its end marker 0xD9.

    start: behind the marker that begins the file, or where an earlier walk ended. Stray bytes between segments are
    passed over. It ends early where `data` does; a marker whose length is missing ends where it begins.
    """
    while found := _JPEG_MARKER.search(data, start):
        marker, start = data[found.end() - 1], found.end()
        if marker not in (0xD8, 0xD9):
            length = int.from_bytes(data[start : start + 2], "big")
            start = start + length if len(data) >= start + 2 else found.start()
        yield marker, found.start(), start
        if marker == 0xD9 or start == found.start():
            return


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that the header of an image file promises; None where it is not understood.

    Raises struct.error or IndexError where the file ends before.
    """
    if data[:2] == b"\xff\xd8":
        for marker, at, _ in jpeg_segments(data):
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the frame header, not tables (T.81, B.1)
                at = data.index(marker, at)
                height, width = struct.unpack_from(">HH", data, at + 4)
                return width, height
    elif data[:8] == _PNG:
        return struct.unpack_from(">II", data, 16)
    elif data[:2] == b"BM":
        old = struct.unpack_from("<I", data, 14)[0] == 12
        width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
        return abs(width), abs(height)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _size_of_webp(data)
    elif data[:4] in _TIFF:
        return _size_of_tiff(data)
    elif found := re.match(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s", data):
        return int(found[1]), int(found[2])
    elif (at := data.find(b"ihdr", 0, 256)) >= 0:  # JPEG 2000 in its box
        height, width = struct.unpack_from(">II", data, at + 4)
        return width, height
    elif data[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000 without one
        return struct.unpack_from(">II", data, 8)
    return None


def _size_of_webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _size_of_tiff(data: bytes) -> tuple[int, int] | None:
    values = next(_tiff_directories(data), {})
    return (values[256], values[257]) if {256, 257} <= set(values) else None


def _tiff_directories(data: bytes) -> Iterator[dict[int, int]]:
    """Yield tag -> value of each picture that a TIFF file holds (TIFF 6.0, section 2)."""
    order = "<" if data[:1] == b"I" else ">"
    at, seen = struct.unpack_from(f"{order}I", data, 4)[0], {0}
    while at not in seen:
        seen.add(at)
        values = {}
        count = struct.unpack_from(f"{order}H", data, at)[0]
        for entry in range(count):
            tag, kind = struct.unpack_from(f"{order}HH", data, at + 2 + 12 * entry)
            values[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, at + 10 + 12 * entry)[0]
        yield values
        at = struct.unpack_from(f"{order}I", data, at + 2 + 12 * count)[0]


def _is_whole(data: bytes) -> bool:
    """Whether a JPEG, PNG or WebP file reaches its end, and a TIFF is of a kind that OpenCV reads.

    What follows the end, as in a phone's pictures, is no damage.
    """
    if data[:2] == b"\xff\xd8":
        return _is_whole_jpeg(data)
    if data[:8] == _PNG:
        return any(kind == b"IEND" for kind in _png_chunks(data))
    if data[:4] == b"RIFF":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    if data[:4] in _TIFF:
        values = next(_tiff_directories(data), {})
        signed = values.get(339) == 2  # its SampleFormat; taken for unsigned, -1 would be white
        lab = values.get(262) == 8  # its PhotometricInterpretation; libtiff takes the white of D50 for that of screens
        return values.get(259, 1) in _TIFF_COMPRESSIONS and not signed and not lab
    return True


_HOLE = bytes(64)


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG file has its end marker, and no hole of zeros, which is decoded as stripes without a word.

    Zeros mean the first symbol of a Huffman table again and again (T.81, annex C). Where that is a coefficient, and not
    the end of a block, they would be blocks full of equal coefficients. Zeros before a marker fill it up.
    """
    symbols: dict[int, int] = {}
    marker = scan = 0
    for marker, at, following in jpeg_segments(data):
        if scan and _HOLE in data[scan:at].rstrip(b"\0"):
            return False
        scan, body = 0, data[data.index(marker, at) + 3 : following]
        if marker == 0xC4:
            while body:
                symbols[body[0]] = body[17]
                body = body[17 + sum(body[1:17]) :]
        elif marker == 0xDA:
            count = body[0]
            tables = [symbols.get(0x10 | selectors & 0xF, 0) for selectors in body[2 : 2 * count + 1 : 2]]
            # a scan of means alone (its last coefficient is the first) may well repeat itself
            scan = following if body[2 * count + 2] and any(symbol & 0xF for symbol in tables) else 0
    return marker == 0xD9


def _is_animated(data: bytes) -> bool:
    if data[:8] == _PNG:
        return any(kind == b"acTL" for kind in _png_chunks(data))
    if data[:4] in _TIFF:  # pages, apart from smaller copies and masks (its NewSubfileType)
        return sum(not values.get(254, 0) & 5 for values in _tiff_directories(data)) > 1
    return data[:4] == b"RIFF" and data[12:16] == b"VP8X" and data[20] & 2 == 2


def _png_chunks(data: bytes) -> Iterator[bytes]:
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += length + 12
        if at <= len(data):
            yield kind


def encode_image(ending: str, image: Image) -> bytes:
    """Return the file, of the kind that `ending` names (of WRITTEN_ENDINGS), that write_image() would write."""
    import cv2

    if image.dtype == np.uint16 and ending not in (".png", ".tif", ".tiff"):
        image = (image >> 8).astype(np.uint8)
    if image.shape[2] == 4 and ending in (".jpg", ".jpeg"):
        image = image[..., :3]
    return bytes(cv2.imencode(ending, image if image.shape[2] == 1 else as_rgb(image.copy()))[1])


def write_image(path: Path, image: Image) -> None:
    """Write a uint8 or uint16 image, grey [H, W, 1], RGB or RGBA, by its path's ending. Raises InputError."""
    encoded = encode_image(path.suffix.lower(), image)
    with written_beside(path) as temporary:
        temporary.write_bytes(encoded)


MARGIN = 8
TITLE = 34
INK, PAPER = (32, 32, 32), (255, 255, 255)


def sheet(columns: Mapping[str, Sequence[Image]]) -> Image:
    """Return one picture: a title over each column, equal cells of the first image's size, white between.

    columns: title -> images uint8 [H, W, 3], RGB, as many in each column; others are resized to the first one's size.
    """
    import cv2

    height, width = next(iter(columns.values()))[0].shape[:2]
    rows = len(next(iter(columns.values())))
    shape = (TITLE + rows * (height + MARGIN), MARGIN + len(columns) * (width + MARGIN), 3)
    canvas = np.full(shape, PAPER, np.uint8)
    for column, (title, images) in enumerate(columns.items()):
        left = MARGIN + column * (width + MARGIN)
        scale = min(0.6, 0.6 * width / max(1, cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)[0][0]))
        cv2.putText(canvas, title, (left, TITLE - 12), cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
        for row, image in enumerate(images):
            top = TITLE + row * (height + MARGIN)
            cell = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            canvas[top : top + height, left : left + width] = cell
    return canvas
