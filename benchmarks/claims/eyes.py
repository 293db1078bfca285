"""What eyes chose between pictures of two networks, not knowing whose they were, and which measures agree with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pix2pix_edge.benchmarks.report.table import Table
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.judge import COLUMNS, Judged, Scores

FORMAT = "pix2pix-edge-choices/1"
REAL = "real"
MORE = ("psnr", "ssim", "histogram", "labels")
SHARES = ("fine", "fringes", "chroma")
"""Of the real pictures': the nearer to 1, the better. What is in neither is better where it is less."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A sheet: whose pictures stood left and right (names of rows, or REAL), of which labels, and the better side."""

    left: str
    right: str
    labels: list[int]
    chosen: Literal["left", "right", "neither"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """All sheets, and what train.judge says of their networks."""

    format: str = FORMAT
    judged: Judged
    choices: list[Choice]


def prefers(measure: str, one: Scores, other: Scores) -> bool:
    """Tell whether a measure finds the first of two networks better."""
    first, second = one[measure], other[measure]
    if measure in MORE:
        return first > second
    if measure in SHARES:
        first, second = (abs(math.log(share)) if share > 0 else math.inf for share in (first, second))
    return first < second


def agreement(found: Choices) -> tuple[str, Table]:
    """Return in a sentence what was chosen, and for each measure in how many of the choices it agrees.

    Raises InputError when a choice names a network that was not judged.
    """
    rows = found.judged.rows
    if unknown := {side for choice in found.choices for side in (choice.left, choice.right)} - {*rows, REAL}:
        raise InputError(f"{', '.join(sorted(unknown))}: chosen from, but not judged; add its row")
    real = [choice for choice in found.choices if REAL in (choice.left, choice.right)]
    known = sum((choice.left if choice.chosen == "left" else choice.right) == REAL for choice in real)
    networks = [choice for choice in found.choices if choice not in real]
    decided = [choice for choice in networks if choice.chosen != "neither"]
    sides = [(c.left, c.right) if c.chosen == "left" else (c.right, c.left) for c in decided]
    names = [name for name in next(iter(rows.values())) if all(name in rows[side] for pair in sides for side in pair)]
    agree = {name: sum(prefers(name, rows[one], rows[other]) for one, other in sides) for name in names}
    cells = [[COLUMNS.get(name, name), str(agree[name])] for name in sorted(names, key=lambda name: -agree[name])]
    sentence = (
        f"{len(found.choices)} sheets; the photographs were chosen on {known} of the {len(real)} that had them, and on"
        f" {len(networks) - len(decided)} neither side."
    )
    return sentence, Table("", ["measure", f"agrees, of {len(decided)}"], cells)
