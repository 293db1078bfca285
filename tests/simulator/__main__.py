"""Run a command of this project, or a script, under the simulated TensorRT and a fake GPU.

python -m tests.simulator 10.3 runtime/run.py --engine facades.plan --source image.png --sink out/
python -m tests.simulator 11.4 -m export build facades.fp16.onnx --out facades.plan
"""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import sys
from pathlib import Path

from tests.simulator import Simulator, install


def main(version: str, *command: str) -> int:
    """Run the command, then report mistakes as a real GPU would: by aborting."""
    installed = install(version)
    atexit.register(_report, installed.__enter__())  # exit handlers run last first: after the engine's
    atexit.register(lambda: installed)  # left installed, as real modules are
    try:
        if command[0] == "-m":
            sys.argv = list(command[1:])
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(command)
            sys.path.insert(0, str(Path(command[0]).resolve().parent))
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _report(simulator: Simulator) -> None:
    gc.collect()
    found = simulator.mistakes + simulator.gpu.leftovers()
    if found:
        print("simulator: " + "; ".join(found), file=sys.stderr, flush=True)
        os._exit(134)  # as abort() would


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
