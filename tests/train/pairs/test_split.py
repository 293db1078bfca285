"""Validation pairs: as many as asked for, always the same, and never a picture's twin on the other side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.pairs import split as split_module
from pix2pix_edge.train.pairs.layouts import find_pairs
from pix2pix_edge.train.pairs.matching import Pair
from pix2pix_edge.train.pairs.split import NEAR_DUPLICATE, near_duplicates, split, thumbnail
from tests.conftest import write_rgb


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Twelve pairs of noise; 3, 7 and 9 show one picture, which 9 mirrors, and so do 0 and 1, in other light."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(12)]
    coarse[1] = (coarse[0] * 0.7 + 40).astype(np.uint8)
    coarse[7], coarse[9] = coarse[3], coarse[3][:, ::-1]
    pictures = [np.repeat(np.repeat(image, 8, axis=0), 8, axis=1) for image in coarse]
    return [
        Pair(*(write_rgb(folder / f"{index}_{side}.png", picture) for side in ("label", "picture")))
        for index, picture in enumerate(pictures)
    ]


def test_twins_stay_together_and_the_rule_is_fixed(pairs: list[Pair]) -> None:
    assert sorted(map(sorted, near_duplicates([thumbnail(pair) for pair in pairs]))) == [
        [0, 1], [2], [3, 7, 9], [4], [5], [6], [8], [10], [11]
    ]  # fmt: skip
    for validation in range(12):
        kept, chosen = split(pairs, validation)
        assert len(chosen) == validation
        assert sorted([*kept, *chosen], key=pairs.index) == pairs
        places = {pairs.index(pair) for pair in chosen}
        assert len(places & {0, 1}) in (0, 2)
        assert len(places & {3, 7, 9}) in (0, 3)
        assert split(pairs, validation) == (kept, chosen)


def test_groups_do_not_depend_on_the_block(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = [thumbnail(pair) for pair in pairs]
    whole = near_duplicates(thumbnails)
    for block in (1, 5):
        monkeypatch.setattr(split_module, "BLOCK", block)
        assert near_duplicates(thumbnails) == whole


def test_likeness_goes_on_through_others() -> None:
    """0 and 2 are unlike, but both like 1, whatever their order."""
    angles = np.array([0.0, 0.5, 1.0])
    flat = np.zeros((3, 16, 16, 3))
    flat[:, 0, 0, 0], flat[:, 1, 0, 0] = np.cos(angles), np.sin(angles)
    for order in ([0, 1, 2], [0, 2, 1], [2, 0, 1]):
        assert [sorted(group) for group in near_duplicates(list(flat[order]))] == [[0, 1, 2]]


def test_what_cannot_be_parted_is_said(pairs: list[Pair]) -> None:
    with pytest.raises(InputError, match="cannot be met without parting pictures that look alike; give --validation 0"):
        split([pairs[3], pairs[7], pairs[9]], 1)


def test_on_real_facades_no_likeness_crosses(facades: Path) -> None:
    training = find_pairs(facades)[0]
    kept, chosen = split(training, 40)
    assert (len(kept), len(chosen)) == (360, 40)
    one, other = (np.stack([thumbnail(pair).ravel() for pair in side]) for side in (kept, chosen))
    assert (one @ other.T).max() <= NEAR_DUPLICATE
