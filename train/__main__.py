"""Train a pix2pix generator on pairs of images.

python -m train --data data/facades --out runs/facades
python -m train --data data/facades --out runs/narrow --filters 16 --epochs 2
python -m train --out runs/facades --resume

DIR of --data holds {train,test}_label/ and {train,test}_picture/; or trainA/ (pictures), trainB/ (labels), testA/ and
testB/; or train/ and test/ or val/ with images side by side (picture left, label right); other layouts that people have
are found too, and the run says which way it goes. Curves and samples: tensorboard --logdir RUN. No data? Draw some:
python -m train.drawings --out DIR --pairs 400
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.runtime.cli import CommandParser, at_least, run_command
from pix2pix_edge.runtime.errors import InputError, as_typed, warn
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.train.checkpoint import checkpoint_path
from pix2pix_edge.train.distribution import KINDS, place_of
from pix2pix_edge.train.native import load_tensorflow
from pix2pix_edge.train.settings import (
    ADVERSARIAL,
    DIRECTIONS,
    OTHER_NAMES,
    PRECISIONS,
    RECIPES,
    SCHEDULES,
    Settings,
    read_settings,
    resumed,
    settings_path,
    size_of,
)

if TYPE_CHECKING:
    from pix2pix_edge.runtime.frame import Image
    from pix2pix_edge.train.data import Pairs

LOOKED_AT = 32  # label maps, for their colours


def seed(text: str) -> int:
    value = at_least(0)(text)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"must be below {2**32}, got {value}")
    return value


def weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"must be a number not below 0, got {text!r}")
    return value


def share(text: str) -> float:
    value = weight(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"must be below 1, got {text!r}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option of Settings is left out of the parsed arguments unless given, so that --resume can supply it."""
    default = RECIPES["sharp"]
    absent = argparse.SUPPRESS

    def option(name: str, help: str, **kind: object) -> None:
        value = getattr(default, name.replace("-", "_"))
        shown = f" (default {value})" if value not in (None, "") else ""
        parser.add_argument(f"--{name}", help=help + shown, default=absent, **kind)  # type: ignore[arg-type]

    parser.add_argument("--out", metavar="RUN", type=Path, required=True, help="folder of the run's results")
    option("data", "folder of pairs; or drawn:labels or drawn:sketches, new in every epoch", metavar="DIR")
    option("epochs", "passes over the training pairs", type=at_least(1), metavar="N")
    option("finish", "epochs more, in inference mode, at a tenth of the rates", type=at_least(0), metavar="N")
    option("batch-size", "pairs per step", type=at_least(1), metavar="N")
    option("filters", "width of both networks: 64, 32, 16, …", type=at_least(1), metavar="N")
    option("discriminator-filters", "of the discriminators, if not the same", type=at_least(1), metavar="N")
    option("image-size", "of the images in pixels: a square's side, or width x height", type=size_of, metavar="S|WxH")
    option("input-channels", "of what the network sees: 1 grey, 3 RGB, 4 with alpha", type=int, choices=(1, 3, 4))
    option("output-channels", "of what it makes: 1 for masks and depth", type=int, choices=(1, 3, 4))
    option("direction", "what becomes what; BtoA where A is the picture", choices=(*DIRECTIONS, *OTHER_NAMES))
    parser.add_argument(
        "--recipe", choices=RECIPES, help="defaults of the losses and of their schedule; paper: the article's"
    )
    option("adversarial", "loss; hinge has spectral norm, the other batch norm", choices=ADVERSARIAL)
    option("scales", "discriminators, each at half the size of the one before", type=at_least(1), metavar="N")
    option("feature-weight", "weight of the distance in the discriminators' maps", type=weight, metavar="W")
    option("l1-weight", "weight of the L1 loss", type=weight, metavar="W")
    option("fringe-weight", "weight of the L1 loss of colours at fine scale", type=weight, metavar="W")
    option("teacher", "a better network of the same data whose pictures to be like", metavar="GENERATOR.keras")
    option("learning-rate", "of Adam, for the generator", type=weight, metavar="R")
    option("discriminator-rate", "of Adam, for the discriminators", type=weight, metavar="R")
    option("precision", "of the steps; the weights are float32", choices=PRECISIONS)
    option("schedule", "of the learning rate; linear: from half way down to 0", choices=SCHEDULES)
    option(
        "average", "export an average of the weights that keeps this share each step; 0: none", type=share, metavar="D"
    )
    option("validation", "of the training pairs, set aside and judged each epoch", type=at_least(0), metavar="N")
    option("seed", "of weights, dropout, order and augmentation", type=seed, metavar="N")
    option("init", "start from these weights, of the same size", metavar="GENERATOR.keras")
    option("samples", "inputs that every epoch's grid shows, in place of held-out pairs", metavar="DIR")
    option("limit", "use only the first N training pairs", type=at_least(1), metavar="N")
    parser.add_argument(
        "--no-augment",
        dest="augment",
        action="store_false",
        default=absent,
        help="no random crop out of an enlarged pair, and no mirroring",
    )
    option("even-light", "the network divides its input by the light on the paper", action="store_true")
    parser.add_argument(
        "--palette",
        action="store_true",
        default=absent,
        help="label maps hold class indices, grey: give each class a colour of its own, named in RUN/palette.json",
    )
    parser.add_argument(
        "--distribute",
        choices=KINDS,
        default="none",
        help="share each batch among all GPUs here (mirrored), or with other machines (multiworker, through TF_CONFIG)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own settings")


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the run's settings. Raises InputError when --out and --resume do not fit."""
    chief = place_of(args.distribute).chief
    given = {name: value for name, value in vars(args).items() if name in Settings.__dataclass_fields__}
    if "image_size" in given:
        height, width = given["image_size"]
        given |= {"image_size": height, "image_width": None if height == width else width}
    if args.resume and args.recipe:
        raise InputError("a resumed run goes on by its own recipe; leave out --recipe")
    if args.resume and "init" in given and checkpoint_path(args.out).exists():
        raise InputError("a resumed run has its own weights; leave out --init, or start a new run with another --out")
    if args.resume:
        return resumed(read_settings(args.out), given)
    if chief and settings_path(args.out).exists():
        raise InputError(f"{args.out} already holds a run; go on with it by --resume, or choose another --out")
    if not given.get("data"):
        raise InputError("--data is missing; give the folder of pairs, or --resume a run in --out")
    return dataclasses.replace(RECIPES[args.recipe or "sharp"], **given)


