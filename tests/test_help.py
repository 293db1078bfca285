"""Every command answers --help at once: nothing heavy is loaded for it."""

from __future__ import annotations

import json

import pytest

from pix2pix_edge import __version__
from pix2pix_edge.__main__ import COMMANDS, main
from pix2pix_edge.benchmarks.__main__ import COMMANDS as BENCHMARKS
from tests.commands import python

HEAVY = {"tensorflow", "keras", "onnx", "onnxruntime", "openvino", "cv2", "matplotlib", "ray"}
LINES = ["pix2pix_edge", *(f"pix2pix_edge {name}" for name in COMMANDS)]
LINES += [f"pix2pix_edge bench {name}" for name in BENCHMARKS]
LINES += ["train", "train.drawings", "train.judge", "train.grid", "export convert", "benchmarks run"]


PROGRAM = """
import contextlib, io, json, runpy, sys
heavy, lines, found = set(sys.argv[1].split(",")), sys.argv[2].split(","), {}
for line in lines:
    known, said, sys.argv = set(sys.modules), io.StringIO(), [*line.split(), "--help"]
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    found[line] = said.getvalue(), sorted(heavy & set(sys.modules) - known)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[str, list[str]]]:
    """What each line's --help says, and what heavy packages it loads first: all in one process, after each other."""
    done = python("-c", PROGRAM, ",".join(HEAVY), ",".join(LINES))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", LINES)
def test_help_loads_nothing_heavy(helps: dict[str, tuple[str, list[str]]], line: str) -> None:
    said, loaded = helps[line]
    assert said.startswith("usage: ") and not loaded


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code and capsys.readouterr().out == f"pix2pix-edge {__version__}\n"
