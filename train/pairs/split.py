"""Carve validation pairs out of the training pairs, and keep pictures that look alike on one side.

Facades of one street, or one building photographed twice, would otherwise stand on both sides and flatter the network.
"""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import fit
from pix2pix_edge.train.data import read_pair
from pix2pix_edge.train.pairs.matching import Pair

THUMBNAIL = 16
NEAR_DUPLICATE = 0.8
"""Correlation of two thumbnails from which they are taken for alike. Of the 400 facades it joins 48 to groups, the
largest of 11; by eye these are one street, one photographer's frame, or one building."""

BLOCK = 1000
"""Rows of correlations held at once: those of 50 000 pairs would fill 20 GB."""


def split(pairs: list[Pair], validation: int) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on, and `validation` others that look like none of them.

    The rule is fixed: whole groups of pictures that look alike go to the one side or the other, in an order that a
    fixed seed shuffles, as long as they fit. Raises InputError when so many cannot be set aside.
    """
    if not validation:
        return pairs, []
    groups = near_duplicates([thumbnail(pair) for pair in pairs])
    order = np.random.default_rng(0).permutation(len(groups))
    chosen: set[int] = set()
    for group in (groups[index] for index in order):
        if len(chosen) + len(group) <= validation:
            chosen.update(group)
    if len(chosen) < validation:
        raise InputError(
            f"--validation {validation} cannot be met without parting pictures that look alike; give --validation"
            f" {len(chosen)}"
        )
    kept = [pair for index, pair in enumerate(pairs) if index not in chosen]
    return kept, [pairs[index] for index in sorted(chosen)]


def thumbnail(pair: Pair) -> NDArray[np.float64]:
    """Return the pair's picture in Lab at 16x16, flat, without its mean colour and with norm 1."""
    small = fit(read_pair(pair)[1], (THUMBNAIL, THUMBNAIL, 3))
    values = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float64)
    values -= values.mean(axis=(0, 1))
    unit: NDArray[np.float64] = values / max(1e-9, float(np.linalg.norm(values)))
    return unit.reshape(THUMBNAIL, THUMBNAIL, 3)


def near_duplicates(thumbnails: list[NDArray[np.float64]]) -> list[list[int]]:
    """Return groups of positions, linked by correlations above NEAR_DUPLICATE, mirrored or not, or through others."""
    straight = np.stack([picture.ravel() for picture in thumbnails])
    mirrored = np.stack([picture[:, ::-1].ravel() for picture in thumbnails])
    parent = list(range(len(thumbnails)))

    def first_of(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for start in range(0, len(thumbnails), BLOCK):
        rows = straight[start : start + BLOCK]
        for row, other in np.argwhere(np.maximum(rows @ straight.T, rows @ mirrored.T) > NEAR_DUPLICATE).tolist():
            one, two = sorted((first_of(start + row), first_of(other)))
            parent[two] = one
    groups = defaultdict(list)
    for index in range(len(thumbnails)):
        groups[first_of(index)].append(index)
    return list(groups.values())
