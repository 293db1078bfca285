"""python -m export COMMAND …"""

from __future__ import annotations

import sys

from pix2pix_edge.runtime.cli import run_subcommand

COMMANDS = {
    "convert": (
        "pix2pix_edge.export.convert",
        "a network (.keras, .onnx, SavedModel) -> NAME.fp32.onnx, NAME.fp16.onnx",
    ),
    "inspect": ("pix2pix_edge.export.inspect", "what a graph costs, layer by layer: multiply-adds, bytes, precision"),
    "quantize": ("pix2pix_edge.export.quantize", "NAME.fp32.onnx -> INT8 under a fidelity gate"),
    "check": ("pix2pix_edge.export.check", "fidelity of one file against another, with a gallery"),
    "build": ("pix2pix_edge.export.build", "FILE.onnx -> FILE.plan, on the machine that will run it"),
    "all": ("pix2pix_edge.export.all", "every step that this machine allows, and the commands for the rest"),
    "triton": ("pix2pix_edge.export.triton", "a Triton Inference Server model repository"),
    "web": ("pix2pix_edge.export.web", "the page to draw on as static files; the browser computes"),
}

if __name__ == "__main__":
    sys.exit(run_subcommand("python -m export", "From a trained network to engines.", COMMANDS, None))
