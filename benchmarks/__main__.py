"""python -m benchmarks COMMAND …"""

from __future__ import annotations

import sys

from runtime.errors import run_subcommand

COMMANDS = {
    "run": ("benchmarks.latency", "latency, throughput and fidelity of engines, interleaved, as a report"),
    "stream": ("benchmarks.streaming", "the streaming loop against the bare engine"),
    "peers": ("benchmarks.peers", "our files against Keras, plain ONNX Runtime, OpenVINO and LiteRT"),
    "compare": ("benchmarks.compare", "two reports: what changed beyond the noise"),
    "trtexec": ("benchmarks.trtexec", "a trtexec log or JSON as one more row of a report"),
    "train": ("benchmarks.training", "our training step against the article's loop"),
    "experiments": ("benchmarks.experiments", "train and judge the runs of docs/training.md"),
    "predict": ("benchmarks.predict", "a roofline prediction for a board"),
    "trials": ("benchmarks.trials", "is the benchmark itself to be trusted on this machine"),
    "docs": ("benchmarks.documents", "the tables of docs/benchmarks.md from the committed reports"),
}

if __name__ == "__main__":
    sys.exit(
        run_subcommand(
            "python -m benchmarks", "Measure, and report with the fidelity beside the speed.", COMMANDS, None
        )
    )
