"""Pictures larger than the engine's size, translated in overlapping tiles that are blended into one another.

Along each axis the tiles are spread evenly and overlap by a quarter of their length at least. In an overlap the weight
of one tile falls linearly while that of the next one rises, and all weights of a pixel add up to one: an engine that
treats each pixel by itself gives exactly what it would give of the whole picture, and where two tiles disagree the
difference is spread over the overlap. Besides the two pictures only one row of tiles is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.engines.base import Engine, Images, Ticket
from pix2pix_edge.runtime.frame import Image, fit

TILE = "tile"
"""What --fit calls it."""
OVERLAP = 4
"""Neighbours share at least the OVERLAP-th part of a tile."""
FEW = 16
"""Tiles that take no time worth showing."""

Weights = NDArray[np.float32]


class Tiles:
    """Submits whole pictures of any size to an engine of a fixed one, batch 1, in the engine's own way."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def submit(self, images: Images) -> TiledTicket:
        """Return a ticket of one picture, uint8 [1, H, W, C] of any H and W; it is translated when it is asked for."""
        return TiledTicket(self.engine, images[0])


class TiledTicket:
    """The translation of one picture in tiles; computed in result()."""

    def __init__(self, engine: Engine, image: Image) -> None:
        self._engine, self._image = engine, image
        self.compute_ns = 0

    def result(self) -> Images:
        """Return uint8 [1, H, W, C]. Raises EngineError."""
        from tqdm import tqdm

        _, height, width, channels = self._engine.input.shape
        image = (
            self._image if self._image.shape[2] == channels else fit(self._image, (*self._image.shape[:2], channels))
        )
        size = image.shape[:2]
        image = _at_least(image, height, width)
        rows, columns = spread(image.shape[0], height), spread(image.shape[1], width)
        translated = np.empty((*image.shape[:2], self._engine.output.shape[3]), self._engine.output.dtype)
        count = len(rows) * len(columns)
        with tqdm(
            total=count, unit="tile", leave=False, dynamic_ncols=True, disable=None if count > FEW else True
        ) as bar:
            results = self._results(image, [start for start, _ in rows], [start for start, _ in columns])
            band = np.zeros((height, *translated.shape[1:]), np.float32)
            for place, (top, down) in enumerate(rows):
                for left, across in columns:
                    weight = down[:, None, None] * across[None, :, None]
                    band[:, left : left + width] += next(results) * weight
                    bar.update()
                # what lies above the next row of tiles is finished
                done = height if place == len(rows) - 1 else rows[place + 1][0] - top
                translated[top : top + done] = np.clip(np.rint(band[:done]), 0, np.iinfo(translated.dtype).max)
                band[: height - done] = band[done:]
                band[height - done :] = 0
        return np.ascontiguousarray(translated[None, : size[0], : size[1]])

    def _results(self, image: Image, rows: list[int], columns: list[int]) -> Iterator[Image]:
        """Yield the translated tiles, row by row, with as many in the engine at once as it takes."""
        _, height, width, _ = self._engine.input.shape
        flying: deque[Ticket] = deque()

        def landed() -> Image:
            ticket = flying.popleft()
            tile: Image = ticket.result()[0]
            self.compute_ns += ticket.compute_ns
            return tile

        for top in rows:
            for left in columns:
                if len(flying) == self._engine.slots:
                    yield landed()
                tile = image[top : top + height, left : left + width]
                flying.append(self._engine.submit(np.ascontiguousarray(tile)[None]))
        while flying:
            yield landed()


def spread(length: int, size: int) -> list[tuple[int, Weights]]:
    """Return (start, weights of its `size` pixels) of each tile along an axis of `length`, at least `size`."""
    step = size - max(1, size // OVERLAP)
    count = max(1, -(-(length - size) // step) + 1)
    starts = [round(place * (length - size) / max(1, count - 1)) for place in range(count)]
    hat = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float64)
    total = np.zeros(length)
    for start in starts:
        total[start : start + size] += hat
    return [(start, (hat / total[start : start + size]).astype(np.float32)) for start in starts]


def _at_least(image: Image, height: int, width: int) -> Image:
    """Return the picture with its edge repeated until a tile fits into it."""
    below, right = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else image
