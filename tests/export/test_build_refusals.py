"""What `export build` refuses, in one line that says what to do; run in the simulator."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pix2pix_edge.export.build import build, compute_capabilities
from pix2pix_edge.runtime.errors import EngineError, InputError
from tests.export.small_network import write_small_network
from tests.export.test_build import command, one_line
from tests.simulator import Start


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tensorrt": False}, r"TensorRT is not installed; run: pip install 'pix2pix-edge\[tensorrt\]'"),
        ({"driver": False}, "there is no NVIDIA driver here"),
        ({"present": False}, "finds no GPU; check CUDA_VISIBLE_DEVICES"),
        ({"pycuda": False}, "pycuda is not installed, and without it a plan cannot be tried"),
        (
            {"compute_capability": (5, 3), "name": "Tegra X1"},
            r"Tegra X1 \(compute capability 5\.3\) has no INT8.*a\.fp16",
        ),
        ({"total_memory": 4000}, r"OutOfMemory.*give it less with --workspace MIB"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(
    simulated_tensorrt: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    simulated_tensorrt("10.3", **options)
    source = write_small_network(tmp_path / "a.int8.onnx", "int8")
    out = tmp_path / "plans"
    assert command(source, "--out", out / "a.plan") == 2
    assert re.search(rf"^error: .*{words}", one_line(capsys))
    assert not out.exists() or {p.suffix for p in out.iterdir()} <= {".timing"}


def test_a_builder_that_does_not_start_is_explained(
    simulated_tensorrt: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where CUDA does not start, the real Builder logs, and its factory returns nothing: a TypeError of pybind11."""
    simulator = simulated_tensorrt("10.3")
    trt: Any = simulator.tensorrt

    def broken(logger: Any) -> None:
        logger.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 46")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", broken)
    with pytest.raises(EngineError, match="TensorRT cannot start: CUDA initialization failure with error: 46"):
        build(write_small_network(tmp_path / "a.onnx"), tmp_path / "a.plan")


def test_the_cards_to_build_for_are_named_as_people_name_them() -> None:
    assert compute_capabilities("sm86, SM_89,12.0,sm86") == ((8, 6), (8, 9), (12, 0))
    for text in ("gtx", "sm86,", "", "8.60", "sm1"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no list of compute capabilities; give sm86"):
            compute_capabilities(text)


def test_files_that_are_something_else(
    simulated_tensorrt: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated_tensorrt("10.3")
    good = write_small_network(tmp_path / "good.onnx")
    build(good, tmp_path / "good.plan")
    capsys.readouterr()
    renamed = tmp_path / "plan.onnx"
    renamed.write_bytes((tmp_path / "good.plan").read_bytes())
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(good.read_bytes()[:-3000])
    other = tmp_path / "other.onnx"
    other.write_bytes(good.read_bytes().replace(b"translated", b"translater"))
    for path, words in (
        (renamed, "cannot be opened as an exported graph"),
        (truncated, "cut short or damaged"),
        (other, "gives translater .*, not image and translated"),
        (write_small_network(tmp_path / "a.int8.cpu.onnx", "int8", fault="uint8"), r"for CPUs, build a\.int8\.onnx"),
    ):
        assert command(path, "--out", tmp_path / "new.plan") == 2
        assert re.search(rf"^error: .*{words}", one_line(capsys)), path
    assert not (tmp_path / "new.plan").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("none.onnx --out a.plan", "there is no file none.onnx"),
        ("a.keras --out a.plan", "there is no file a.keras; make one with: python -m export convert"),
        ("good.onnx --out a.engine", "--out a.engine must end in .plan"),
        ("good.onnx --out a.plan --batch 0", "--batch 0 takes no image"),
        ("good.onnx --out a.plan --workspace 0", "--workspace 0 leaves no memory"),
        ("good.onnx --out a.plan --gpu sm86", "--gpu is for --rtx"),
        ("good.onnx --out a.plan --data nowhere", "--data nowhere does not exist"),
    ],
)
def test_bad_requests_are_refused_without_tensorrt_work(
    simulated_tensorrt: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], str],
    words: str, message: str,
) -> None:  # fmt: skip
    simulated_tensorrt("10.3")
    monkeypatch.chdir(tmp_path)
    write_small_network(tmp_path / "good.onnx")
    assert message in refused(command(*words.split()))
    assert [p.name for p in tmp_path.iterdir()] == ["good.onnx"]


def test_an_unknown_level_is_refused_by_the_parser(tmp_path: Path) -> None:
    assert command("a.onnx", "--out", "a.plan", "--optimization-level", "6") == 2


def test_a_folder_that_cannot_be_written_is_an_input_error(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulated_tensorrt("10.3")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        build(write_small_network(tmp_path / "a.onnx"), tmp_path / "file" / "a.plan")