def read_samples(folder: Path, settings: Settings) -> list[Image]:
    """Return the pictures of a folder as the generator takes them. Raises InputError."""
    from pix2pix_edge.runtime.images import list_images, read_image
    from pix2pix_edge.train.data import as_channels

    files = list_images(folder)
    if not files:
        raise InputError(f"--samples {folder} holds no images; give --samples a folder that does")
    channels = settings.input_channels
    return [as_channels(read_image(path, channels=channels), settings.size, channels) for path in files]


def warn_of_darkness(labels: list[Image]) -> None:
    """Say what to do about label maps that are nearly black."""
    from pix2pix_edge.train.pairs.palette import is_dark

    if is_dark(labels):
        top = max(int(label.max()) for label in labels)
        warn(
            f"the label maps are nearly black (none above {top} of 255): if they hold class indices, give --palette;"
            " if they have 10, 12 or 16 bits, stretch them to 8 first: magick mogrify -auto-level -depth 8 FILES"
        )


@dataclasses.dataclass(frozen=True)
class Material:
    """What a run trains on, judges its epochs by and holds out; some label maps; and in words what becomes what."""

    training: Pairs
    validation: Pairs
    held_out: Pairs
    labels: list[Image]
    way: str


def drawn(kind: str, settings: Settings) -> Material:
    """Return pairs that are drawn while the network trains."""
    from pix2pix_edge.train.pairs.drawn import EPOCH, HELD_OUT, DrawnPairs

    if settings.size != (settings.image_size,) * 2 or settings.channels != (3, 3) or settings.palette:
        raise InputError("drawn pairs are square and RGB; leave out channels, WxH and --palette, or give a folder")
    if settings.batch_size > (settings.limit or EPOCH):
        raise InputError(f"--batch-size {settings.batch_size} is more than an epoch has; give a larger --limit")

    def pairs(part: str, count: int) -> DrawnPairs:
        return DrawnPairs(kind, part, count, settings.image_size, settings.seed, settings.direction)

    source, target = (kind, "pictures") if settings.direction == "label2picture" else ("pictures", kind)
    labels = [pairs("test", 4)[index][0] for index in range(4)] if kind == "labels" else []
    training = pairs("train", settings.limit or EPOCH)
    validation, held_out = pairs("test", settings.validation), pairs("test", HELD_OUT)
    return Material(training, validation, held_out, labels, f"learning: drawn {source} -> {target}")


