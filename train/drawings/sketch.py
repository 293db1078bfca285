"""Draw a planned facade as a pen on white paper shows it, and the paper as a camera sees it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.facades.scene import Part, Scene
from pix2pix_edge.runtime.frame import Image

SUBPIXEL_BITS = 4  # strokes are drawn at sixteenths of a pixel
SUPERSAMPLING = 2
MOST_TILT = 10.0  # degrees, of the paper against the camera

Point = tuple[float, float]


class Pen:
    """A pen of one width and one hand, on a sheet of white paper."""

    def __init__(self, random: np.random.Generator, size: int) -> None:
        self.random = random
        self.paper = np.full((size * SUPERSAMPLING,) * 2, 255, np.uint8)
        unit = size / 256 * SUPERSAMPLING
        self.width = random.uniform(1, 6) * unit
        self.wobble = random.uniform(0.1, 1.3) * unit
        self.overshoot = random.uniform(0, 4) * unit
        self.gaps = random.choice((0.0, 0.0, 0.08, 0.2))  # how many strokes are lifted once
        self.ink = int(random.integers(0, 70))
        self.twice = random.random() < 0.2  # goes over each line again

    def line(self, start: Point, end: Point) -> None:
        """Draw one stroke between two points in pixels of the label map."""
        for _ in range(2 if self.twice else 1):
            self._stroke(np.array(start, float) * SUPERSAMPLING, np.array(end, float) * SUPERSAMPLING)

    def _stroke(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> None:
        length = float(np.hypot(*(end - start)))
        if length < 1:
            return
        along = (end - start) / length
        start = start - along * self.random.uniform(-0.3, 1) * self.overshoot
        end = end + along * self.random.uniform(-0.3, 1) * self.overshoot
        count = max(2, int(length / 12))
        shares = np.linspace(0, 1, count + 1)[:, None]
        # a hand drifts slowly and trembles a little
        drift = np.sin(shares * np.pi * self.random.uniform(0.5, 2) + self.random.uniform(0, 6)) * self.wobble
        across = np.array((-along[1], along[0]))
        points = (
            start + (end - start) * shares + across * (drift + self.random.normal(0, 0.25, drift.shape) * self.wobble)
        )
        pieces = [points]
        if count > 4 and self.random.random() < self.gaps:
            cut = int(self.random.integers(1, count - 2))
            pieces = [points[: cut + 1], points[cut + 2 :]]
        for piece in pieces:
            fixed = np.rint(piece * (1 << SUBPIXEL_BITS)).astype(np.int32)
            width = max(1, round(self.width * self.random.uniform(0.8, 1.2)))
            cv2.polylines(self.paper, [fixed], False, self.ink, width, cv2.LINE_AA, SUBPIXEL_BITS)

    def box(self, part: Part, open_below: bool = False) -> None:
        """Draw the outline of a part."""
        left, top, right, bottom = part.left, part.top, part.right, part.bottom
        self.line((left, top), (right, top))
        self.line((left, top), (left, bottom))
        self.line((right, top), (right, bottom))
        if not open_below:
            self.line((left, bottom), (right, bottom))

    def hatch(self, part: Part, gap: float) -> None:
        """Fill a part with slanting strokes."""
        width, height = part.right - part.left, part.bottom - part.top
        for offset in np.arange(gap, width + height, gap):
            first = (part.left + min(offset, width), part.top + max(0.0, offset - width))
            second = (part.left + max(0.0, offset - height), part.top + min(offset, height))
            self.line(first, second)


def sketch_scene(random: np.random.Generator, scene: Scene) -> Image:
    """Return a scene as outlines in black on white: uint8 [S, S, 3]."""
    pen = Pen(random, scene.size)
    unit = scene.size / 256
    gap = max(4.0, 7 * unit, 2.2 * pen.width / SUPERSAMPLING)  # between the strokes of a hatching
    hatched = random.random() < 0.5
    crossed = random.random() < 0.4
    pen.line((0, scene.street), (scene.size, scene.street))
    for house in scene.houses:
        facade, slope = house.facade, house.style.slope * unit
        pen.box(facade)
        if house.style.slope > 10:
            inset = 0.35 * slope
            ridge = max(0.0, facade.top - slope)
            pen.line((facade.left, facade.top), (facade.left + inset, ridge))
            pen.line((facade.right, facade.top), (facade.right - inset, ridge))
            pen.line((facade.left + inset, ridge), (facade.right - inset, ridge))
        for part in house.parts:
            thin = min(part.right - part.left, part.bottom - part.top) < 5 * unit
            if thin:  # a sill or a cornice is one stroke
                middle = (part.top + part.bottom) / 2
                pen.line((part.left, middle), (part.right, middle))
                continue
            pen.box(part, open_below=part.kind in ("door", "shop"))
            if part.kind == "window" and hatched:
                pen.hatch(part, gap)
            elif part.kind == "window" and crossed:
                middle = (part.left + part.right) / 2
                pen.line((middle, part.top), (middle, part.bottom))
            elif part.kind in ("balcony", "blind"):
                for x in np.arange(part.left, part.right, gap):
                    pen.line((x, part.top), (x, part.bottom))
    small = cv2.resize(pen.paper, (scene.size, scene.size), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, -1)


def photographed(random: np.random.Generator, paper: Image, picture: Image) -> tuple[Image, Image]:
    """Return a sheet as a camera sees it: tilted up to 10 degrees, unevenly lit, tinted, a little blurred, noisy.

    The picture that belongs to it is tilted likewise, so that the two still lie over each other.
    """
    size = len(paper)
    perspective = tilt(random, size)
    light, picture = (
        cv2.warpPerspective(image, perspective, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for image in (paper.astype(np.float32), picture)
    )
    if (sigma := random.uniform(0, 1.2) * size / 256) > 0.3:
        light = cv2.GaussianBlur(light, (0, 0), sigma)
    light = 255 - (255 - light) * random.uniform(0.7, 1, 3)  # of a ballpoint, or of a pencil
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle = random.uniform(0, 2 * np.pi)
    slope = 1 + random.uniform(0, 0.35) * (np.cos(angle) * x + np.sin(angle) * y)
    lamp = 1 - random.uniform(0, 0.3) * ((x - random.uniform(-1, 1)) ** 2 + (y - random.uniform(-1, 1)) ** 2) / 2
    tint = random.uniform(0.85, 1, 3) * random.uniform(0.6, 1)
    shaded = light * (slope * lamp)[..., None].clip(0.2, 1.3) * tint
    noisy = shaded + random.normal(0, random.uniform(0, 6), shaded.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), picture


def tilt(random: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Return the perspective of a sheet turned up to 10 degrees about each axis, seen from three sides away."""
    about = np.radians(random.uniform(-MOST_TILT, MOST_TILT, 3) * (1, 1, 0.4))
    turned: NDArray[np.float64] = cv2.Rodrigues(about)[0]
    away = 3.0 * size
    centre = np.array([[1, 0, size / 2], [0, 1, size / 2], [0, 0, 1]])
    camera = np.diag((away, away, 1.0))
    plane = np.column_stack((turned[:, 0], turned[:, 1], (0, 0, away)))
    found: NDArray[np.float64] = centre @ camera @ plane @ np.linalg.inv(centre)
    return found
