"""The canvas of a drawn facade, and what its painters share: measures, noise, light and shadow.

Colours are float32 RGB from 0 to 255. The light comes from the upper left, so that edges there are bright and shadows
fall to the lower right.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.facades.scene import Part

Canvas = NDArray[np.float32]
"""float32 [H, W, 3]: the whole picture, or a rectangular view into it."""

SUPERSAMPLING = 2  # painted this many times larger and averaged down, which smooths every edge


class Brush:
    """A canvas, the random numbers used on it, and what every painter does with them."""

    def __init__(self, random: np.random.Generator, side: int) -> None:
        self.random = random
        self.canvas: Canvas = np.zeros((side, side, 3), np.float32)
        self.unit = side / 256  # pixels in 1/256 of the side

    def px(self, units: float) -> int:
        """Return a length of the plan in whole pixels, at least 1."""
        return max(1, round(units * self.unit))

    def noise(self, shape: Sequence[int], cell: int) -> NDArray[np.float32]:
        """Return smooth noise, float32 shape[:2], mostly within -1 to 1, that changes over about `cell` pixels."""
        height, width = shape[:2]
        coarse = self.random.normal(0, 0.5, (height // cell + 3, width // cell + 3)).astype(np.float32)
        smooth: NDArray[np.float32] = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        return smooth[:height, :width]

    def view(self, part: Part) -> Canvas:
        k = SUPERSAMPLING
        return self.canvas[part.top * k : part.bottom * k, part.left * k : part.right * k]

    def around(self, part: Part, left: float, top: float, right: float, bottom: float) -> Canvas:
        """Return the canvas of a part grown by so many units on each side."""
        k = SUPERSAMPLING
        rows = slice(max(0, part.top * k - round(top * self.unit)), part.bottom * k + round(bottom * self.unit))
        columns = slice(max(0, part.left * k - round(left * self.unit)), part.right * k + round(right * self.unit))
        return self.canvas[rows, columns]

    def shadow(self, part: Part, length: float, strength: float = 0.45) -> None:
        """Darken what lies below and right of a part that stands out of the wall."""
        k, reach = SUPERSAMPLING, self.px(length)
        right, bottom = part.right * k, part.bottom * k
        below = self.canvas[bottom : bottom + reach, part.left * k + reach // 2 : right + reach // 2]
        below *= 1 - strength * np.linspace(1, 0, reach, dtype=np.float32)[: len(below), None, None]
        beside = self.canvas[part.top * k + reach // 2 : bottom, right : right + reach // 2]
        beside *= 1 - 0.5 * strength

    def bevel(self, area: Canvas, width: int, strength: float = 0.22) -> None:
        """Light the upper and left edges of a raised area, darken the lower and right ones."""
        for edge, sign in ((area[:width], 1), (area[:, :width], 0.6), (area[-width:], -1.3), (area[:, -width:], -0.9)):
            edge *= 1 + sign * strength

    def glass(self, area: Canvas, low: float = 0.25) -> None:
        """Dark rooms behind, the sky's reflection in the upper panes."""
        height, width = area.shape[:2]
        room = np.array((44, 52, 62), np.float32)
        sky = np.array((150, 176, 200), np.float32)
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        slant = np.linspace(0, 0.35, width, dtype=np.float32)[None]
        mirror = np.clip(0.75 - 1.1 * down + slant, low * 0.4, 0.7) + 0.06 * self.noise(area.shape, self.px(6))
        area[:] = room + (sky - room) * mirror[..., None]
