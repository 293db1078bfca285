"""The command `pix2pix-edge`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pix2pix_edge import __version__
from pix2pix_edge.benchmarks.__main__ import COMMANDS as BENCH
from pix2pix_edge.export.__main__ import COMMANDS as EXPORT
from pix2pix_edge.runtime.cli import run_subcommand

PROGRAM = "pix2pix-edge"
COMMANDS = {
    "demo": ("pix2pix_edge.demo", "translate the bundled label maps, and show a contact sheet"),
    "run": ("pix2pix_edge.runtime.run", "translate pictures, videos or a camera"),
    "batch": ("pix2pix_edge.runtime.batch.command", "any number of pictures, on all cores or a Ray cluster; resumes"),
    "draw": ("pix2pix_edge.runtime.draw", "serve a page to draw on: the picture follows the pen"),
    "doctor": ("pix2pix_edge.runtime.doctor", "what this machine has: the table that a defect report needs"),
    "train": ("pix2pix_edge.train.__main__", "paired pictures -> generator.keras"),
    **EXPORT,
    "bench": ("", "measure, with the fidelity beside the speed: bench run, bench compare, …"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["bench"]:
        return run_subcommand(f"{PROGRAM} bench", COMMANDS["bench"][1], BENCH, argv[1:])
    if argv[:1] == ["run"]:  # its main also ends the process where a thread hangs
        from pix2pix_edge.runtime import run

        return run.main(argv[1:], f"{PROGRAM} run")
    about = "Train an image translator in Keras, and run it live on a small computer."
    return run_subcommand(PROGRAM, about, COMMANDS, argv, f"{PROGRAM} {__version__}")


if __name__ == "__main__":
    sys.exit(main())
