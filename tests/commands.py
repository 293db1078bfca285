"""The project's commands, run in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pix2pix_edge.benchmarks.__main__ import COMMANDS as BENCHMARKS
from pix2pix_edge.export.__main__ import COMMANDS as EXPORT
from pix2pix_edge.runtime.cli import run_subcommand
from tests.conftest import REPOSITORY


def benchmarks(*words: object) -> int:
    """Run `python -m benchmarks …` in this process, and return its exit status."""
    return run_subcommand("python -m benchmarks", "", BENCHMARKS, [*map(str, words)])


def export(*words: object) -> int:
    """Run `python -m export …` in this process, and return its exit status."""
    return run_subcommand("python -m export", "", EXPORT, [*map(str, words)])


def python(*words: object, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words in a process of its own. environment: on top of this one's."""
    command, env = [sys.executable, *map(str, words)], os.environ | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False)
