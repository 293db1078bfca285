"""Run a command of this project under the simulated TensorRT and pycuda.

python -m tests.simulator 10.3 -- runtime/run.py --engine facades.plan --source image.png --sink out/
python -m tests.simulator 11.4 --integrated -- -m export build facades.fp16.onnx --out facades.plan
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import runpy
import sys
from pathlib import Path

from tests.simulator import VERSIONS, Simulator, install


def main() -> int:
    """Run the command, then report mistakes as a real GPU would: by aborting."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", usage="%(prog)s VERSION [options] -- COMMAND …")
    parser.add_argument("version", help=f"TensorRT version: {', '.join(VERSIONS)}")
    parser.add_argument("--integrated", action="store_true", help="the GPU shares memory with the CPU")
    parser.add_argument("--no-graphs", action="store_true", help="cuda-bindings is not installed")
    parser.add_argument("--compute-capability", default="8.7", help="of the GPU (default: %(default)s)")
    parser.add_argument("--memory", type=int, default=8 << 30, help="of the GPU, bytes (default: %(default)s)")
    parser.add_argument("--no-gpu", action="store_true", help="the driver finds no GPU")
    parser.add_argument("--no-driver", action="store_true", help="there is no libcuda")
    parser.add_argument("command", nargs="+", help="a script, or -m MODULE, with its arguments")
    args = parser.parse_args()
    major, minor = map(int, args.compute_capability.split("."))
    installed = install(
        args.version,
        graphs=not args.no_graphs,
        integrated=args.integrated,
        compute_capability=(major, minor),
        total_memory=args.memory,
        present=not args.no_gpu,
        driver=not args.no_driver,
    )
    atexit.register(_report, installed.__enter__())  # exit handlers run last first: after the engine's
    atexit.register(lambda: installed)  # left installed, as real modules are
    return _run(args.command)


def _report(simulator: Simulator) -> None:
    gc.collect()
    found = simulator.mistakes + simulator.gpu.leftovers()
    if found:
        print("simulator: " + "; ".join(found), file=sys.stderr, flush=True)
        os._exit(134)  # as abort() would


def _run(command: list[str]) -> int:
    """Run a script or module as __main__ of this process, and return its exit status."""
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).resolve().parent))
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
