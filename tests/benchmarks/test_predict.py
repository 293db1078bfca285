"""The roofline against arithmetic by hand, and the table of boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from pix2pix_edge.benchmarks.machine.boards import BOARDS, board_of
from pix2pix_edge.benchmarks.measure.peak import measured_peak
from pix2pix_edge.benchmarks.predict import MARK, floor_table, predict
from pix2pix_edge.export.inspect import LayerCost
from pix2pix_edge.runtime.errors import InputError
from tests.commands import benchmarks
from tests.export.arithmetic import model_of


def _layer(name: str, multiply_adds: int, moved: int, precision: str = "fp16", op: str = "Conv") -> LayerCost:
    return LayerCost(name, op, (1, 1, 1, 1), multiply_adds, moved - 2, 1, 1, precision)


def test_a_layer_is_bound_by_the_longer_of_compute_and_memory() -> None:
    layers = [_layer("dense", 4_000_000, 1000), _layer("wide", 1000, 8_000_000), _layer("relu", 0, 99, op="Relu")]
    floors = predict(layers, {"fp16": 1e9}, 4e9, "x")
    assert [(f.layer.name, f.milliseconds, f.bound) for f in floors] == [
        ("dense", 4.0, "compute"),
        ("wide", 2.0, "memory"),
    ]
    table = floor_table(floors, 1)
    assert [row[0] for row in table.rows] == ["dense", "1 more layers", "whole graph"]
    assert table.rows[-1][-2:] == ["6.00", "100%"]
    assert MARK in table.heading


def test_each_layer_counts_at_its_own_precision() -> None:
    floors = predict([_layer("a", 10**9, 2, "int8"), _layer("b", 10**9, 2)], {"fp16": 1e12, "int8": 2e12}, 1e12, "x")
    assert [f.milliseconds for f in floors] == [0.5, 1.0]


def test_what_a_board_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="Nano does not multiply in int8, as layer a asks; it has fp32, fp16"):
        predict([_layer("a", 1, 2, "int8")], BOARDS["nano"].peak, 1.0, "Nano")
    with pytest.raises(InputError, match="no convolution"):
        predict([_layer("relu", 0, 2)], {"fp16": 1.0}, 1.0, "x")


def test_boards_agree_with_known_rates() -> None:
    # 16 multiprocessors at 1.3 GHz: half of the 171 sparse INT8 TOPS that NVIDIA gives for the GPU of the AGX Orin 64GB
    assert 2 * BOARDS["agx-orin"].peak["int8"] == pytest.approx(85.2e12, rel=0.01)
    assert 2 * BOARDS["nano"].peak["fp16"] == pytest.approx(472e9, rel=0.01)
    assert 2 * BOARDS["orin-nano-super"].peak["fp16"] == pytest.approx(16.7e12, rel=0.01)
    assert 2 * BOARDS["thor-t5000"].peak["fp16"] == pytest.approx(258e12, rel=0.01)


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "orin-nano-super"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "orin-nx"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "thor-t5000"),
        ("NVIDIA Jetson Nano Developer Kit", "nano"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi 4 Model B Rev 1.4", None),
        ("", None),
    ],
)
def test_a_board_is_found_by_its_device_tree(model: str, key: str | None) -> None:
    assert board_of(model) == (BOARDS[key] if key else None)


def test_the_clock_of_the_power_mode_counts() -> None:
    slow = board_of("NVIDIA Jetson AGX Orin Developer Kit", 650.0)
    assert slow is not None and slow.peak["fp16"] == pytest.approx(BOARDS["agx-orin"].peak["fp16"] / 2)


def test_the_measured_peak_is_that_of_a_machine() -> None:
    peak = measured_peak(0.01)
    assert {"fp32", "int8", "bandwidth"} <= peak.keys()
    assert all(1e7 < value < 1e16 for value in peak.values())


def _conv(path: Path) -> Path:
    body = """real = Cast <to = 1> (image)  planes = Transpose <perm = [0, 3, 1, 2]> (real)
        conv = Conv <pads = [1, 1, 1, 1]> (planes, w)"""
    ends = "(uint8[1, 16, 16, 3] image) => (float[1, 8, 16, 16] conv)"
    onnx.save(model_of(ends, body, {"w": np.zeros((8, 3, 3, 3), np.float32)}), path)
    return path


def test_the_command_marks_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _conv(tmp_path / "a.onnx")
    assert benchmarks("predict", file, "--board", "orin-nano-super") == 0
    printed = capsys.readouterr().out
    assert "| conv | fp32 | 0.05530 |" in printed and f"{MARK}: a.onnx takes at least" in printed
    assert "predicted floor, ms" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--board", "toaster"], "there is no board toaster"),
        (["--board", "orin-nano", "--top", "0"], "--top 0 must be"),
    ],
)
def test_bad_arguments_are_one_line(
    tmp_path: Path, refused: Callable[[int], str], arguments: list[str], says: str
) -> None:
    assert says in refused(benchmarks("predict", _conv(tmp_path / "a.onnx"), *arguments))
