"""Translate a folder of pictures into another folder.

python examples/01_folder.py [OUT]
"""

import sys
from pathlib import Path

import pix2pix_edge

BUNDLED = Path(pix2pix_edge.__file__).parent
out = sys.argv[1] if len(sys.argv) > 1 else "runs/example"

with pix2pix_edge.open_engine(BUNDLED / "models" / "facades.int8.cpu.onnx") as engine:
    for frame in pix2pix_edge.translate(BUNDLED / "samples", engine, [f"{out}/"]):
        print(frame.source, f"{frame.timings['engine'] / 1e6:.1f} ms")
