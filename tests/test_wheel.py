"""The wheel: one top-level package, with the models and samples in it, that works away from the checkout."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.commands import python
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = python("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, REPOSITORY)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_it_holds_one_package_and_what_the_demo_needs(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"pix2pix_edge"}
    for needed in ("py.typed", "models/facades.int8.cpu.onnx", "models/sketch.int8.cpu.onnx", "samples/facade-1.png",
                   "samples/sketches/sketch-1.png", "runtime/run.py", "train/loop.py"):  # fmt: skip
        assert f"pix2pix_edge/{needed}" in names
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"pix2pix-edge = pix2pix_edge.__main__:main" in zipfile.ZipFile(wheel).read(entry)


def test_it_works_in_another_folder_and_advises_its_own_commands(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; sys.path[0] = sys.argv.pop(1); from pix2pix_edge.__main__ import main; sys.exit(main())"
        return python("-I", "-c", program, tmp_path / "site", *words, cwd=tmp_path)

    assert command("demo").returncode == 0
    assert {path.name for path in (tmp_path / "runs/demo").glob("*.png")} == {"facades.png", "sketch.png"}
    for words in (["run"], ["draw"], ["build"], ["bench", "predict"]):
        said = command(*words, "--help").stdout
        assert f"pix2pix-edge {' '.join(words)} " in said and "runtime/" not in said and "-m export" not in said
    refused = command("run", "--engine", "absent.onnx", "--source", "test://")
    assert refused.returncode == 2 and "pix2pix-edge convert" in refused.stderr and "-m export" not in refused.stderr
