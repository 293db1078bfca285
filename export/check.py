"""Compare what two engines make of the same images: PSNR, SSIM, the largest difference, and where it is worst.

  python -m export check facades.fp32.onnx facades.int8.cpu.onnx --data facades/
  python -m export check generator.keras facades.plan --data photos/ --gallery check.png --min-psnr 40

A and B are each an .onnx, a .plan or a .keras file; of a network that needs options of convert, give the FP32 file that
convert writes. Ends with exit status 1 when the mean is below the gate.
"""

from __future__ import annotations

import argparse
import filecmp
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.cli import add_backend, add_data
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import keep_inputs
from pix2pix_edge.runtime.frame import Image

MIN_PSNR_DB, MIN_SSIM = 35.0, 0.97
WORST = 5
AMPLIFIED = 8
"""Differences are shown so many times as large; a level or two of 255 is invisible."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help="the reference: .onnx, .plan or .keras")
    parser.add_argument("b", type=Path, metavar="B", help="what is judged: .onnx, .plan or .keras")
    add_data(parser, "translate with both; of a data set its test_label/ or testB/ is taken")
    parser.add_argument("--min-psnr", type=float, default=MIN_PSNR_DB, metavar="DB", help="gate (default: %(default)s)")
    parser.add_argument("--min-ssim", type=float, default=MIN_SSIM, metavar="S", help="gate (default: %(default)s)")
    parser.add_argument("--gallery", type=Path, metavar="FILE.png", help="input, A, B and amplified difference")
    add_backend(parser)


def run(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from pix2pix_edge.export.fidelity import compare
    from pix2pix_edge.export.images import judging_files
    from pix2pix_edge.export.translator.translator import listed
    from pix2pix_edge.runtime.frame import fit
    from pix2pix_edge.runtime.images import WRITTEN_ENDINGS, read_image

    if args.gallery and args.gallery.suffix.lower() not in WRITTEN_ENDINGS:
        raise InputError(f"--gallery {args.gallery} must end in {', '.join(WRITTEN_ENDINGS)}")
    files = judging_files(args.data)
    if args.gallery:
        keep_inputs(files, args.gallery)
    with (
        open_any(args.a, args.backend, args.threads, "fp32") as a,
        open_any(args.b, args.backend, args.threads) as b,
    ):
        shape = a.input.shape[1:]
        ends = [
            f"takes {listed(e.input.shape[1:])} and gives {e.output.dtype}{listed(e.output.shape[1:])}" for e in (a, b)
        ]
        if ends[0] != ends[1]:
            raise InputError(f"{args.a} {ends[0]}, {args.b} {ends[1]}; compare files of one generator")

        def translate(path: Path) -> tuple[Image, Image, Image]:
            image = fit(read_image(path, channels=shape[2]), shape)
            return image, one(a, image), one(b, image)

        bar = tqdm(files, unit="image", disable=None, dynamic_ncols=True)
        found = compare(translate(path)[1:] for path in bar)
        worst = found.worst_first()[:WORST]
        for name, engine in ((args.a, a), (args.b, b)):
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in engine.describe().items()))
        if args.a.is_file() and args.b.is_file() and filecmp.cmp(args.a, args.b, shallow=False):
            print("A and B are one file: the numbers are of two computations of it, and no fidelity to anything else")
        summary = found.summary()
        print(
            f"mean PSNR {summary.psnr_db:.2f} dB, SSIM {summary.ssim:.4f}, largest difference"
            f" {summary.max_difference} of 255, {summary.images} images"
        )
        for i in worst:
            numbers = f"{found.psnr_db[i]:8.2f} dB  SSIM {found.ssim[i]:.4f}  {found.max_difference[i]:3}"
            print(f"  {files[i].name:<24}{numbers}")
        if args.gallery:
            write_gallery(args.gallery, [translate(files[i]) for i in worst])
            print(args.gallery)
    found.require(args.min_psnr, args.min_ssim, f"{args.b} differs from {args.a}", "see --gallery FILE.png")


def open_any(path: Path, backend: str, threads: int | None = None, precision: str = "auto") -> Engine:
    """Open an .onnx, a .plan or a .keras file as an Engine. Raises InputError and EngineError."""
    if path.suffix in (".keras", ".h5") or path.is_dir():
        from pix2pix_edge.export.translator.reference import open_reference

        return open_reference(path)
    return open_engine(path, backend=backend, precision=precision, threads=threads)


def one(engine: Engine, image: Image) -> Image:
    """Translate one image, uint8 [H, W, C]; an engine of a larger batch is given copies of it."""
    translated: Image = engine(np.repeat(image[None], engine.input.shape[0], axis=0))[0]
    return translated


def write_gallery(path: Path, rows: Sequence[tuple[Image, Image, Image]]) -> None:
    """Write a sheet of (input, A, B), each uint8 [H, W, C], with the difference of A and B beside them."""
    import cv2

    from pix2pix_edge.runtime.frame import as_image
    from pix2pix_edge.runtime.images import sheet, write_image

    inputs, a, b = ([as_image(image) for image in column] for column in zip(*rows, strict=True))
    differences = [cv2.convertScaleAbs(cv2.absdiff(x, y), alpha=AMPLIFIED) for x, y in zip(a, b, strict=True)]
    columns = {"input": inputs, "A": a, "B": b, f"difference x{AMPLIFIED}": differences}
    write_image(path, sheet(columns))
