"""The colours of label maps: what each means, and how maps that hold class indices are painted."""

from __future__ import annotations

import colorsys
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import Colour

DARK = 32
"""Label maps that stay below this level show a network next to nothing: 31 classes, or 12 bits of 16."""

NO_CLASS = 255
"""The index that VOC, Cityscapes and others give to pixels without a class."""

GOLDEN_RATIO = 0.618034
MOST_COLOURS = 32
NEAR = 40  # levels: compression moves a colour less


def class_colours() -> Image:
    """Return the colours of class indices, uint8 [256, 3] RGB: hues far apart for neighbours, in three shades."""
    colours = [
        colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, 1 - 0.35 * (index % 2), 1 - 0.25 * (index % 3))
        for index in range(256)
    ]
    levels: Image = np.rint(np.array(colours) * 255).astype(np.uint8)
    return levels


def painted(label: Image, path: Path) -> Image:
    """Return a map of class indices, uint8 [H, W, 3] with equal channels, in class_colours(). Raises InputError.

    path: its file; of 16 bits, `label` has the upper ones.
    """
    import cv2

    if not (label == label[..., :1]).all():
        raise InputError(f"{path} is in colours, so it holds no class indices; leave out --palette")
    indices = label[..., 0]
    whole = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if int(indices.max()) < DARK else None
    if whole is not None and whole.dtype == np.uint16 and whole.shape == indices.shape:
        if int(whole.max()) > NO_CLASS:
            raise InputError(f"{path} has numbers up to {whole.max()}, and --palette takes classes up to {NO_CLASS}")
        indices = whole.astype(np.uint8)
    return class_colours()[indices]


def is_dark(labels: Iterable[Image]) -> bool:
    """Tell whether all of the label maps are nearly black, what has no class (255) apart."""
    tops = [(int(np.where(label == NO_CLASS, 0, label).max()), int(label.max())) for label in labels]
    return all(top < DARK for top, _ in tops) and any(top or not brightest for top, brightest in tops)


def shows_facade_classes(labels: Iterable[Image]) -> bool:
    """Tell whether label maps are in the colours of the facade data set's classes, compression apart."""
    colours = np.array(list(CLASSES.values()), np.float32)
    for label in labels:
        pixels = label[::8, ::8].reshape(-1, 1, 3).astype(np.float32)
        if np.median(np.sqrt(np.square(pixels - colours).sum(-1).min(-1))) > NEAR:
            return False
    return True


def palette_of(labels: list[Image]) -> tuple[Colour, ...]:
    """Return what the colours of label maps mean: the facades' classes, or each colour that covers a thousandth.

    Empty where there are no labels in flat colours.
    """
    if not labels:
        return ()
    if shows_facade_classes(labels):
        return tuple(Colour(name, colour) for name, colour in CLASSES.items())
    counts: Counter[bytes] = Counter()
    for label in labels:
        values, times = np.unique(label.reshape(-1, 3), axis=0, return_counts=True)
        counts.update({value.tobytes(): int(count) for value, count in zip(values, times, strict=True)})
    total = sum(counts.values())
    kept = [value for value, count in counts.most_common(MOST_COLOURS + 1) if count * 1000 >= total]
    if len(kept) > MOST_COLOURS or sum(counts[value] for value in kept) < 0.9 * total:
        return ()
    of_class = {colour.tobytes(): index for index, colour in reversed(list(enumerate(class_colours())))}
    names = [f"class {of_class[value]}" if value in of_class else f"#{value.hex()}" for value in kept]
    return tuple(Colour(name, (value[0], value[1], value[2])) for name, value in zip(names, kept, strict=True))


def write_palette(run: Path, palette: tuple[Colour, ...]) -> None:
    """Write RUN/palette.json, a list of {"name": …, "colour": [R, G, B]}, which convert puts into the sidecar."""
    content = [{"name": each.name, "colour": list(each.colour)} for each in palette]
    with written_beside(run / "palette.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
