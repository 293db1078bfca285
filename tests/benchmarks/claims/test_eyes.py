"""Choices by eye: which measures agree with them."""

from __future__ import annotations

from typing import Literal

import pytest

from pix2pix_edge.benchmarks.claims.eyes import REAL, Choice, Choices, agreement, prefers
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.judge import Judged

ROWS = {
    "sharp": {"psnr": 12.0, "patches": 30.0, "fringes": 1.25},
    "blurred": {"psnr": 13.0, "patches": 40.0, "fringes": 0.5},
}


def choice(left: str, right: str, chosen: Literal["left", "right", "neither"]) -> Choice:
    return Choice(left=left, right=right, labels=[0, 1], chosen=chosen)


def test_each_measure_counts_the_choices_that_it_agrees_with() -> None:
    sheets = [
        choice("sharp", "blurred", "left"),
        choice("blurred", "sharp", "right"),
        choice("blurred", "sharp", "left"),
        choice("blurred", "sharp", "neither"),
        choice("sharp", REAL, "right"),
        choice(REAL, "blurred", "right"),
    ]
    sentence, table = agreement(Choices(judged=Judged(pairs=2, rows=ROWS), choices=sheets))
    assert sentence.startswith("6 sheets") and "on 1 of the 2" in sentence and sentence.endswith("on 1 neither side.")
    assert table.columns[1] == "agrees, of 3"
    assert dict(table.rows) == {"fringes": "2", "patches": "2", "PSNR [dB]": "1"}  # type: ignore[arg-type]


def test_a_share_is_better_the_nearer_it_is_to_that_of_real_pictures() -> None:
    assert prefers("fringes", ROWS["sharp"], ROWS["blurred"])
    assert not prefers("fringes", {"fringes": 4.0}, {"fringes": 0.5})


def test_a_network_that_was_not_judged_is_named() -> None:
    with pytest.raises(InputError, match="other: chosen from, but not judged"):
        agreement(Choices(judged=Judged(pairs=2, rows=ROWS), choices=[choice("sharp", "other", "left")]))
