"""Translate the bundled label maps and sketches with the bundled models, and show contact sheets.

pix2pix-edge demo
pix2pix-edge demo --out /tmp/facades
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from pix2pix_edge.runtime.cli import add_out
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.images import read_image, sheet, write_image
from pix2pix_edge.runtime.stream import translate

BUNDLED = Path(__file__).parent
SAMPLES = {"facades": BUNDLED / "samples", "sketch": BUNDLED / "samples" / "sketches"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "folder for the pictures and the sheet (default: runs/demo)", required=False)
    parser.set_defaults(out=Path("runs/demo"))


def run(args: argparse.Namespace) -> None:
    """Write for each model OUT/MODEL/ and OUT/MODEL.png: what goes in at the left, what becomes of it at the right."""
    for name, samples in SAMPLES.items():
        engine_file = BUNDLED / "models" / f"{name}.int8.cpu.onnx"
        with open_engine(engine_file) as engine, translate(samples, engine, [f"{args.out / name}/"]) as stream:
            frames = list(stream)
        pictures = [frame.source for frame in frames]
        milliseconds = sorted(frame.timings["engine"] / 1e6 for frame in frames)[len(frames) // 2]
        columns = {
            title: [read_image(folder / f"{picture}.png") for picture in pictures]
            for title, folder in (("drawn", samples), ("translated", args.out / name))
        }
        sheet_file = args.out / f"{name}.png"
        write_image(sheet_file, sheet(columns))
        print(f"{len(pictures)} pictures, {milliseconds:.1f} ms each in the engine (median): look at {sheet_file}")
    program = ["pix2pix-edge"] if shutil.which("pix2pix-edge") else [sys.executable, "-m", "pix2pix_edge"]
    words = [*program, "draw", "--engine", str(BUNDLED / "models" / "facades.int8.cpu.onnx")]
    print(f"Draw a house yourself, in a browser at http://127.0.0.1:8080:\n  {shlex.join(words)}")
