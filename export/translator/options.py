"""What a user may say of a network whose file does not say it, as options of a command line."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from pix2pix_edge.export.translator.contract import Options, Range


def add_translator_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options; options_of() reads them."""
    as_numbers(parser)
    add = parser.add_argument_group("of a model that was not trained here").add_argument
    add("--size", type=_size, metavar="WxH", help="for a model with open sizes: width x height, for example 1280x720")
    add("--input-range", type=_range, metavar="BLACK,WHITE", help="values of its input: -1,1 or 0,1 or 0,255")
    add("--output-range", type=_range, metavar="BLACK,WHITE", help="values of its output")
    add("--channels", choices=("rgb", "bgr"), default="rgb", help="their order in the model (default: rgb)")
    add("--mean", type=_numbers, default=(), metavar="R,G,B", help="subtracted from pictures in [0, 1], with --std")
    add("--std", type=_numbers, default=(), metavar="R,G,B", help="and divided by")
    add("--batch-statistics", action="store_true",
        help="batch norm by the statistics of each picture, as in training with batch 1")  # fmt: skip
    add("--bits", type=int, choices=(8, 16), default=8,
        help="of the pictures that come out; 16 for depth, kept by PNG and TIFF files (default: 8)")  # fmt: skip
    add("--custom", type=Path, metavar="FILE.py", help="holds layers of your own; the file is run")


def as_numbers(parser: argparse.ArgumentParser) -> None:
    """Let -1,1 be a value: argparse takes -1 for a number, but -1,1 for an option."""
    parser._negative_number_matcher = re.compile(r"-\d*\.?\d+(,-?\d*\.?\d+)*$")


def options_of(args: argparse.Namespace) -> Options:
    """Return the options of a command line."""
    return Options(
        args.size,
        args.input_range,
        args.output_range,
        args.channels == "bgr",
        args.mean,
        args.std,
        args.batch_statistics,
        args.custom,
        args.bits,
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} must be WxH in pixels, for example 1280x720")
    return int(height), int(width)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(value) for value in found):
        raise argparse.ArgumentTypeError(f"{text} must be numbers with commas between them")
    return found


def _range(text: str) -> Range:
    found = _numbers(text)
    if len(found) != 2:
        raise argparse.ArgumentTypeError(f"{text} must be two numbers, of black and of white: -1,1")
    return found[0], found[1]
