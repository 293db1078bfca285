"""Draw facades: pairs of a label map and a plausible picture, for whoever has no data yet.

python -m train.drawings --out data/drawn --pairs 400
python -m train.drawings --out data/drawn --pairs 100 --test-pairs 12 --size 128 --seed 7
python -m train.drawings --out data/sketched --pairs 2000 --sketch

Writes train_label/N.png, train_picture/N.png, and test_label/, test_picture/ likewise. A pair follows from the seed,
its set and its number alone: the same command gives the same bytes, and more pairs leave the first ones as they are.
--sketch: pen drawings of the same houses in place of label maps, half of them as a camera sees the paper.
`python -m train --data drawn:sketches` draws such pairs while it trains, new ones in every epoch.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.cli import CommandParser, at_least, run_command
from pix2pix_edge.runtime.errors import InputError, as_typed

if TYPE_CHECKING:
    from pix2pix_edge.runtime.frame import Image

SETS = ("train", "test")


def draw_pair(
    seed: int, number: int, size: int = 256, part: str = "train", sketch: bool = False
) -> tuple[Image, Image]:
    """Return label map and picture number `number` of a set: uint8 [size, size, 3] each, RGB.

    part: "train" or "test"; the two share no pair. sketch: a pen drawing in place of the label map.
    """
    import numpy as np

    from pix2pix_edge.runtime.facades.scene import label_map, random_scene
    from pix2pix_edge.train.drawings.paint import paint_scene
    from pix2pix_edge.train.drawings.sketch import photographed, sketch_scene

    random = np.random.default_rng((seed, SETS.index(part), number))
    scene = random_scene(random, size)
    label, picture = label_map(scene), paint_scene(random, scene)
    if sketch:
        label = sketch_scene(random, scene)
        if random.random() < 0.5:
            label, picture = photographed(random, label, picture)
    return label, picture


def draw_folders(out: Path, pairs: int, test_pairs: int, size: int, seed: int, sketch: bool = False) -> None:
    """Write the folders of pairs. Raises InputError when they cannot be written or hold images already."""
    from tqdm import tqdm

    from pix2pix_edge.runtime.images import list_images, write_image

    folders = [out / f"{part}_{side}" for part in SETS for side in ("label", "picture")]
    for folder in folders:
        if list_images(folder):
            raise InputError(f"{folder} already holds images; choose another --out, or delete them")
    work = [(part, number) for part, count in zip(SETS, (pairs, test_pairs), strict=True) for number in range(count)]
    for part, number in tqdm(work, "drawing", unit="pair", disable=None):
        label, picture = draw_pair(seed, number, size, part, sketch)
        write_image(out / f"{part}_label" / f"{number + 1}.png", label)
        write_image(out / f"{part}_picture" / f"{number + 1}.png", picture)


def run(args: argparse.Namespace) -> None:
    draw_folders(args.out, args.pairs, args.test_pairs, args.size, args.seed, args.sketch)
    print(f"{args.out}: {args.pairs} pairs to train on, {args.test_pairs} to test")
    side = 1 << (args.size.bit_length() - 1)  # train takes powers of two
    print(
        as_typed(
            f"next: python -m train --data {shlex.quote(str(args.out))} --out RUN --filters 16 --image-size {side}"
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train.drawings", description=__doc__)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pairs", metavar="N", type=at_least(1), required=True, help="pairs to train on")
    parser.add_argument("--test-pairs", metavar="N", type=at_least(0), default=12, help="pairs to test (default 12)")
    parser.add_argument("--size", metavar="S", type=at_least(32), default=256, help="side in pixels (default 256)")
    parser.add_argument(
        "--seed", metavar="N", type=at_least(0), default=0, help="another seed, other houses (default 0)"
    )
    parser.add_argument("--sketch", action="store_true", help="pen drawings in place of label maps")
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
