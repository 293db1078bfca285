"""The scene of a drawn facade: which part of which class stands where. Its label map is the scene painted flat."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from pix2pix_edge.runtime.facades.styles import CLASSES, STYLES, Style
from pix2pix_edge.runtime.frame import Image

UNITS = 256  # every length in this module is in 1/256 of the image's side


@dataclasses.dataclass(frozen=True)
class Part:
    """One labelled rectangle, in pixels of the label map; the end is not included."""

    kind: str
    left: int
    top: int
    right: int
    bottom: int


@dataclasses.dataclass(frozen=True)
class House:
    """A facade and its parts, in the order in which they are painted; wall: which of the style's colours."""

    style: Style
    wall: int
    facade: Part
    parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one pair shows: a street at the bottom, sky at the top, houses between."""

    size: int
    street: int
    houses: tuple[House, ...]


def random_scene(random: np.random.Generator, size: int) -> Scene:
    """Return one random scene of size x size pixels."""
    street = UNITS - random.uniform(10, 20)
    left, right = random.uniform(-6, 26), UNITS - random.uniform(-6, 26)
    edges = [left, right]
    if random.random() < 0.4:
        edges.insert(1, left + (right - left) * random.uniform(0.4, 0.6))
    names = random.permutation(list(STYLES))
    houses = tuple(
        _Builder(random, STYLES[name], size).house(start, end, street)
        for name, start, end in zip(names, edges, edges[1:], strict=False)
    )
    return Scene(size, round(street * size / UNITS), houses)


def label_map(scene: Scene) -> Image:
    """Return the scene's label map: uint8 [S, S, 3] RGB in the colours of CLASSES."""
    canvas = np.full((scene.size, scene.size, 3), CLASSES["background"], np.uint8)
    for house in scene.houses:
        for part in (house.facade, *house.parts):
            canvas[part.top : part.bottom, part.left : part.right] = CLASSES[part.kind]
    return canvas


class _Builder:
    """Collects the parts of one house."""

    def __init__(self, random: np.random.Generator, style: Style, size: int) -> None:
        self.random = random
        self.style = style
        self.size = size
        self.parts: list[Part] = []
        self.has_cornice = self._chance(style.cornice)
        self.has_sill = self._chance(style.sill)
        self.has_blind = self._chance(2 * style.blind)
        self.has_molding = self._chance(style.molding)
        self.has_deco = self._chance(style.deco)
        self.window = np.array(style.window) * random.uniform(0.9, 1.1, 2)

    def house(self, left: float, right: float, street: float) -> House:
        style = self.style
        crown = 7.0
        height = street - style.slope - crown - self.random.uniform(8, 24)  # leaves some sky above the roof
        storeys = max(1, round(height / self.random.uniform(*style.storey) - 1.15))
        storey = height / (storeys + 1.15)
        storeys = max(min(2, storeys), storeys - int(self.random.choice(3, p=(0.65, 0.25, 0.1))))
        ground = 1.15 * storey
        roof = street - ground - storeys * storey - crown
        bay = self.random.uniform(*style.bay)
        bays = max(2, round((right - left) / bay))
        lines = np.linspace(left, right, bays + 1)
        facade = self._box("facade", left, roof, right, street)

        if style.texture != "panels":
            self._add("molding", left, roof, right, roof + crown)
        if self._chance(style.pillar):
            for line in {lines[0] + 3, lines[-1] - 3, *(lines[2:-2:2] if self._chance(0.5) else ())}:
                self._add("pillar", line - 3, roof + crown, line + 3, street - ground)
        for floor in range(storeys):
            self._storey(lines, roof + crown + floor * storey, storey, floor, street - ground)
        self._ground_floor(lines, street - ground, street)
        order = list(CLASSES)
        self.parts.sort(key=lambda part: order.index(part.kind))
        kinds = {part.kind for part in self.parts}
        wall = 2 if "balcony" in kinds else int("blind" in kinds)
        return House(style, wall, facade, tuple(self.parts))

    def _storey(self, lines: np.ndarray, top: float, height: float, floor: int, lowest: float) -> None:
        style = self.style
        bottom = top + height
        if self.has_molding and bottom < lowest - 1:
            self._add("molding", lines[0], bottom - 1.5, lines[-1], bottom + 2)
        bays = len(lines) - 1
        balconies = self._chance(style.balcony)
        long_balcony = balconies and style.texture == "ashlar"
        every = int(self.random.integers(1, 4))
        for index, (left, right) in enumerate(itertools.pairwise(lines)):
            width, tall = self.window * (right - left, height)
            middle = (left + right) / 2
            sash_top = top + 0.6 * (height - tall) + 1
            sash_bottom = sash_top + tall
            sash_left, sash_right = middle - width / 2, middle + width / 2
            self._add("window", sash_left, sash_top, sash_right, sash_bottom)
            if self.has_cornice:
                self._add("cornice", sash_left - 2.5, sash_top - 4.5, sash_right + 2.5, sash_top - 1)
            has_balcony = balconies and not long_balcony and min(index, bays - 1 - index) % every == 0
            if has_balcony:
                self._add("balcony", sash_left - 4, sash_bottom - 0.42 * tall, sash_right + 4, sash_bottom + 2.5)
            elif self.has_sill:
                self._add("sill", sash_left - 2, sash_bottom, sash_right + 2, sash_bottom + 2.5)
            if self.has_blind and self._chance(0.6):
                share = self.random.choice((0.35, 0.6, 1.0))
                self._add("blind", sash_left, sash_top, sash_right, sash_top + share * tall)
            if self.has_deco and not has_balcony and floor % 2 == 0 and bottom - sash_bottom > 8:
                self._add("deco", sash_left + 1, sash_bottom + 4, sash_right - 1, bottom - 2.5)
        if long_balcony:
            self._add("balcony", lines[0] + 3, bottom - 0.3 * height, lines[-1] - 3, bottom + 1)

    def _ground_floor(self, lines: np.ndarray, top: float, street: float) -> None:
        if self.style.texture != "panels":
            self._add("molding", lines[0], top - 2, lines[-1], top + 3)
        bays = len(lines) - 1
        entrance = bays // 2 if self._chance(0.6) else int(self.random.integers(0, bays))
        shops = self._chance(self.style.shop)
        for index, (left, right) in enumerate(itertools.pairwise(lines)):
            height, width = street - top, right - left
            middle = (left + right) / 2
            if index == entrance:
                half = min(8.0, 0.3 * width)
                self._add("door", middle - half, top + 0.3 * height, middle + half, street)
                if self.has_cornice:
                    self._add(
                        "cornice", middle - half - 3, top + 0.3 * height - 5, middle + half + 3, top + 0.3 * height
                    )
            elif shops:
                self._add("shop", left + 2, top + 6, right - 2, street - 2)
            else:
                half = self.window[0] * width / 2
                self._add("window", middle - half, top + 0.28 * height, middle + half, top + 0.75 * height)
                if self.has_sill:
                    sill = top + 0.75 * height
                    self._add("sill", middle - half - 2, sill, middle + half + 2, sill + 2.5)

    def _chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def _add(self, kind: str, left: float, top: float, right: float, bottom: float) -> None:
        part = self._box(kind, left, top, right, bottom)
        if part.right > part.left and part.bottom > part.top:
            self.parts.append(part)

    def _box(self, kind: str, left: float, top: float, right: float, bottom: float) -> Part:
        edges = (round(min(max(edge, 0), UNITS) * self.size / UNITS) for edge in (left, top, right, bottom))
        return Part(kind, *edges)
