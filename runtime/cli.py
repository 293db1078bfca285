"""The one family of command lines, and the one place where a command turns an error into an exit status.

Exit status of every command: 0 done, 1 a gate failed (fidelity, regression), 2 bad input or environment, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pix2pix_edge.runtime.errors import ToolkitError


class CommandParser(argparse.ArgumentParser):
    """An argument parser that reports a bad command line on one line, and knows --debug."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see: {self.prog} --help\n")


def run_command(
    main: Callable[[argparse.Namespace], int | None], parser: CommandParser, argv: Sequence[str] | None
) -> int:
    """Parse, run, and return the exit status; every error becomes one line on standard error."""
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
        elif isinstance(error, ModuleNotFoundError) and error.name in ("numpy", "cv2", "tqdm", "onnxruntime"):
            message = f"{sys.executable} has no package {error.name}; run: make setup, and then use .venv/bin/python"
            code = 2
        elif isinstance(error, MemoryError):
            message, code = "out of memory; use a smaller --batch-size, --image-size or --filters", 2
        else:
            message = f"unexpected {type(error).__name__}: {error} (a defect: run again with --debug and report it)"
            code = 2
        print("error: " + " ".join(message.split()), file=sys.stderr)
        return code


def run_subcommand(
    program: str, description: str, commands: dict[str, tuple[str, str]], argv: Sequence[str] | None
) -> int:
    """Dispatch `program COMMAND ...` to a module that has `add_arguments(parser)` and `run(args) -> int | None`.

    commands: name -> (module, one-line help). Only the chosen module is imported, so that `--help` and the light
    commands never load TensorFlow or onnx.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in argv if not word.startswith("-")), None)
    if name not in commands or argv.index(name) > 0:
        listing = "\n".join(f"  {command:<12}{summary}" for command, (_, summary) in commands.items())
        parser = CommandParser(
            prog=program, description=f"{description}\n\ncommands:\n{listing}", usage=f"{program} COMMAND …"
        )
        parser.add_argument(
            "command", choices=list(commands), metavar="COMMAND", help=f"then: {program} COMMAND --help"
        )
        parser.parse_args(argv)
        return 2  # unreachable: without a known command first, parse_args has ended the process
    module = importlib.import_module(commands[name][0])
    summary = (module.__doc__ or commands[name][1]).strip()
    parser = CommandParser(prog=f"{program} {name}", description=summary)
    module.add_arguments(parser)
    return run_command(module.run, parser, argv[1:])
