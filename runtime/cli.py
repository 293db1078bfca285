"""The one family of command lines, and the one place where a command turns an error into an exit status.

Exit status of every command: 0 done, 1 a gate failed (fidelity, regression), 2 bad input or environment, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from pix2pix_edge.runtime.addresses import redacted, shown
from pix2pix_edge.runtime.errors import ToolkitError, as_typed, printable

BACKENDS = ("auto", "onnxruntime", "openvino")
"""What runs an .onnx file."""

FIT_MODES = ("stretch", "crop", "pad")
"""How a frame meets the engine's size: see runtime.frame.fit."""

VIEW_MODES = ("output", "side-by-side")
"""What a sink shows: see runtime.frame.view."""

EXTRAS = {
    **dict.fromkeys(("numpy", "cv2", "tqdm", "onnxruntime"), ""),
    **dict.fromkeys(("tensorflow", "keras"), "train"),
    **dict.fromkeys(("onnx", "tf2onnx"), "export"),
    "matplotlib": "benchmarks",
    "pyarrow": "batch",
}
"""Package -> the extra of this distribution that brings it; "" for what every installation has."""


class CommandParser(argparse.ArgumentParser):
    """An argument parser that reports a bad command line on one line, and knows --debug."""

    def __init__(self, prog: str | None = None, description: str | None = None, usage: str | None = None) -> None:
        """description: as the module's docstring has it, line breaks kept."""
        super().__init__(prog, usage, description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.register("type", Path, path_of)

    def format_help(self) -> str:
        return as_typed(super().format_help())

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {printable(redacted(message))}; see: {self.prog} --help\n")


def path_of(text: str) -> Path:
    """Parse a path: an empty one would be the folder that one stands in, where a shell's variable is not set."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


def at_least(lowest: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number of `lowest` or more."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be at least {lowest}, got {value}")
        return value

    return number


def add_engine(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    """Declare --engine: the file, or files, that the command runs."""
    parser.add_argument(
        "--engine",
        type=Path,
        required=True,
        metavar="FILE",
        nargs="+" if many else None,
        help=".onnx (CPU) or .plan (TensorRT)",
    )


def add_data(parser: argparse.ArgumentParser, purpose: str, *, required: bool = True) -> None:
    """Declare --data: a folder of images, or a data set. purpose: ends the sentence "images to …"."""
    parser.add_argument("--data", type=Path, required=required, metavar="DIR", help=f"images to {purpose}")


def add_out(parser: argparse.ArgumentParser, what: str, metavar: str = "DIR", *, required: bool = True) -> None:
    """Declare --out: the folder or file that the command writes."""
    parser.add_argument("--out", type=Path, required=required, metavar=metavar, help=what)


def add_backend(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    """Declare --backend and --threads: how an .onnx file runs on the CPU. many: in each of several backends."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        nargs="+" if many else None,
        default=["auto"] if many else "auto",
        help="what runs an .onnx (auto: the faster that passed)",
    )
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="CPU threads of an .onnx (one per core)")


def run_command(
    main: Callable[[argparse.Namespace], int | None], parser: CommandParser, argv: Sequence[str] | None
) -> int:
    """Parse, run, and return the exit status; every error becomes one line on standard error."""
    _open_standard_streams()
    args = parser.parse_args(argv)
    try:
        return main(args) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.debug:
            raise
        if isinstance(error, ToolkitError):
            message, code = str(error), error.exit_code
        elif isinstance(error, OSError):
            message, code = f"{error.filename or 'the system'}: {error.strerror or error}", 2
        elif isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            extra = EXTRAS[error.name]
            remedy = f"pip install 'pix2pix-edge[{extra}]'" if extra else "make setup, and then use .venv/bin/python"
            message, code = f"{sys.executable} has no package {error.name}; run: {remedy}", 2
        elif isinstance(error, MemoryError):
            message, code = "out of memory; close other programs, or take smaller pictures, batches or networks", 2
        else:
            said = redacted(str(error))
            message = f"unexpected {type(error).__name__}: {said} (a defect: run again with --debug and report it)"
            code = 2
        message = _without_secrets(" ".join(message.split()), sys.argv[1:] if argv is None else argv)
        print_error(message)
        return code


def print_error(message: str) -> None:
    """Print why a command ends, as one line on standard error."""
    print("error: " + as_typed(printable(message)), file=sys.stderr)


def _without_secrets(message: str, argv: Sequence[str]) -> str:
    """Return a message without what may not be shown of the addresses on the command line, however it came there."""
    for word in argv:
        address = word.partition("=")[2] if word.startswith("--") else word
        if (hidden := shown(address)) != address:
            for spelled in (address, str(Path(address))):
                message = message.replace(spelled, hidden)
    return message


def _open_standard_streams() -> None:
    """Open what a shell closed (2>&-): the next file would get its number, and whatever is printed there."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in letters that the terminal has not


Commands = Mapping[str, tuple[str, str]]
"""name -> (module with `add_arguments(parser)` and `run(args) -> int | None`, one-line help)."""


def command_parser(program: str, name: str, commands: Commands) -> tuple[CommandParser, ModuleType]:
    """Return the parser of `program NAME`, described by its module's docstring, and the module."""
    module = importlib.import_module(commands[name][0])
    parser = CommandParser(f"{program} {name}", (module.__doc__ or commands[name][1]).strip())
    module.add_arguments(parser)
    return parser, module


def run_subcommand(
    program: str, description: str, commands: Commands, argv: Sequence[str] | None, version: str = ""
) -> int:
    """Dispatch `program COMMAND …`; returns the exit status. version: what --version prints, where it has that.

    Only the chosen module is imported, so that `--help` and the light commands never load TensorFlow or onnx.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in argv if not word.startswith("-")), None)
    if name is None or name not in commands or argv.index(name) > 0:
        listing = "\n".join(f"  {command:<12}{summary}" for command, (_, summary) in commands.items())
        parser = CommandParser(program, f"{description}\n\ncommands:\n{listing}", f"{program} COMMAND …")
        if version:
            parser.add_argument("--version", action="version", version=version)
        parser.add_argument(
            "command", choices=list(commands), metavar="COMMAND", help=f"then: {program} COMMAND --help"
        )
        parser.parse_args(argv)
        return 2  # unreachable: without a known command first, parse_args has ended the process
    parser, module = command_parser(program, name, commands)
    return run_command(module.run, parser, argv[1:])
