"""Train the label reader: a small network that reads a facade's label map back from its picture.

python -m train.measures.label_reader --data data/facades --out train/measures/label_reader.keras

It judges the pictures of train.judge in two ways: its features tell how near the patches of translated pictures are to
those of real ones, and its labels whether every window still is where the label map says. No translator learns from it.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.cli import CommandParser, at_least, run_command
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.train.native import load_tensorflow

WEIGHTS = Path(__file__).with_name("label_reader.keras")
WIDTHS = (12, 24, 48, 72, 96)
WHOLE = 32
"""It reads pictures whose sides are multiples of it."""

STRIDE = 4
"""Its labels are a quarter of the picture in size; a facade's thinnest parts have four pixels at 256."""


def label_reader() -> Any:
    """Return the network: pictures [N, H, W, 3] in [-1, 1], multiples of 32 -> logits [N, H/4, W/4, 12]; and features.

    The features, [N, H/16, W/16, 120], describe one patch of about 40 pixels each.
    """
    import keras
    from keras import layers

    def conv(x: Any, width: int, strides: int = 1) -> Any:
        x = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))

    picture = keras.Input((None, None, 3), name="picture")
    maps = [picture]
    for width in WIDTHS:
        maps.append(conv(maps[-1], width, strides=2))
    patches = layers.Concatenate(name="features")([layers.AveragePooling2D(2)(maps[3]), maps[4]])
    x = maps[-1]
    for skip, width in ((maps[4], 64), (maps[3], 48), (maps[2], 32)):
        x = conv(layers.Concatenate()([layers.UpSampling2D(2)(x), skip]), width)
    logits = layers.Conv2D(len(CLASSES), 1, name="logits")(x)
    return keras.Model(picture, [logits, patches], name="label_reader")


@functools.cache
def trained_label_reader() -> Any:
    """Return the label reader that this project judges with."""
    load_tensorflow("judging pictures")
    network = label_reader()
    network.load_weights(WEIGHTS)  # not load_model(): an older Keras does not know what a newer one writes of a layer
    return network


def classes_of(labels: Any) -> Any:
    """Return which class each pixel of label maps shows, by the nearest colour: [N, H, W, 3] in [-1, 1] -> int64."""
    import tensorflow as tf

    colours = tf.constant(list(CLASSES.values()), tf.float32) / 127.5 - 1
    return tf.argmin(tf.reduce_sum(tf.square(labels[..., None, :] - colours), -1), -1)


def run(args: argparse.Namespace) -> None:
    tf = load_tensorflow("training the label reader")
    import keras

    from pix2pix_edge.train.data import ENLARGED, Pairs, batches, checked
    from pix2pix_edge.train.pairs.layouts import find_pairs

    keras.utils.set_random_seed(0)
    pairs = Pairs(find_pairs(args.data)[0], round(args.image_size * ENLARGED), "label2picture")
    checked(args.data, [pairs])
    network = label_reader()
    steps = args.epochs * (len(pairs) // args.batch_size)
    optimizer = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(2e-3, steps), weight_decay=1e-3)
    mean = keras.metrics.Mean()

    @tf.function  # type: ignore[untyped-decorator]
    def step(label: Any, picture: Any) -> None:
        # Other light and tints: it shall know a window by its form.
        tint = tf.random.uniform((len(picture), 1, 1, 3), 0.8, 1.2) * tf.random.uniform(
            (len(picture), 1, 1, 1), 0.7, 1.3
        )
        wanted = classes_of(label[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])
        counts = tf.cast(tf.math.bincount(tf.cast(wanted, tf.int32), minlength=len(CLASSES)), tf.float32)
        weights = tf.math.rsqrt(counts / tf.reduce_sum(counts) + 1e-3)  # rare parts count more
        with tf.GradientTape() as tape:
            logits, _ = network(tf.clip_by_value((picture + 1) * tint - 1, -1, 1), training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            shares = tf.gather(weights, wanted)
            loss = tf.reduce_sum(losses * shares) / tf.reduce_sum(shares)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        mean.update_state(loss)

    for epoch in range(args.epochs):
        mean.reset_state()
        for label, picture in batches(pairs, args.image_size, args.batch_size, 0, epoch):
            step(label, picture)
        print(f"epoch {epoch + 1}/{args.epochs}: loss {float(mean.result()):.4f}", flush=True)
    with written_beside(args.out) as temporary:
        network.save(temporary)
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train.measures.label_reader", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of pairs with CMP's labels")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FILE.keras", help=f"default: {WEIGHTS.name} here")
    parser.add_argument("--epochs", type=at_least(1), default=40, metavar="N", help="default: 40")
    parser.add_argument("--batch-size", type=at_least(1), default=8, metavar="N", help="default: 8")
    parser.add_argument("--image-size", type=at_least(32), default=256, metavar="S", help="default: 256")
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
