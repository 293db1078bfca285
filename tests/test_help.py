"""Every command answers --help at once: nothing heavy is loaded for it."""

from __future__ import annotations

import pytest

from pix2pix_edge import __version__
from pix2pix_edge.__main__ import COMMANDS, main
from pix2pix_edge.benchmarks.__main__ import COMMANDS as BENCHMARKS
from tests.commands import python

HEAVY = {"tensorflow", "keras", "onnx", "onnxruntime", "openvino", "cv2", "matplotlib", "ray"}
LINES = ["pix2pix_edge", *(f"pix2pix_edge {name}" for name in COMMANDS)]
LINES += [f"pix2pix_edge bench {name}" for name in BENCHMARKS]
LINES += ["train", "train.drawings", "train.judge", "train.grid", "export convert", "benchmarks run"]


@pytest.mark.parametrize("line", LINES)
def test_help_loads_nothing_heavy(line: str) -> None:
    done = python("-X", "importtime", "-m", *line.split(), "--help")
    loaded = {entry.rpartition("|")[2].strip() for entry in done.stderr.splitlines()}
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and "argparse" in loaded
    assert not HEAVY & loaded


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code and capsys.readouterr().out == f"pix2pix-edge {__version__}\n"
