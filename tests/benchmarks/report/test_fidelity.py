"""Which FP32 graph an engine is compared with, and that it is never itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from pix2pix_edge.benchmarks.measure.reference_work import small_model
from pix2pix_edge.benchmarks.report.fidelity import is_fp32, reference_path, references, remembered_fidelity
from pix2pix_edge.benchmarks.report.schema import Row
from pix2pix_edge.benchmarks.report.tables import main_table, psnr
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import sha256_of
from tests.benchmarks.samples import made_report
from tests.conftest import write_inverter


def _file(path: Path, asked: str, source: str) -> Path:
    path.write_bytes(path.name.encode())
    beside = path.with_name(source)
    made_from = {"file": source, "sha256": sha256_of(beside) if beside.is_file() else f"that of {source}"}
    sidecar = {"format": "pix2pix-edge/1", "precision": {"asked": asked}, "source": made_from}
    Path(f"{path}.json").write_text(json.dumps(sidecar))
    return path


def test_the_reference_is_the_fp32_graph_that_an_engine_was_made_from(tmp_path: Path) -> None:
    fp32 = _file(tmp_path / "f.fp32.onnx", "fp32", "generator.keras")
    int8 = _file(tmp_path / "f.int8.onnx", "int8", "f.fp32.onnx")
    plan = _file(tmp_path / "f.int8.plan", "int8", "f.int8.onnx")
    other = _file(tmp_path / "g.fp32.onnx", "fp32", "other.keras")
    engines = [other, plan, int8, fp32]
    assert [reference_path(engine, engines) for engine in engines] == [other, fp32, fp32, fp32]


def test_a_rewritten_graph_is_compared_with_the_plain_one_of_the_same_generator(tmp_path: Path) -> None:
    """Several nets in one report: each has its own reference."""
    engines, found = [], []
    for net in ("64", "32"):
        plain = _file(tmp_path / f"{net}-plain.fp32.onnx", "fp32", f"{net}.keras")
        folded = _file(tmp_path / f"{net}.fp32.onnx", "fp32", f"{net}.keras")
        engines += [plain, folded, _file(tmp_path / f"{net}.int8.cpu.onnx", "int8", folded.name)]
        found += [plain] * 3
    assert [reference_path(engine, engines) for engine in engines] == found
    assert reference_path(engines[2], engines[1:]) == engines[1]  # without the plain one, what it was made from


def test_where_the_trail_ends_there_is_no_reference(tmp_path: Path) -> None:
    """An INT8 file is not compared with itself in another engine."""
    int8 = _file(tmp_path / "f.int8.onnx", "int8", "gone.onnx")
    assert reference_path(int8, [int8]) is None


def test_a_graph_that_was_exported_anew_is_no_longer_what_an_engine_was_made_from(tmp_path: Path) -> None:
    fp32 = _file(tmp_path / "f.fp32.onnx", "fp32", "generator.keras")
    int8 = _file(tmp_path / "f.int8.onnx", "int8", "f.fp32.onnx")
    assert reference_path(int8, [int8]) == fp32
    fp32.write_bytes(b"another network")
    assert reference_path(int8, [int8]) is None


@pytest.mark.parametrize(("kind", "full"), [("float", True), ("float16", False), ("quantised", False)])
def test_without_a_sidecar_the_layers_tell_whether_a_graph_is_fp32(tmp_path: Path, kind: str, full: bool) -> None:
    weights = np.ones((3, 3, 1, 1), np.float16 if kind == "float16" else np.float32)
    constants: dict[str, Any] = {"w": weights}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    if kind == "float16":
        casts = [helper.make_node("Cast", [a], [b], to=to) for a, b, to in (("x", "h", 10), ("y16", "y", 1))]
        nodes = [casts[0], helper.make_node("Conv", ["h", "w"], ["y16"], name="conv"), casts[1]]
    elif kind == "quantised":
        constants = {"w8": weights.astype(np.int8), "scale": np.float32(1)}
        nodes.insert(0, helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]))
    path = tmp_path / "foreign.onnx"
    onnx.save(small_model(nodes, [1, 3, 8, 8], "y", constants), path)
    assert is_fp32(path) == full
    assert not is_fp32(tmp_path / "foreign.plan")


def test_a_fidelity_without_its_fp32_graph_is_the_sidecar_s(tmp_path: Path) -> None:
    int8 = _file(tmp_path / "f.int8.onnx", "int8", "gone.onnx")
    assert remembered_fidelity(int8) is None
    sidecar = json.loads(Path(f"{int8}.json").read_text())
    kept = {"reference": "gone.onnx", "images": 9, "psnr_db": 41.5, "ssim": 0.98, "max_difference": 40}
    Path(f"{int8}.json").write_text(json.dumps(sidecar | {"fidelity": kept}))
    found = remembered_fidelity(int8)
    assert found and found.from_sidecar and (found.psnr_db, found.images) == (41.5, 9)
    row = Row(name="a", file="a", fidelity=found)
    table = main_table(made_report(np.random.default_rng(0), row))
    assert psnr(row) == "41.5 (sidecar)" and any(note.startswith("a: fidelity as its export") for note in table.notes)


def test_a_reference_that_is_not_fp32_is_refused(tmp_path: Path) -> None:
    int8 = _file(tmp_path / "f.int8.onnx", "int8", "gone.onnx")
    with pytest.raises(InputError, match=r"f\.int8\.onnx is no FP32 graph"):
        references([], [], int8)


def test_a_foreign_engine_is_compared_with_the_first_ones_reference(tmp_path: Path) -> None:
    fp32 = _file(tmp_path / "f.fp32.onnx", "fp32", "generator.keras")
    fp16 = _file(tmp_path / "f.fp16.onnx", "fp16", "f.fp32.onnx")
    foreign = tmp_path / "foreign.onnx"
    write_inverter(foreign)
    assert reference_path(foreign, [fp16, foreign]) == fp32
    assert reference_path(foreign, [foreign, fp16]) == foreign
