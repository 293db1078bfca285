"""Measure a generator's batch norm statistics anew, over the training sources and as inference meets them.

python -m train.measures.statistics runs/mine/generator.keras --data DIR --out runs/mine/settled.keras
python -m train.judge runs/mine/generator.keras runs/mine/settled.keras --data DIR

The moving statistics were kept with dropout before them, which widens what they see (Li et al., "Understanding the
Disharmony between Dropout and Batch Normalization by Variance Shift", arXiv 1801.05134), and with each picture's own
statistics in the layers before. The weights have learned with that, so it is each network's own which of the two are
better: judge both, and look at the pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.runtime.cli import CommandParser, run_command
from pix2pix_edge.runtime.errors import InputError, as_typed
from pix2pix_edge.runtime.files import keep_inputs, written_beside
from pix2pix_edge.train.native import load_tensorflow
from pix2pix_edge.train.settings import add_direction

if TYPE_CHECKING:
    from pix2pix_edge.runtime.frame import Image

LOOKED_AT = 200
"""Sources at most; 200 and 400 of the facades give the same pictures."""


def settle(network: Any, sources: Sequence[Image]) -> int:
    """Give each batch norm the mean and variance of what it reads in inference, and return how many there are.

    Layer by layer, because what one reads follows from those before it. sources: uint8 [H, W, C].
    """
    import keras
    import numpy as np
    import tensorflow as tf

    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        before = keras.Model(network.input, norm.input)

        def moments(source: Any, before: Any = before) -> Any:
            read = tf.cast(before(tf.cast(source, tf.float32) / 127.5 - 1, training=False), tf.float32)
            return tf.reduce_mean(read, (0, 1, 2)), tf.reduce_mean(tf.square(read), (0, 1, 2))

        traced = tf.function(moments)
        mean, square = np.mean([[each.numpy() for each in traced(source[None])] for source in sources], axis=0)
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(np.maximum(square - np.square(mean), 0))
    return len(norms)


def run(args: argparse.Namespace) -> None:
    load_tensorflow("measuring statistics")
    from pix2pix_edge.train.data import Pairs, checked
    from pix2pix_edge.train.pairs.layouts import find_data_set
    from pix2pix_edge.train.saved import check_direction, ends_of, load

    keep_inputs([args.generator], args.out)
    network = load(args.generator)
    takes, gives = ends_of(args.generator, network)
    data_set = find_data_set(args.data)
    direction = data_set.direction(args.direction)
    check_direction(args.generator, direction)
    chosen = data_set.train[:: -(-len(data_set.train) // LOOKED_AT)]
    pairs = Pairs(chosen, takes[:2], direction, channels=(takes[2], gives[2]))
    checked(args.data, [pairs])
    if not settle(network, [pairs[index][0] for index in range(len(pairs))]):
        raise InputError(f"{args.generator} has no batch norm, so it has no statistics; use it as it is")
    with written_beside(args.out) as temporary:
        network.save(temporary)
    print(as_typed(f"{args.out}  statistics of {len(pairs)} sources; compare by: python -m train.judge"))


def keras_file(text: str) -> Path:
    """Parse the name of a .keras file to write."""
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"must end in .keras, got {text!r}")
    return Path(text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train.measures.statistics", description=__doc__)
    parser.add_argument("generator", type=Path, metavar="GENERATOR.keras", help="of a run")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of pairs that it was trained on"
    )
    parser.add_argument("--out", type=keras_file, required=True, metavar="FILE.keras", help="the same network, settled")
    add_direction(parser)
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
