"""The classes of a facade's parts and the styles of drawn houses.

The classes and their colours are those of the CMP facade data set (Tyleček and Šára, "Spatial Pattern Templates for
Recognition of Objects with Regular Structure", 2013), as pix2pix's label maps show them.
"""

from __future__ import annotations

import dataclasses

RGB = tuple[int, int, int]

# Name -> RGB, in the order in which they are painted over each other.
CLASSES: dict[str, RGB] = {
    "background": (0, 0, 222),
    "facade": (0, 48, 255),
    "molding": (255, 80, 0),
    "pillar": (255, 0, 0),
    "deco": (255, 159, 0),
    "shop": (174, 0, 0),
    "window": (0, 128, 255),
    "door": (0, 207, 255),
    "cornice": (32, 255, 224),
    "sill": (112, 255, 142),
    "blind": (255, 240, 0),
    "balcony": (192, 255, 63),
}


@dataclasses.dataclass(frozen=True)
class Style:
    """How a kind of house looks and is laid out; probabilities from 0 to 1, lengths as fractions of a storey or bay.

    The layout differs from style to style as much as the colours do, so that a network can tell from a label map what
    the wall is made of.
    """

    walls: tuple[RGB, ...]
    texture: str
    trim: RGB
    frame: RGB
    roof: RGB
    door: RGB
    railing: RGB
    storey: tuple[int, int]  # height in 1/256 of the image
    bay: tuple[int, int]  # width in 1/256 of the image
    window: tuple[float, float]  # width, height
    panes: tuple[int, int]  # columns, rows
    cornice: float
    sill: float
    blind: float
    balcony: float
    deco: float
    molding: float
    pillar: float
    shop: float
    slope: int  # height of the roof in 1/256 of the image


STYLES: dict[str, Style] = {
    "brick": Style(
        walls=((158, 84, 62), (142, 70, 54), (170, 102, 78)),
        texture="brick",
        trim=(222, 212, 194),
        frame=(240, 238, 230),
        roof=(74, 68, 70),
        door=(46, 74, 62),
        railing=(46, 46, 50),
        storey=(38, 46),
        bay=(30, 38),
        window=(0.46, 0.56),
        panes=(2, 3),
        cornice=1.0,
        sill=1.0,
        blind=0.0,
        balcony=0.0,
        deco=0.0,
        molding=0.0,
        pillar=0.0,
        shop=0.75,
        slope=14,
    ),
    "baroque": Style(
        walls=((226, 192, 122), (232, 206, 150), (214, 178, 116)),
        texture="plaster",
        trim=(244, 238, 224),
        frame=(250, 248, 240),
        roof=(150, 82, 58),
        door=(106, 66, 40),
        railing=(60, 58, 56),
        storey=(42, 52),
        bay=(34, 44),
        window=(0.42, 0.54),
        panes=(2, 2),
        cornice=1.0,
        sill=0.0,
        blind=0.0,
        balcony=0.1,
        deco=0.7,
        molding=0.8,
        pillar=1.0,
        shop=0.2,
        slope=26,
    ),
    "boulevard": Style(
        walls=((206, 196, 176), (214, 204, 186), (198, 190, 174)),
        texture="ashlar",
        trim=(226, 218, 200),
        frame=(232, 230, 224),
        roof=(92, 104, 122),
        door=(38, 56, 84),
        railing=(34, 36, 40),
        storey=(40, 48),
        bay=(26, 32),
        window=(0.46, 0.7),
        panes=(2, 4),
        cornice=0.0,
        sill=0.0,
        blind=0.15,
        balcony=0.7,
        deco=0.1,
        molding=1.0,
        pillar=0.0,
        shop=0.9,
        slope=34,
    ),
    "modern": Style(
        walls=((222, 224, 226), (150, 168, 182), (206, 190, 166)),
        texture="panels",
        trim=(176, 182, 188),
        frame=(64, 70, 78),
        roof=(120, 124, 130),
        door=(70, 84, 98),
        railing=(150, 178, 190),
        storey=(34, 40),
        bay=(44, 60),
        window=(0.72, 0.52),
        panes=(3, 1),
        cornice=0.0,
        sill=0.0,
        blind=0.5,
        balcony=0.3,
        deco=0.0,
        molding=0.0,
        pillar=0.0,
        shop=0.5,
        slope=4,
    ),
    "seaside": Style(
        walls=((150, 196, 182), (228, 164, 148), (154, 182, 212)),
        texture="plaster",
        trim=(250, 248, 244),
        frame=(252, 252, 250),
        roof=(186, 98, 70),
        door=(44, 92, 124),
        railing=(250, 250, 250),
        storey=(36, 44),
        bay=(36, 46),
        window=(0.4, 0.5),
        panes=(2, 2),
        cornice=0.0,
        sill=1.0,
        blind=0.35,
        balcony=0.3,
        deco=0.0,
        molding=0.0,
        pillar=0.0,
        shop=0.2,
        slope=20,
    ),
}
