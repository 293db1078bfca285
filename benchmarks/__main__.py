"""python -m benchmarks COMMAND …"""

from __future__ import annotations

import sys

from pix2pix_edge.runtime.cli import run_subcommand

COMMANDS = {
    "run": ("pix2pix_edge.benchmarks.run", "latency, throughput and fidelity of engines, interleaved, as a report"),
    "stream": ("pix2pix_edge.benchmarks.stream", "the streaming loop against the bare engine"),
    "peers": (
        "pix2pix_edge.benchmarks.claims.peers",
        "our files against Keras, ONNX Runtime, OpenVINO and LiteRT",
    ),
    "compare": ("pix2pix_edge.benchmarks.compare", "two reports: what changed beyond the noise"),
    "trtexec": ("pix2pix_edge.benchmarks.trtexec", "a trtexec log or JSON as one more row of a report"),
    "train": ("pix2pix_edge.benchmarks.claims.train", "our training step against the article's loop"),
    "predict": ("pix2pix_edge.benchmarks.predict", "a roofline prediction for a board"),
    "trials": ("pix2pix_edge.benchmarks.claims.trials", "is the benchmark itself to be trusted on this machine"),
    "docs": ("pix2pix_edge.benchmarks.docs", "the tables of docs/benchmarks.md from the committed reports"),
}

if __name__ == "__main__":
    sys.exit(
        run_subcommand(
            "python -m benchmarks", "Measure, and report with the fidelity beside the speed.", COMMANDS, None
        )
    )
