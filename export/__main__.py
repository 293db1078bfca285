"""python -m export COMMAND …"""

from __future__ import annotations

import sys

from runtime.errors import run_subcommand

COMMANDS = {
    "convert": ("export.convert", "generator.keras -> NAME.fp32.onnx and NAME.fp16.onnx, rewritten exactly"),
    "inspect": ("export.count", "what a graph costs, layer by layer: multiply-adds, bytes, precision"),
    "quantize": ("export.quantize", "NAME.fp32.onnx -> INT8 under a fidelity gate"),
    "check": ("export.check", "fidelity of one file against another, with a gallery"),
    "build": ("export.build", "FILE.onnx -> FILE.plan, on the machine that will run it"),
    "all": ("export.everything", "every step that this machine allows, and the commands for the rest"),
    "triton": ("export.triton", "a Triton Inference Server model repository"),
}

if __name__ == "__main__":
    sys.exit(run_subcommand("python -m export", "From a Keras generator to engines.", COMMANDS, None))
