"""Which FP32 graph an engine is judged by."""

from __future__ import annotations

import json
from pathlib import Path

from pix2pix_edge.benchmarks.report.fidelity import reference_path


def _file(path: Path, asked: str, source: str) -> Path:
    path.write_bytes(b"x")
    made_from = {"file": source, "sha256": f"that of {source}"}
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


def test_a_rewritten_graph_is_judged_by_the_plain_one_of_the_same_generator(tmp_path: Path) -> None:
    """Several nets in one report: each has its own reference."""
    engines, found = [], []
    for net in ("64", "32"):
        plain = _file(tmp_path / f"{net}-plain.fp32.onnx", "fp32", f"{net}.keras")
        folded = _file(tmp_path / f"{net}.fp32.onnx", "fp32", f"{net}.keras")
        engines += [plain, folded, _file(tmp_path / f"{net}.int8.cpu.onnx", "int8", folded.name)]
        found += [plain] * 3
    assert [reference_path(engine, engines) for engine in engines] == found
    assert reference_path(engines[2], engines[1:]) == engines[1]  # without the plain one, what it was made from


def test_where_the_trail_ends_what_is_there_is_the_reference(tmp_path: Path) -> None:
    int8 = _file(tmp_path / "f.int8.onnx", "int8", "gone.onnx")
    assert reference_path(int8, [int8]) == int8


def test_a_foreign_engine_is_judged_by_the_first_ones_reference(tmp_path: Path) -> None:
    fp32 = _file(tmp_path / "f.fp32.onnx", "fp32", "generator.keras")
    fp16 = _file(tmp_path / "f.fp16.onnx", "fp16", "f.fp32.onnx")
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(b"x")
    assert reference_path(foreign, [fp16, foreign]) == fp32
    assert reference_path(foreign, [foreign, fp16]) == foreign
