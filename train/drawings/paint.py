"""Paint the picture of a planned facade: sky, street, roofs and walls; facade_parts.py adds windows and the rest."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pix2pix_edge.runtime.facades.scene import House, Scene
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.train.drawings.brush import SUPERSAMPLING, Brush, Canvas
from pix2pix_edge.train.drawings.parts import PARTS


def paint_scene(random: np.random.Generator, scene: Scene) -> Image:
    """Return the picture of the scene: uint8 [S, S, 3], RGB."""
    side = scene.size * SUPERSAMPLING
    brush = Brush(random, side)
    sky(brush)
    street(brush, scene.street * SUPERSAMPLING)
    for house in scene.houses:
        paint_house(brush, house)
    light = 1 + 0.05 * brush.noise((side, side), side // 2) + random.uniform(-0.03, 0.03)
    picture = cv2.resize(brush.canvas * light[..., None], (scene.size, scene.size), interpolation=cv2.INTER_AREA)
    grain = random.normal(0, 2.0, (*picture.shape[:2], 1))
    grainy: Image = np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)
    return grainy


def sky(brush: Brush) -> None:
    side = len(brush.canvas)
    height = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    zenith = np.array((104, 152, 208), np.float32)
    horizon = np.array((214, 226, 236), np.float32)
    brush.canvas[:] = zenith + (horizon - zenith) * np.minimum(1, 1.5 * height)
    clouds = sum(
        strength * cv2.resize(brush.noise((side, side // 2), side // cells), (side, side))
        for cells, strength in ((3, 0.8), (8, 0.5), (20, 0.3), (50, 0.15))
    )
    cover = np.clip(0.5 * clouds + 0.05, 0, 0.4)[..., None]
    brush.canvas += (np.float32(248) - brush.canvas) * cover


def street(brush: Brush, top: int) -> None:
    road = brush.canvas[top:]
    road[:] = (128, 126, 124)
    road *= 1 + 0.08 * brush.noise(road.shape, brush.px(2))[..., None]
    kerb = brush.px(6)
    road[:kerb] *= 1.28
    road[kerb : kerb + brush.px(1)] *= 0.6
    for x in range(brush.px(5), road.shape[1], brush.px(14)):
        road[:kerb, x : x + brush.px(0.5)] *= 0.85


def paint_house(brush: Brush, house: House) -> None:
    roof(brush, house)
    wall = brush.view(house.facade)
    tint = brush.random.uniform(0.96, 1.04) * brush.random.uniform(0.99, 1.01, 3)
    wall[:] = np.array(house.style.walls[house.wall], np.float32) * tint
    WALLS[house.style.texture](brush, wall)
    wall *= 1 + 0.05 * brush.noise(wall.shape, brush.px(24))[..., None]
    wall *= np.linspace(1.05, 0.9, len(wall), dtype=np.float32)[:, None, None]
    wall[: brush.px(8)] *= np.linspace(0.7, 1, brush.px(8), dtype=np.float32)[: len(wall), None, None]
    for part in house.parts:
        PARTS[part.kind](brush, part, house.style)
    brush.bevel(wall, brush.px(0.6), 0.15)


def roof(brush: Brush, house: House) -> None:
    """Fill a slope above the facade, with a ridge narrower than the eaves, tiles, and chimneys."""
    style, k = house.style, SUPERSAMPLING
    left, right, eaves = house.facade.left * k, house.facade.right * k, house.facade.top * k
    height = brush.px(style.slope)
    ridge = max(0, eaves - height)
    inset = round(0.35 * height) if style.slope > 10 else 0
    if style.slope > 10:
        for x in brush.random.uniform(left + inset, max(left + inset + 1, right - inset - brush.px(8)), 2):
            stack = brush.canvas[max(0, ridge - brush.px(7)) : ridge + brush.px(2), int(x) : int(x) + brush.px(6)]
            stack[:] = np.array(style.walls[0]) * 0.7
            brush.bevel(stack, brush.px(1))
    tile = brush.px(2.5)
    rows = np.arange(eaves - ridge)
    shade = 0.82 + 0.3 * ((rows % tile) / tile) + 0.15 * np.linspace(1, 0, len(rows))
    texture = shade[:, None] * (1 + 0.1 * brush.noise((len(rows), right - left), brush.px(2.5)))
    slope = (texture[..., None] * style.roof).astype(np.float32)
    for row in rows:
        cut = round(inset * (1 - row / max(1, len(rows))))
        brush.canvas[ridge + row, left + cut : right - cut] = slope[row, cut : right - left - cut]
    brush.canvas[ridge : ridge + brush.px(1), left + inset : right - inset] *= 1.15


def brick(brush: Brush, wall: Canvas) -> None:
    course, length = brush.px(2), brush.px(5)
    height, width = wall.shape[:2]
    rows, columns = height // course + 1, width // length + 2
    tones = brush.random.normal(1, 0.09, (rows, columns)).astype(np.float32)
    tones = np.repeat(np.repeat(tones, course, 0), length, 1)
    shifted = np.roll(tones, length // 2, 1)
    odd = (np.arange(len(tones)) // course % 2).astype(bool)
    tones[odd] = shifted[odd]
    wall *= tones[:height, :width, None]
    mortar = np.arange(height) % course == 0
    wall[mortar] = 0.6 * wall[mortar] + 0.4 * np.float32(186)


def plaster(brush: Brush, wall: Canvas) -> None:
    wall *= 1 + 0.035 * brush.noise(wall.shape, brush.px(1))[..., None]
    wall *= 1 + 0.05 * brush.noise(wall.shape, brush.px(10))[..., None]


def ashlar(brush: Brush, wall: Canvas) -> None:
    course, length = brush.px(7), brush.px(15)
    plaster(brush, wall)
    for row, y in enumerate(range(0, len(wall), course)):
        wall[y : y + brush.px(0.5)] *= 0.84
        for x in range(row % 2 * length // 2, wall.shape[1], length):
            block = wall[y : y + course, x : x + length]
            block *= brush.random.normal(1, 0.02)
            block[:, : brush.px(0.5)] *= 0.88


def panels(brush: Brush, wall: Canvas) -> None:
    wall *= 1 + 0.02 * brush.noise(wall.shape, brush.px(12))[..., None]
    for y in range(0, len(wall), brush.px(18)):
        wall[y : y + brush.px(0.5)] *= 0.86
    for x in range(0, wall.shape[1], brush.px(24)):
        wall[:, x : x + brush.px(0.5)] *= 0.9


WALLS: dict[str, Callable[[Brush, Canvas], None]] = {
    "brick": brick,
    "plaster": plaster,
    "ashlar": ashlar,
    "panels": panels,
}
