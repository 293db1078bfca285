"""How far are one engine's pictures from another's? Here: the bundled model in ONNX Runtime on one thread and on all.

python examples/04_fidelity.py
"""

from pathlib import Path

import pix2pix_edge
from pix2pix_edge.export.fidelity import compare
from pix2pix_edge.runtime.images import read_image

BUNDLED = Path(pix2pix_edge.__file__).parent
file = BUNDLED / "models" / "facades.int8.cpu.onnx"
pictures = [read_image(path)[None] for path in sorted((BUNDLED / "samples").glob("*.png"))]
with (
    pix2pix_edge.open_engine(file, backend="onnxruntime") as one,
    pix2pix_edge.open_engine(file, backend="onnxruntime", threads=1) as other,
):
    found = compare((one(picture)[0], other(picture)[0]) for picture in pictures)
summary = found.summary()
print(f"PSNR {summary.psnr_db:.1f} dB, SSIM {summary.ssim:.4f}, at most {summary.max_difference} levels of 255")