def found(settings: Settings, resuming: bool) -> tuple[Material, Settings]:
    """Return the pairs in the folder of --data, all read once, and the settings with what follows from them.

    Raises InputError when they cannot be used, or are not those that the run began with.
    """
    from pix2pix_edge.train.data import ENLARGED, Pairs, checked
    from pix2pix_edge.train.pairs.layouts import find_data_set
    from pix2pix_edge.train.pairs.split import split

    data = Path(settings.data)
    data_set = find_data_set(data)
    train_pairs, test_pairs = data_set.train[: settings.limit], data_set.held_out
    settings = dataclasses.replace(settings, direction=data_set.direction(settings.direction))
    data_set.warn_of_left_out()
    if resuming and settings.pairs not in (None, len(train_pairs)):
        raise InputError(
            f"the run was started on {settings.pairs} pairs, but {data} now holds {len(train_pairs)}; give --data the"
            " same pairs, or start a new run with another --out"
        )
    settings = dataclasses.replace(settings, pairs=len(train_pairs))
    if len(train_pairs) - settings.validation < settings.batch_size:
        raise InputError(
            f"--validation {settings.validation} of {len(train_pairs)} training pairs leaves fewer than a batch of"
            f" {settings.batch_size}; give less to either"
        )
    kind = (settings.direction, settings.palette, settings.channels)
    held_out = Pairs(test_pairs, settings.size, *kind)
    scale = ENLARGED if settings.augment else 1
    everything = Pairs(train_pairs, (round(settings.size[0] * scale), round(settings.size[1] * scale)), *kind)
    checked(data, (everything, held_out))
    labels = [everything[index][int(everything.flip)] for index in range(min(LOOKED_AT, len(everything)))]
    warn_of_darkness(labels)
    kept, set_aside = split(train_pairs, settings.validation)
    validation = Pairs(set_aside, settings.size, *kind)
    way = data_set.way(settings.direction)
    return Material(everything.only(kept), validation, held_out, labels, way), settings


def run(args: argparse.Namespace) -> None:
    settings = settings_of(args)
    from pix2pix_edge.train.data import middle
    from pix2pix_edge.train.pairs.drawn import kind_of
    from pix2pix_edge.train.pairs.palette import palette_of, write_palette

    taught_by = sha256_of(settings.teacher) if Path(settings.teacher).is_file() else ""
    if args.resume and taught_by and settings.teacher_sha256 not in ("", taught_by):
        raise InputError(
            f"{settings.teacher} is not the teacher that the run began with; give that one by --teacher, or start a new"
            " run with another --out"
        )
    settings = dataclasses.replace(settings, teacher_sha256=taught_by)
    kind = kind_of(settings.data)
    material, settings = (drawn(kind, settings), settings) if kind else found(settings, args.resume)
    training, validation, held_out = material.training, material.validation, material.held_out
    files = [] if kind else [path for pair in (*training.pairs, *held_out.pairs) for path in pair.files]
    if {path.parent.resolve() for path in files} & {args.out.resolve(), *args.out.resolve().parents}:
        raise InputError(f"--out {args.out} is among the pairs, where its pictures would count as some; choose another")
    if settings.samples:
        samples: Any = [(picture, None) for picture in read_samples(Path(settings.samples), settings)]
    else:
        shown = next(pairs for pairs in (validation, held_out, training) if len(pairs))
        samples = [tuple(middle(side, settings.size) for side in shown[index]) for index in range(min(3, len(shown)))]
    print(
        f"{len(training)} pairs to train on, {len(validation)} to judge epochs by, {len(held_out)} held out;"
        f" {settings.filters} filters at {settings.size[1]}x{settings.size[0]}, {settings.last} epochs -> {args.out}"
    )
    print(material.way)

    load_tensorflow("training")
    from pix2pix_edge.train.loop import train

    train(args.out, settings, training, validation, samples, args.distribute)
    in_colours = settings.direction == "label2picture" and settings.input_channels == 3
    if material.labels and in_colours and place_of(args.distribute).chief:
        write_palette(args.out, palette_of(material.labels))
    generator = args.out / "generator.keras"
    print(as_typed(f"{generator}; next: python -m export convert {shlex.quote(str(generator))} --out DIR"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train", description=__doc__)
    add_arguments(parser)
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
