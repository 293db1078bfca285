"""Each example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
SAYS = {
    "01_folder": "facade-6",
    "02_camera_object": "(256, 256, 3)\nclosed",
    "03_sink_of_your_own": "of 255\ndone",
    "04_fidelity": "at most 0 levels of 255",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_as_it_stands(example: Path, tmp_path: Path) -> None:
    words = [str(tmp_path / "out")] if example.stem == "01_folder" else []
    command = [sys.executable, str(example), *words]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert SAYS[example.stem] in done.stdout
    if words:
        assert len(list((tmp_path / "out").iterdir())) == 6


def test_the_list_names_them_all() -> None:
    text = (REPOSITORY / "examples" / "README.md").read_text()
    assert len(EXAMPLES) == len(SAYS) and all(path.name in text for path in EXAMPLES)
