"""How good are a generator's pictures? Distances to the true ones, on pairs it was not trained on.

python -m train.judge runs/a/generator.keras runs/b/generator.keras --data DIR --by runs/a/discriminator.keras

Each generator translates the held-out pairs of --data in inference mode, which is what gets exported, and is compared
by mean absolute difference (L1, levels of 255), PSNR, SSIM and, with --by, in the features of that discriminator. L1 is
given with batch statistics too: where the two part, batch norm's moving statistics do not fit.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.runtime.cli import CommandParser, run_command
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.native import load_tensorflow
from pix2pix_edge.train.settings import DIRECTIONS, read_settings

if TYPE_CHECKING:
    from pix2pix_edge.train.data import Pairs

Scores = dict[str, float]
COLUMNS = {"l1": "L1 [levels]", "psnr": "PSNR [dB]", "ssim": "SSIM", "perceptual": "perceptual"}


def features(discriminator: Any) -> Any:
    """Return the model of what the discriminator sees: its two images -> the map after each LeakyReLU.

    Raises InputError when it has none.
    """
    import keras

    maps = [layer.output for layer in discriminator.layers if isinstance(layer, keras.layers.LeakyReLU)]
    if not maps:
        raise InputError("the network to judge by is no discriminator; give the discriminator.keras of a run")
    return keras.Model(discriminator.inputs, maps)


def perceptual(seen: Sequence[Any], other: Sequence[Any]) -> Any:
    """Return the distance of two pictures in feature maps [1, h, w, C] of several depths; 0 where they are equal.

    The squared difference of unit vectors, averaged over positions and summed over depths: LPIPS without its learned
    weights (Zhang et al., arXiv 1801.03924), in the features of a discriminator of the same data.
    """
    import tensorflow as tf

    total = tf.constant(0.0)
    for a, b in zip(seen, other, strict=True):
        difference = tf.math.l2_normalize(a, -1, 1e-10) - tf.math.l2_normalize(b, -1, 1e-10)
        total += tf.reduce_mean(tf.reduce_sum(tf.square(difference), -1))
    return total


def judge(translate: Callable[[Any], Any], seen_by: Any, pairs: Pairs) -> Scores:
    """Return the means over the pairs of l1 (levels of 255), psnr (dB), ssim and, unless seen_by is None, perceptual.

    translate: float32 [1, S, S, 3] in [-1, 1] -> the same. seen_by: what features() returned. Pictures are rounded to
    uint8 first, as the exported graph rounds them.
    """
    import numpy as np
    import tensorflow as tf

    @tf.function
    def one(source: Any, target: Any) -> Any:
        made = tf.clip_by_value(tf.round((translate(source) + 1) * 127.5), 0, 255)
        levels = (target + 1) * 127.5
        scores = {
            "l1": tf.reduce_mean(tf.abs(made - levels)),
            "psnr": tf.image.psnr(made, levels, 255)[0],
            "ssim": tf.image.ssim(made, levels, 255)[0],
        }
        if seen_by is not None:
            pictures = (made / 127.5 - 1, target)
            scores["perceptual"] = perceptual(*(seen_by([source, picture], training=False) for picture in pictures))
        return scores

    sums: dict[str, list[float]] = {}
    for index in range(len(pairs)):
        source, target = (tf.constant(image[None].astype(np.float32) / 127.5 - 1) for image in pairs[index])
        for name, value in one(source, target).items():
            sums.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def with_batch_statistics(generator: Any) -> Callable[[Any], Any]:
    """Return the generator as batch norm sees it while training: each picture by its own statistics, no dropout."""
    import keras

    copy = keras.models.clone_model(generator)
    copy.set_weights(generator.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 1.0  # its moving statistics stay

    def translate(source: Any) -> Any:
        return copy(source, training=True)

    return translate


def load(path: Path) -> Any:
    """Return the network in `path`. Raises InputError when there is none."""
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not a network saved by Keras ({str(error).splitlines()[0]}); make one with:"
            " python -m train --data DIR --out RUN"
        ) from error


def shapes_of(network: Any) -> list[tuple[int | None, ...]]:
    """Return the shapes of a network's inputs."""
    return [tuple(tensor.shape) for tensor in network.inputs]


def side_of(path: Path, generator: Any) -> int:
    """Return the side of the images of the generator in `path`. Raises InputError for another network."""
    shapes = shapes_of(generator)
    side = shapes[0][1] if len(shapes[0]) == 4 else None
    if side is None or [*shapes, *(tuple(tensor.shape) for tensor in generator.outputs)] != [(None, side, side, 3)] * 2:
        raise InputError(f"{path} is not a generator of this project; give a RUN/generator.keras")
    return side


def check_direction(path: Path, direction: str) -> None:
    """Raise InputError when the network in `path` was trained the other way, as far as its run's settings tell."""
    try:
        own = read_settings(path.parent).direction
    except InputError:  # no settings, or of another program
        return
    if own != direction:
        raise InputError(
            f"{path} was trained with --direction {own}, not {direction}; give the same, or another network"
        )


def score(generator: Any, seen_by: Any, pairs: Pairs) -> Scores:
    """Return judge() of a generator, and as l1_batch its l1 with batch statistics."""

    def translate(source: Any) -> Any:
        return generator(source, training=False)

    found = judge(translate, seen_by, pairs)
    return found | {"l1_batch": judge(with_batch_statistics(generator), None, pairs)["l1"]}


def run(args: argparse.Namespace) -> None:
    load_tensorflow("judging pictures")
    from pix2pix_edge.train.data import Pairs, checked, find_pairs

    generators = {path: load(path) for path in args.generators}
    sides = {path: side_of(path, generator) for path, generator in generators.items()}
    side = sides[args.generators[0]]
    for path in generators:
        check_direction(path, args.direction)
    if other := next((path for path in sides if sides[path] != side), None):
        raise InputError(f"{other} takes {sides[other]} pixels, {args.generators[0]} takes {side}; judge it apart")
    discriminator = load(args.by) if args.by else None
    if discriminator and [shape[1:] for shape in shapes_of(discriminator)] != [(side, side, 3)] * 2:
        raise InputError(f"--by {args.by} is no discriminator of {side} pixels; give the discriminator.keras of a run")
    seen_by = features(discriminator) if discriminator else None
    pairs = Pairs(find_pairs(args.data)[1], side, args.direction)
    if not len(pairs):
        raise InputError(f"{args.data} holds no test pairs; it needs test_label/ and test_picture/, or the like")
    checked(args.data, [pairs])
    width = max(len(str(path)) for path in args.generators)
    titles = [*COLUMNS.values(), "L1, batch statistics"]
    print(" " * width, *(f"{title:>{max(10, len(title))}}" for title in titles))
    for path, generator in generators.items():
        found = score(generator, seen_by, pairs)
        cells = [f"{found[key]:.4f}" if key in found else "" for key in (*COLUMNS, "l1_batch")]
        row = (f"{cell:>{max(10, len(title))}}" for cell, title in zip(cells, titles, strict=True))
        print(f"{path!s:<{width}}", *row)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train.judge", description=__doc__)
    parser.add_argument("generators", nargs="+", type=Path, metavar="GENERATOR.keras")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of pairs; the test pairs count")
    parser.add_argument("--by", type=Path, metavar="DISCRIMINATOR.keras", help="whose features tell likeness")
    parser.add_argument("--direction", choices=DIRECTIONS, default=DIRECTIONS[0], help="what becomes what")
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
