"""The wheel: one top-level package, with the models and samples in it, that works away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(REPOSITORY),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_it_holds_one_package_and_what_the_demo_needs(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"pix2pix_edge"}
    for needed in (
        "py.typed",
        "models/facades.int8.cpu.onnx",
        "models/sketch.int8.cpu.onnx",
        "samples/facade-1.png",
        "samples/sketches/sketch-1.png",
        "runtime/run.py",
        "train/loop.py",
    ):
        assert f"pix2pix_edge/{needed}" in names
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"pix2pix-edge = pix2pix_edge.__main__:main" in zipfile.ZipFile(wheel).read(entry)


def test_it_works_in_another_folder_and_advises_its_own_commands(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; sys.path[0] = sys.argv.pop(1); from pix2pix_edge.__main__ import main; sys.exit(main())"
        line = [sys.executable, "-I", "-c", program, str(tmp_path / "site"), *words]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert command("demo").returncode == 0
    assert {path.name for path in (tmp_path / "runs/demo").glob("*.png")} == {"facades.png", "sketch.png"}
    refused = command("run", "--engine", "absent.onnx", "--source", "test://")
    assert refused.returncode == 2 and "pix2pix-edge convert" in refused.stderr and "-m export" not in refused.stderr
