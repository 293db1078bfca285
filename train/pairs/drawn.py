"""Pairs that are drawn while a network trains on them: new ones in every epoch, so that there is nothing to overfit."""

from __future__ import annotations

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.train.data import Pairs
from pix2pix_edge.train.drawings.__main__ import draw_pair

SCHEME = "drawn:"
KINDS = ("labels", "sketches")
EPOCH = 400  # pairs: as many as the facades, so that epochs cost alike
HELD_OUT = 12


class DrawnPairs(Pairs):
    """Drawn pairs of a set, at one size, as Pairs; those of "train" differ from epoch to epoch."""

    def __init__(
        self, kind: str, part: str, count: int, side: int, seed: int, direction: str, epoch: int | None = None
    ) -> None:
        super().__init__([], side, direction)
        self.kind, self.part, self.count, self.seed, self.epoch = kind, part, count, seed, epoch

    def __len__(self) -> int:
        return self.count

    def of_epoch(self, epoch: int) -> Pairs:
        return DrawnPairs(self.kind, self.part, self.count, self.size[0], self.seed, self.direction, epoch)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        number = index + (self.epoch or 0) * self.count
        pair = draw_pair(self.seed, number, self.size[0], self.part, self.kind == "sketches")
        return pair[::-1] if self.flip else pair


def kind_of(data: str) -> str | None:
    """Return which pairs `--data drawn:KIND` asks for, None for a folder. Raises InputError for an unknown kind."""
    if not data.startswith(SCHEME):
        return None
    kind = data.removeprefix(SCHEME)
    if kind not in KINDS:
        raise InputError(
            f"--data {data} is not known; give {' or '.join(SCHEME + kind for kind in KINDS)}, or a folder"
        )
    return kind
