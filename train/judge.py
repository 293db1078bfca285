"""How good are a generator's pictures? Compared with real ones, on pairs it was not trained on.

python -m train.judge runs/a/generator.keras runs/b/generator.keras --data DIR
python -m train.judge runs/a/generator.keras models/facades.int8.cpu.onnx --data DIR --by runs/a/discriminator.keras

Each generator, or engine exported from one, translates the held-out pairs of --data in inference mode. Pair by pair, L1
(levels of 255), PSNR, SSIM and, with --by, the distance in the features of that discriminator tell how near a picture
is to the one true photograph: they like blur. L1 is given with batch statistics too: where the two part, batch norm's
moving statistics do not fit. The others compare all pictures with all photographs, and a blur cannot please them:
energy at fine scale, that of colours alone (fringes, which the grid of a decoder shows in) and spread of colours, all
as shares of the real ones', kernel distance of patches x 1000, and mean IoU of the labels that a network reads back
from the pictures. The last row is the scale: every second photograph judged against the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.runtime.cli import CommandParser, run_command
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.frame import as_image
from pix2pix_edge.train.native import load_tensorflow
from pix2pix_edge.train.settings import add_direction

if TYPE_CHECKING:
    from pix2pix_edge.runtime.engines.base import Engine
    from pix2pix_edge.train.data import Pairs

Scores = dict[str, float]
COLUMNS = {
    "l1": "L1 [levels]",
    "psnr": "PSNR [dB]",
    "ssim": "SSIM",
    "perceptual": "perceptual",
    "fine": "fine energy",
    "fringes": "fringes",
    "chroma": "colour spread",
    "patches": "patches",
    "labels": "labels",
    "l1_batch": "L1, batch statistics",
}
FORMAT = "pix2pix-edge-judged/1"
REAL = "real, even and odd"
KERAS = (".keras", ".h5")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What --out writes: the number of pairs, and the scores of each file as it was named, and of REAL."""

    format: str = FORMAT
    pairs: int
    rows: dict[str, Scores]


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
    """Return a generator's scores over the pairs: the means of those pair by pair, and those of the pictures as a set.

    translate: float32 [1, S, S, 3] in [-1, 1] -> the same. seen_by: a networks.feature_extractor(); without it there is
    no "perceptual", and without label maps in the drawn classes' colours no "labels". Pictures are rounded to uint8
    first, as the exported graph rounds them.
    """
    import tensorflow as tf

    from pix2pix_edge.train.measures.label_reader import trained_label_reader
    from pix2pix_edge.train.measures.sets import LabelReading, compare, picture_statistics

    def one(source: Any, target: Any) -> tuple[Any, Scores]:
        fake = tf.clip_by_value(tf.round((translate(source) + 1) * 127.5), 0, 255)
        levels = (target + 1) * 127.5
        scores = {
            "l1": tf.reduce_mean(tf.abs(fake - levels)),
            "psnr": tf.image.psnr(fake, levels, 255)[0],
            "ssim": tf.image.ssim(fake, levels, 255)[0],
        }
        if seen_by is not None:
            pictures = (fake / 127.5 - 1, target)
            seen = (seen_by([source, picture], training=False) for picture in pictures)
            scores["perceptual"] = perceptual(*([x for scale in maps.values() for x in scale[:-1]] for maps in seen))
        return tf.cast(fake[0], tf.uint8), scores

    traced = tf.function(one, autograph=False)
    sums: dict[str, list[float]] = {}
    fakes, reals = [], []
    reader = trained_label_reader()
    read_fake, read_real = LabelReading(reader), LabelReading(reader)
    labelled = has_class_labels(pairs)
    for index in range(len(pairs)):
        label, real = pairs[index]
        fake, scores = traced(*(tf.constant(image[None].astype(np.float32) / 127.5 - 1) for image in (label, real)))
        for name, value in scores.items():
            sums.setdefault(name, []).append(float(value))
        fakes.append(as_image(fake.numpy()))
        reals.append(as_image(real))
        read_fake.add(fakes[-1], label if labelled else None)
        read_real.add(reals[-1], None)
    of_set = compare(picture_statistics(fakes, read_fake.features), picture_statistics(reals, read_real.features))
    return (
        {name: float(np.mean(values)) for name, values in sums.items()}
        | of_set
        | ({"labels": read_fake.mean_iou()} if labelled else {})
    )


def has_class_labels(pairs: Pairs) -> bool:
    """Tell whether the sources of pairs are label maps in the drawn classes' colours."""
    from pix2pix_edge.train.pairs.palette import shows_facade_classes

    return (
        not pairs.flip
        and pairs.channels[0] == 3
        and shows_facade_classes(pairs[index][0] for index in range(min(8, len(pairs))))
    )


