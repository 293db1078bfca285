"""Paint the parts of a facade, each from the rectangle that its plan gives and the style of its house."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pix2pix_edge.runtime.facades.scene import Part
from pix2pix_edge.runtime.facades.styles import Style
from pix2pix_edge.train.drawings.brush import Brush


def window(brush: Brush, part: Part, style: Style) -> None:
    surround = brush.around(part, 1.2, 1.2, 1.2, 0)
    surround[:] = np.array(style.trim, np.float32) * 0.97
    area = brush.view(part)
    area[:] = style.frame
    edge = brush.px(1)
    inner = area[edge:-edge, edge:-edge]
    if not inner.size:
        return
    brush.glass(inner)
    if brush.random.random() < 0.3:  # curtains
        fold = max(1, inner.shape[1] // 5)
        for side in (inner[:, :fold], inner[:, -fold:]):
            side += (np.array((226, 220, 206), np.float32) - side) * 0.55
    columns, rows = style.panes
    bar = brush.px(0.8)
    for column in range(1, columns):
        x = inner.shape[1] * column // columns
        inner[:, x - bar // 2 : x - bar // 2 + bar] = style.frame
    for row in range(1, rows):
        y = inner.shape[0] * row // rows
        inner[y - bar // 2 : y - bar // 2 + bar] = np.array(style.frame) * 0.92
    area[: brush.px(1.5)] *= 0.55  # the reveal's shadow
    area[:, : brush.px(1)] *= 0.7


def door(brush: Brush, part: Part, style: Style) -> None:
    surround = brush.around(part, 1.5, 1.5, 1.5, 0)
    surround[:] = style.trim
    area = brush.view(part)
    area[:] = style.door
    height, width = area.shape[:2]
    light = height // 4
    brush.glass(area[brush.px(1) : light, brush.px(1) : -brush.px(1)])
    for column in range(2):
        for top, bottom in ((0.3, 0.6), (0.65, 0.95)):
            x = round(width * (0.1 + 0.45 * column))
            panel = area[round(top * height) : round(bottom * height), x : x + round(0.35 * width)]
            panel *= 1.15
            brush.bevel(panel, brush.px(0.6), 0.35)
    area[:, width // 2 : width // 2 + brush.px(0.5)] *= 0.5
    area[: brush.px(1.5)] *= 0.6
    area[:, : brush.px(1)] *= 0.75


def shop(brush: Brush, part: Part, style: Style) -> None:
    area = brush.view(part)
    area[:] = np.array(style.door, np.float32) * 0.8
    height, width = area.shape[:2]
    sign, edge = round(0.22 * height), brush.px(1.5)
    pane = area[sign + round(0.16 * height) : -edge, edge:-edge]
    if not pane.size:
        return
    brush.glass(pane, low=0.6)
    goods = pane[pane.shape[0] // 2 :]
    glow = np.array((236, 190, 120), np.float32) * (0.6 + 0.3 * brush.noise(goods.shape, brush.px(3)))[..., None]
    goods += (glow - goods) * 0.45
    pane[:, pane.shape[1] // 2 : pane.shape[1] // 2 + brush.px(1)] = style.door
    area[: sign // 4] *= 1.2
    area[sign // 3 : sign * 2 // 3, width // 5 : -width // 5] = np.array((232, 216, 170), np.float32)
    stripe = brush.px(3)
    awning = area[sign : sign + round(0.16 * height)]
    stripes = (np.arange(width) // stripe % 2).astype(bool)
    awning[:, stripes] = (196, 62, 52)
    awning[:, ~stripes] = (240, 234, 222)
    awning *= np.linspace(1.05, 0.8, len(awning), dtype=np.float32)[:, None, None]
    pane[: brush.px(2)] *= 0.6


def cornice(brush: Brush, part: Part, style: Style) -> None:
    brush.shadow(part, 3)
    area = brush.view(part)
    area[:] = style.trim
    area[len(area) // 2 :, brush.px(1) : -brush.px(1)] *= 0.88
    brush.bevel(area, brush.px(0.6))


def sill(brush: Brush, part: Part, style: Style) -> None:
    brush.shadow(part, 3)
    area = brush.view(part)
    area[:] = style.trim
    brush.bevel(area, brush.px(0.6))


def molding(brush: Brush, part: Part, style: Style) -> None:
    brush.shadow(part, 4)
    area = brush.view(part)
    area[:] = style.trim
    height = len(area)
    area[height // 3 : height // 2] *= 0.82
    if height > brush.px(4.5) and style.texture != "panels":  # dentils
        tooth = brush.px(2)
        gaps = (np.arange(area.shape[1]) // tooth % 2).astype(bool)
        area[height // 2 : -brush.px(1), gaps] *= 0.72
    brush.bevel(area, brush.px(0.8))


def pillar(brush: Brush, part: Part, style: Style) -> None:
    brush.shadow(part, 3, 0.3)
    area = brush.view(part)
    width = area.shape[1]
    around = np.sin(np.linspace(0.5, np.pi - 0.3, width)).astype(np.float32)
    area[:] = np.array(style.trim, np.float32) * (0.72 + 0.3 * around)[None, :, None]
    for flute in range(1, 4):
        x = width * flute // 4
        area[:, x : x + brush.px(0.5)] *= 0.86
    for end in (area[: brush.px(4)], area[-brush.px(4) :]):
        end[:] = style.trim
        brush.bevel(end, brush.px(0.8))


def deco(brush: Brush, part: Part, style: Style) -> None:
    area = brush.view(part)
    area[:] = np.array(style.trim, np.float32) * 0.92
    brush.bevel(area, brush.px(0.8))
    height, width = area.shape[:2]
    step = max(height, 1)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rings = np.hypot((x - width / 2 + step / 2) % step - step / 2, y - height / 2) / max(1, step / 2)
    area *= (1 + 0.22 * np.cos(rings * 6) * (rings < 0.9))[..., None].astype(np.float32)


def blind(brush: Brush, part: Part, style: Style) -> None:
    area = brush.view(part)
    area[:] = (222, 214, 190) if style.texture == "panels" else np.array(style.door) * 1.3
    slat = brush.px(1.6)
    area *= (0.78 + 0.3 * (np.arange(len(area)) % slat) / slat).astype(np.float32)[:, None, None]
    area[: brush.px(1.5)] *= 0.65
    area[:, : brush.px(1)] *= 0.8


def balcony(brush: Brush, part: Part, style: Style) -> None:
    brush.shadow(part, 5, 0.5)
    area = brush.view(part)
    height, width = area.shape[:2]
    slab = min(height // 3, brush.px(3))
    front = area[: height - slab]
    if style.texture == "panels":  # a glass front
        front += (np.array(style.railing, np.float32) - front) * 0.6
        front[:, :: brush.px(12)] *= 0.7
    else:
        front *= 0.8
        bar, gap = brush.px(0.7), brush.px(2.6)
        bars = np.arange(width) % gap < bar
        front[:, bars] = style.railing
        front[-brush.px(1) :] = style.railing
    front[: brush.px(1.2)] = np.array(style.railing, np.float32) * 1.05
    base = area[height - slab :]
    base[:] = style.trim
    brush.bevel(base, brush.px(0.7))


PARTS: dict[str, Callable[[Brush, Part, Style], None]] = {
    "window": window,
    "door": door,
    "shop": shop,
    "cornice": cornice,
    "sill": sill,
    "molding": molding,
    "pillar": pillar,
    "deco": deco,
    "blind": blind,
    "balcony": balcony,
}
