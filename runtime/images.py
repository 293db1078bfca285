"""Image files: read, written, listed in natural order; and sheets of pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.frame import Image

IMAGE_ENDINGS = (".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_image(path: str | Path) -> Image:
    """Read an image file as uint8 [H, W, 3] RGB; 16-bit, grey and alpha images are converted.

    Raises InputError when the file is missing, truncated or not an image.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    # imdecode, because imread fills the missing part of a truncated JPEG with grey and says nothing
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # for example more pixels than OpenCV allows
        image = None
    if image is None:
        state = "is empty" if not data.size else "is not a whole image that OpenCV can read"
        raise InputError(f"{path} {state}; repair it or take it away")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of a path with the numbers in it by value: 2.png before 10.png."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", str(path)) if part]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its stem, with _2, _3 … where an earlier path has taken that name."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name, count = path.stem, 1
        while name in taken:
            count += 1
            name = f"{path.stem}_{count}"
        taken.add(name)
        names.append(name)
    return names


def write_image(path: Path, image: Image) -> None:
    """Write a uint8 [H, W, 3] RGB image by the ending of `path`. Raises InputError when it cannot be written."""
    import cv2

    encoded = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    try:
        with written_beside(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; make room, or write elsewhere") from error


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