def judge_real(pairs: Pairs) -> Scores:
    """Return the scores of every second target against the others, and how well real pictures' labels read back."""
    from pix2pix_edge.train.measures.label_reader import trained_label_reader
    from pix2pix_edge.train.measures.sets import LabelReading, compare, picture_statistics

    halves = []
    reading = LabelReading(trained_label_reader())
    for start in (0, 1):
        reading.features = []
        pictures = []
        for index in range(start, len(pairs), 2):
            label, picture = pairs[index]
            pictures.append(picture)
            reading.add(picture, label if has_class_labels(pairs) else None)
        halves.append(picture_statistics(pictures, reading.features))
    return compare(*halves) | ({"labels": reading.mean_iou()} if has_class_labels(pairs) else {})


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


def score(generator: Any, seen_by: Any, pairs: Pairs) -> Scores:
    """Return judge() of a generator, and as l1_batch its l1 with batch statistics."""

    def translate(source: Any) -> Any:
        return generator(source, training=False)

    found = judge(translate, seen_by, pairs)
    return found | {"l1_batch": judge(with_batch_statistics(generator), None, pairs)["l1"]}


def score_engine(engine: Engine, seen_by: Any, pairs: Pairs) -> Scores:
    """Return judge() of an engine, of one uint8 picture at a time."""
    import tensorflow as tf

    def translate(source: Any) -> Any:
        made = tf.numpy_function(engine, [tf.cast(tf.round((source + 1) * 127.5), tf.uint8)], tf.uint8)
        return tf.cast(tf.ensure_shape(made, engine.output.shape), tf.float32) / 127.5 - 1

    return judge(translate, seen_by, pairs)


def run(args: argparse.Namespace) -> None:
    load_tensorflow("judging pictures")
    from pix2pix_edge.runtime.engine import open_engine
    from pix2pix_edge.train.data import Pairs, checked
    from pix2pix_edge.train.networks import feature_extractor
    from pix2pix_edge.train.pairs.layouts import find_data_set
    from pix2pix_edge.train.saved import check_direction, ends_of, load, shapes_of

    engines = {path: open_engine(path) for path in args.generators if path.suffix not in KERAS and path.is_file()}
    for path, engine in engines.items():
        if engine.input.shape[0] != 1 or engine.output.dtype != "uint8":
            raise InputError(f"{path} is not of one 8-bit picture at a time; export it without --batch and --bits")
    generators = {path: load(path) for path in args.generators if path not in engines}
    ends = {path: ends_of(path, generator) for path, generator in generators.items()}
    ends |= {path: (engine.input.shape[1:], engine.output.shape[1:]) for path, engine in engines.items()}
    takes, gives = ends[args.generators[0]]
    data_set = find_data_set(args.data)
    direction = data_set.direction(args.direction)
    for path in generators:
        check_direction(path, direction)
    if other := next((path for path in ends if ends[path] != (takes, gives)), None):
        raise InputError(
            f"{other} takes {list(ends[other][0])} and gives {list(ends[other][1])}, {args.generators[0]} takes"
            f" {list(takes)} and gives {list(gives)}; judge it apart"
        )
    discriminator = load(args.by) if args.by else None
    if discriminator and [shape[1:] for shape in shapes_of(discriminator)] != [takes, gives]:
        raise InputError(f"--by {args.by} is no discriminator of such pictures; give the discriminator.keras of a run")
    seen = feature_extractor(discriminator) if discriminator else None
    pairs = Pairs(data_set.held_out, takes[:2], direction, channels=(takes[2], gives[2]))
    if not len(pairs):
        raise InputError(f"{args.data} holds no test pairs; it needs test_label/ and test_picture/, or the like")
    checked(args.data, [pairs])
    rows: dict[str, Scores] = {}
    for path in args.generators:
        judged = score_engine(engines[path], seen, pairs) if path in engines else score(generators[path], seen, pairs)
        rows[str(path)] = judged
    if len(pairs) > 1:
        rows[REAL] = judge_real(pairs)
    print(table(rows))
    if args.out:
        with written_beside(args.out) as temporary:
            temporary.write_text(json.dumps(asdict(Judged(pairs=len(pairs), rows=rows)), indent=1) + "\n")


def table(rows: dict[str, Scores]) -> str:
    """Return the scores as lines, a column for each measure that a row has."""
    columns = {name: title for name, title in COLUMNS.items() if any(name in row for row in rows.values())}
    width = max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{title:>{max(8, len(title))}}" for title in columns.values())])]
    for name, row in rows.items():
        cells = [f"{row[key]:.4f}" if key in row else "" for key in columns]
        padded = (f"{cell:>{max(8, len(title))}}" for cell, title in zip(cells, columns.values(), strict=True))
        lines.append(" ".join([f"{name:<{width}}", *padded]))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train.judge", description=__doc__)
    parser.add_argument(
        "generators", nargs="+", type=Path, metavar="GENERATOR", help="RUN/generator.keras, or an exported engine"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of pairs; the test pairs count")
    parser.add_argument("--by", type=Path, metavar="DISCRIMINATOR.keras", help="whose features tell likeness")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the scores")
    add_direction(parser)
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
