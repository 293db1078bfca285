"""Do every step that this machine allows, from a Keras generator to plans, and print the commands for the rest.

python -m export all runs/facades/generator.keras --out exported --name facades --data photos/

Each step is one of the other commands, printed as it runs: convert; quantize, where --data gives images; build, for
each precision, where TensorRT and its GPU are. What cannot be done here is printed to be pasted on the device.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from pathlib import Path

from pix2pix_edge.runtime.cli import CommandParser, add_data, add_out
from pix2pix_edge.runtime.errors import ToolkitError, as_typed
from pix2pix_edge.runtime.nvidia.capabilities import probe

PRECISIONS = ("fp32", "fp16", "int8")

Command = list[str]
"""The words after `python -m export`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, help="generator.keras, as train/ writes it")
    add_out(parser, "folder for every file")
    parser.add_argument(
        "--name", default="generator", help="the files are called NAME.fp32.onnx, … (default: generator)"
    )
    add_data(parser, "calibrate and compare on, for INT8", required=False)


def run(args: argparse.Namespace) -> int:
    """Return 0, or the exit code of the first step that failed; the steps that do not need it are done all the same."""
    convert, quantize, builds = commands(args.generator, args.out, args.name, args.data)
    if code := _attempt(convert):
        return code
    codes = [_attempt(quantize)] if args.data else []
    obstacle = _obstacle_to_plans()
    left: list[Command] = []
    for command in builds:
        graph = Path(command[1])
        if graph.exists() and obstacle is None:
            codes.append(_attempt(command))
        elif graph.exists() or not args.data:
            left.append(command)
    if not args.data:
        print("\nINT8 needs images like those that the network will meet. Left to do here:")
        print(f"  {_line(quantize)}")
    if left:
        where = f"on the device that will run them, with a copy of {args.out}" if obstacle else "after that"
        because = f"Plans cannot be built here: {obstacle}\n" if obstacle else ""
        print(f"\n{because}Left to do {where}:")
        print(*(f"  {_line(command)}" for command in left), sep="\n")
    plan = args.out / f"{args.name}.fp16.plan"
    print(as_typed(f"\nThen: runtime/run.py --engine {shlex.quote(str(plan))} --source 0 --sink window"))
    return next((code for code in codes if code), 0)


def commands(generator: Path, out: Path, name: str, data: Path | None) -> tuple[Command, Command, list[Command]]:
    """Return the command that converts, the one that quantizes, and one that builds for each precision."""
    images = ["--data", str(data)] if data else []
    convert = ["convert", str(generator), "--out", str(out), "--name", name, *images]
    quantize = ["quantize", str(out / f"{name}.fp32.onnx"), "--data", str(data or "IMAGES")]
    builds = [
        ["build", str(out / f"{name}.{precision}.onnx"), "--out", str(out / f"{name}.{precision}.plan"), *images]
        for precision in PRECISIONS
    ]
    return convert, quantize, builds


def _attempt(command: Command) -> int:
    """Run one command, printed first; return its exit code, its error printed as the command itself would."""
    from pix2pix_edge.export.__main__ import COMMANDS

    print(f"\n$ {_line(command)}", flush=True)
    module = importlib.import_module(COMMANDS[command[0]][0])
    parser = CommandParser(prog=f"python -m export {command[0]}")
    module.add_arguments(parser)
    try:
        return module.run(parser.parse_args(command[1:])) or 0
    except ToolkitError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code


def _obstacle_to_plans() -> str | None:
    """Return why plans cannot be built and tried here, or None."""
    machine = probe()
    try:
        machine.require_tensorrt()
        machine.require_gpu()
    except ToolkitError as error:
        return str(error)
    return None if machine.pycuda else "pycuda is not installed"


def _line(command: Command) -> str:
    return shlex.join(["python", "-m", "export", *command])
