"""Do every step that this machine allows, from a trained model to plans, and print the commands for the rest.

  python -m export all runs/facades/generator.keras --out exported --name facades --data photos/
  python -m export all unet.onnx --out exported --data photos/ --input-range -1,1 --min-psnr 38 --batch 4

Each step is one of the other commands, printed as it runs: convert; quantize, where --data gives images; build, for
each precision, where TensorRT and its GPU are. Their options are given here, and passed on. What cannot be done here is
printed to be pasted on the device.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
from pathlib import Path
from typing import Any

from pix2pix_edge.export.translator.options import as_numbers
from pix2pix_edge.runtime.cli import CommandParser, add_data, add_out, print_error
from pix2pix_edge.runtime.errors import ToolkitError, as_typed
from pix2pix_edge.runtime.nvidia.capabilities import probe

PRECISIONS = ("fp32", "fp16", "int8")
STEPS = ("convert", "quantize", "build")
DECIDED = ("out", "name", "data")
"""Options of the steps that are `all`'s own."""

Command = list[str]
"""The words after `python -m export`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "generator", type=Path, metavar="MODEL", help="what convert takes: .keras, .h5, .onnx, a folder"
    )
    add_out(parser, "folder for every file")
    parser.add_argument(
        "--name", default="generator", help="the files are called NAME.fp32.onnx, … (default: generator)"
    )
    add_data(parser, "calibrate and compare on, for INT8", required=False)
    as_numbers(parser)
    for step in STEPS:
        group = parser.add_argument_group(f"passed on to {step}")
        for action in _options(step):
            # as they were typed: the step's own parser reads them, when all steps' commands are made
            action.type = action.choices = action.default = None
            group._add_action(action)


def _options(step: str) -> list[argparse.Action]:
    """Return the options of a step that `all` does not decide itself."""
    parser = argparse.ArgumentParser(add_help=False)
    _module(step).add_arguments(parser)
    return [action for action in parser._actions if action.option_strings and action.dest not in DECIDED]


def _passed_on(step: str, args: argparse.Namespace) -> Command:
    """Return the words of the options that were given for a step."""
    given = [(action, getattr(args, action.dest)) for action in _options(step)]
    words = [[action.option_strings[0], value] for action, value in given if value is not None]
    return [word for pair in words for word in pair if word is not True]


def _module(step: str) -> Any:
    from pix2pix_edge.export.__main__ import COMMANDS

    return importlib.import_module(COMMANDS[step][0])


def run(args: argparse.Namespace) -> int:
    """Return 0, or the exit code of the first step that failed; the steps that do not need it are done all the same."""
    convert, quantize, builds = commands(args)
    for command in (convert, quantize, *builds):
        _parsed(command)  # before the first step takes its minutes
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


def commands(args: argparse.Namespace) -> tuple[Command, Command, list[Command]]:
    """Return the command that converts, the one that quantizes, and one that builds for each precision."""
    out, name = args.out, args.name
    images = ["--data", str(args.data)] if args.data else []
    convert = ["convert", str(args.generator), "--out", str(out), "--name", name, *images, *_passed_on("convert", args)]
    quantize = ["quantize", str(out / f"{name}.fp32.onnx"), "--data", str(args.data or "IMAGES")]
    builds = [
        ["build", str(out / f"{name}.{precision}.onnx"), "--out", str(out / f"{name}.{precision}.plan"), *images]
        for precision in PRECISIONS
    ]
    passed_on = _passed_on("build", args)
    return convert, [*quantize, *_passed_on("quantize", args)], [[*build, *passed_on] for build in builds]


def _parsed(command: Command) -> argparse.Namespace:
    parser = CommandParser(prog=f"python -m export {command[0]}")
    _module(command[0]).add_arguments(parser)
    return parser.parse_args(command[1:])


def _attempt(command: Command) -> int:
    """Run one command, printed first; return its exit code, its error printed as the command itself would."""
    print(f"\n$ {_line(command)}", flush=True)
    try:
        return _module(command[0]).run(_parsed(command)) or 0
    except ToolkitError as error:
        print_error(str(error))
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
    return as_typed(shlex.join(["python", "-m", "export", *command]))
