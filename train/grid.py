"""Draw a sheet of pictures: one column per folder, one row per picture.

python -m train.grid --columns label=data/test_label translated=out truth=data/test_picture --out sheet.png
python -m train.grid --columns input=a output=b --rows 12 --out sheet.jpg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.cli import CommandParser, at_least, run_command
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.images import sheet

if TYPE_CHECKING:
    from pix2pix_edge.runtime.frame import Image


def sheet_of_folders(folders: dict[str, Path], rows: int) -> Image:
    """Return the sheet of `rows` images, spread evenly over those that every folder holds under the same stem.

    Raises InputError when a folder has no images, none is common to all, or one cannot be read.
    """
    from pix2pix_edge.runtime.images import list_images, read_image

    files = {title: {path.stem: path for path in list_images(folder)} for title, folder in folders.items()}
    for title, found in files.items():
        if not found:
            raise InputError(f"{folders[title]} holds no images; give --columns {title}=DIR a folder that does")
    first, *others = files.values()
    common = [stem for stem in first if all(stem in other for other in others)]
    if not common:
        raise InputError(f"no file name is common to {', '.join(map(str, folders.values()))}; rows match by name")
    count = min(rows, len(common))
    chosen = [common[index * len(common) // count] for index in range(count)]
    return sheet({title: [read_image(found[stem]) for stem in chosen] for title, found in files.items()})


def column(text: str) -> tuple[str, Path]:
    """Parse TITLE=DIR."""
    title, equals, folder = text.partition("=")
    if not (title and equals and folder):
        raise argparse.ArgumentTypeError(f"expected TITLE=DIR, got {text!r}")
    return title, Path(folder)


def image_name(text: str) -> Path:
    """Parse the name of an image file to write."""
    from pix2pix_edge.runtime.images import IMAGE_ENDINGS

    if Path(text).suffix.lower() not in IMAGE_ENDINGS:
        raise argparse.ArgumentTypeError(f"must end in .png, .jpg or another image ending, got {text!r}")
    return Path(text)


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.runtime.files import keep_inputs
    from pix2pix_edge.runtime.images import list_images, write_image

    if len({title for title, _ in args.columns}) < len(args.columns):
        raise InputError("two --columns have the same title; give each its own")
    for _, folder in args.columns:
        keep_inputs(list_images(folder), args.out)
    write_image(args.out, sheet_of_folders(dict(args.columns), args.rows))
    print(args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m train.grid", description=__doc__)
    parser.add_argument("--columns", nargs="+", type=column, metavar="TITLE=DIR", required=True, help="left to right")
    parser.add_argument("--out", type=image_name, required=True, help="the image file to write")
    parser.add_argument("--rows", type=at_least(1), default=6, help="how many pictures (default 6)")
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
