"""The bundled models: small, whole, described, and run by the demo with the runtime's own packages alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.sidecar import Sidecar, read_sidecar
from tests.commands import python
from tests.conftest import REPOSITORY

MODELS = REPOSITORY / "models"
CPU, TENSORRT = MODELS / "facades.int8.cpu.onnx", MODELS / "facades.int8.onnx"
SAMPLES = sorted((REPOSITORY / "samples").glob("*.png"))

# What the demo installs, and nothing else: an import of anything heavier fails.
LIGHT = """
import importlib.machinery, runpy, sys
find = importlib.machinery.PathFinder.find_spec
HEAVY = {"tensorflow", "keras", "onnx", "tf2onnx", "openvino", "matplotlib"}
importlib.machinery.PathFinder.find_spec = lambda name, *rest: None if name in HEAVY else find(name, *rest)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def sidecar_of(path: Path) -> Sidecar:
    sidecar = read_sidecar(path)
    assert sidecar is not None
    return sidecar


def test_the_box_is_small_and_says_what_it_holds() -> None:
    assert sum(path.stat().st_size for path in MODELS.iterdir()) < 12_000_000
    bundled = sorted(MODELS.glob("*.onnx"))
    assert len(bundled) == 4
    for path in bundled:
        sidecar = sidecar_of(path)
        assert sidecar.sha256 == sha256_of(path)
        assert sidecar.fidelity and sidecar.fidelity.psnr_db >= 42 and (sidecar.fidelity.worst_psnr_db or 0) >= 38
        assert sidecar.source.file.endswith(".fp32.onnx")
    text = (MODELS / "README.md").read_text()
    assert "CC BY-SA" in text and "python -m train" in text


def test_the_description_has_the_measured_numbers() -> None:
    text = " ".join((MODELS / "README.md").read_text().split())
    judged = json.loads((REPOSITORY / "docs/benchmarks/judged.json").read_text())
    row = judged["rows"][f"models/{CPU.name}"]
    sketch = [sidecar_of(path.with_name(path.name.replace("facades", "sketch"))) for path in (CPU, TENSORRT)]
    for number in (
        "{0.psnr_db:.1f} dB, worst {0.worst_psnr_db:.1f} (CPU)".format(sketch[0].fidelity),
        "{0.psnr_db:.1f} dB, worst {0.worst_psnr_db:.1f}, in OpenVINO".format(sketch[0].backends["openvino"]),
        "{0.psnr_db:.1f} dB, worst {0.worst_psnr_db:.1f} (TensorRT)".format(sketch[1].fidelity),
        f"L1 {row['l1']:.1f} levels, PSNR {row['psnr']:.1f} dB, SSIM {row['ssim']:.3f}",
        "{0.psnr_db:.1f} dB and SSIM {0.ssim:.3f} (CPU)".format(sidecar_of(CPU).fidelity),
        "{0.psnr_db:.1f} dB and {0.ssim:.3f} (TensorRT)".format(sidecar_of(TENSORRT).fidelity),
    ):
        assert number in text, number


def test_samples_become_different_buildings_whose_parts_stand_where_the_labels_say() -> None:
    assert len(SAMPLES) >= 5
    labels = [read_image(path) for path in SAMPLES]
    with open_engine(CPU, backend="onnxruntime") as engine:
        pictures = [engine(label[None])[0].astype(float) for label in labels]
    for label, picture in zip(labels, pictures, strict=True):
        assert picture.shape == (256, 256, 3) and picture.std() > 20
        grey = picture.mean(axis=-1)
        wall, door = ((label == colour).all(axis=-1) for colour in ((0, 48, 255), (0, 207, 255)))
        assert grey[door].mean() < grey[wall].mean() - 10, "a door is darker than its wall"
    differences = [np.abs(one - other).mean() for one in pictures for other in pictures if one is not other]
    assert min(differences) > 10


def test_the_demo_needs_the_runtime_s_packages_alone(tmp_path: Path) -> None:
    for words in (
        ["runtime.run", "--engine", CPU, "--source", REPOSITORY / "samples", "--sink", f"{tmp_path / 'out'}/"],
        ["train.grid", "--columns", f"label={REPOSITORY / 'samples'}", f"translated={tmp_path / 'out'}", "--out",
         tmp_path / "sheet.png"],
    ):  # fmt: skip
        done = python("-c", LIGHT, *words)
        assert done.returncode == 0, done.stderr
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {path.stem for path in SAMPLES}
    assert read_image(tmp_path / "sheet.png").shape[0] > len(SAMPLES) * 256
