"""The project's commands, parsed, or run in this process or in one of their own."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from pix2pix_edge.__main__ import COMMANDS
from pix2pix_edge.benchmarks.__main__ import COMMANDS as BENCHMARKS
from pix2pix_edge.export.__main__ import COMMANDS as EXPORT
from pix2pix_edge.runtime.cli import command_parser, run_subcommand
from pix2pix_edge.runtime.run import main as run_main
from tests.conftest import REPOSITORY


def in_process(main: Callable[..., int], *given: object, words: Iterable[object]) -> int:
    """Run what a command runs in this process, and return its exit status, an argument that is none included."""
    try:
        return main(*given, [*map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)


def benchmarks(*words: object) -> int:
    """Run `python -m benchmarks …` in this process, and return its exit status."""
    return in_process(run_subcommand, "python -m benchmarks", "", BENCHMARKS, words=words)


def export(*words: object) -> int:
    """Run `python -m export …` in this process, and return its exit status."""
    return in_process(run_subcommand, "python -m export", "", EXPORT, words=words)


def run(*words: object) -> int:
    """Run `runtime/run.py …` in this process, and return its exit status."""
    return in_process(run_main, words=words)


def python(*words: object, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words in a process of its own. environment: on top of this one's."""
    command, env = [sys.executable, *map(str, words)], os.environ | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=3600, check=False)


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Start Python with these words, its output in pipes. options: what else Popen is to be given."""
    pipes: dict[str, Any] = {"cwd": REPOSITORY, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, words)], **pipes | options)


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return what parses the words of a command line, and the words that it gets. Fails for one that is not ours."""
    table = COMMANDS
    if words[0].endswith("pix2pix-edge"):
        table, words = (BENCHMARKS, words[2:]) if words[1] == "bench" else (COMMANDS, words[1:])
    elif words[0].endswith(".py"):
        words = words[1:] if words[1:] == ["doctor"] else [Path(words[0]).stem, *words[1:]]
    else:
        words = words[words.index("-m") + 1 :]
        if words[0].startswith("train"):
            return _parser_of_train(words[0]), words[1:]
        table, words = EXPORT if words[0] == "export" else BENCHMARKS, words[1:]
    assert words[0] in table, f"there is no command {words[0]}"
    return command_parser("x", words[0], table)[0], words[1:]


def _parser_of_train(name: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"pix2pix_edge.{name}")
    if not hasattr(module, "main"):
        module = importlib.import_module(f"pix2pix_edge.{name}.__main__")
    with mock.patch.object(module, "run_command") as run_command:
        module.main([])
    parser: argparse.ArgumentParser = run_command.call_args.args[1]
    return parser


def parse(words: list[str]) -> None:
    """Parse a command line as the program would; raises SystemExit where it would refuse."""
    parser, rest = parser_of(words)
    parser.parse_args(rest)
