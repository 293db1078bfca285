"""Translate the drawn label maps in the box with the model in the box, and show a contact sheet.

pix2pix-edge demo
pix2pix-edge demo --out /tmp/facades
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pix2pix_edge.runtime.cli import add_out
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.images import read_image, sheet, write_image
from pix2pix_edge.runtime.stream import translate

BOX = Path(__file__).parent
ENGINE, SAMPLES = BOX / "models" / "facades.int8.cpu.onnx", BOX / "samples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "folder for the pictures and the sheet (default: runs/demo)", required=False)
    parser.set_defaults(out=Path("runs/demo"))


def run(args: argparse.Namespace) -> None:
    """Write OUT/translated/ and OUT/sheet.png: label maps at the left, what becomes of them at the right."""
    translated = args.out / "translated"
    with open_engine(ENGINE) as engine, translate(SAMPLES, engine, [f"{translated}/"]) as stream:
        frames = list(stream)
    names = [frame.source for frame in frames]
    milliseconds = sorted(frame.timings["engine"] / 1e6 for frame in frames)[len(frames) // 2]
    columns = {
        title: [read_image(folder / f"{name}.png") for name in names]
        for title, folder in (("label", SAMPLES), ("translated", translated))
    }
    write_image(args.out / "sheet.png", sheet(columns))
    print(f"{len(names)} pictures, {milliseconds:.1f} ms each in the engine (median)")
    print(f"Look at {args.out / 'sheet.png'}. Then live, in a browser at http://127.0.0.1:8080:")
    print(f"  pix2pix-edge run --engine {ENGINE} --source {SAMPLES} --loop 0 --max-fps 2 --sink http://127.0.0.1:8080")
