"""A sheet of pictures: one titled column per kind, one row per picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.frame import Image

MARGIN = 8
TITLE = 34
INK, PAPER = (32, 32, 32), (255, 255, 255)


def sheet(columns: dict[str, Sequence[Image]]) -> Image:
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
