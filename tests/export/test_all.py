"""`export all`: what runs, what is left, and that the commands printed are commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pix2pix_edge.export import all as everything
from pix2pix_edge.export.__main__ import COMMANDS
from pix2pix_edge.runtime.errors import EngineError, GateFailedError
from pix2pix_edge.runtime.images import write_image
from tests.commands import export, parse
from tests.conftest import picture
from tests.export.small_network import write_small_network
from tests.simulator import Start


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand-ins for convert and quantize that write small graphs; `fails`: the error that a step is to raise."""
    told: dict[str, Any] = {"ran": [], "fails": {}}

    def stand_in(name: str, written: dict[str, str]) -> ModuleType:
        module = ModuleType(f"stand_in_{name}")
        real = __import__(COMMANDS[name][0], fromlist=["add_arguments"])

        def run(args: Any) -> None:
            told["ran"].append(name)
            if name in told["fails"]:
                raise told["fails"][name]
            for ending, precision in written.items():
                folder, base = (args.out, args.name) if name == "convert" else (args.model.parent, "facades")
                folder.mkdir(parents=True, exist_ok=True)
                write_small_network(folder / f"{base}.{ending}.onnx", precision)

        module.add_arguments, module.run = real.add_arguments, run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, name, (module.__name__, ""))
        return module

    stand_in("convert", {"fp32": "fp32", "fp16": "fp16"})
    stand_in("quantize", {"int8": "int8"})
    return told


def export_all(tmp_path: Path, *options: str) -> int:
    words = ["all", str(tmp_path / "generator.keras"), "--out", str(tmp_path / "out"), "--name", "facades", *options]
    return export(*words)


def printed_commands(text: str) -> list[list[str]]:
    """The commands that are left, each checked to be one."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("  python -m export")]
    for words in lines:
        parse(words)
    return [words[3:] for words in lines]


def test_without_a_gpu_the_plans_are_left_as_commands(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "_obstacle_to_plans", lambda: "TensorRT is not installed")
    assert export_all(tmp_path, "--data", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert steps["ran"] == ["convert", "quantize"]
    assert "Plans cannot be built here: TensorRT is not installed" in said
    assert f"Left to do on the device that will run them, with a copy of {tmp_path / 'out'}:" in said
    left = printed_commands(said)
    assert [words[0] for words in left] == ["build"] * 3
    assert [Path(words[1]).name for words in left] == ["facades.fp32.onnx", "facades.fp16.onnx", "facades.int8.onnx"]
    assert "Then: runtime/run.py --engine " in said


def test_without_images_int8_is_left(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "_obstacle_to_plans", lambda: "no GPU")
    assert export_all(tmp_path) == 0
    assert steps["ran"] == ["convert"]
    left = printed_commands(capsys.readouterr().out)
    assert [words[0] for words in left] == ["quantize", "build", "build", "build"]


def test_with_a_gpu_but_without_images_only_int8_is_left(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str], simulated_tensorrt: Start
) -> None:
    simulated_tensorrt("11.4")
    assert export_all(tmp_path) == 0
    said = capsys.readouterr().out
    left = printed_commands(said)
    assert [words[0] for words in left] == ["quantize", "build"] and left[1][1].endswith("facades.int8.onnx")
    assert "Left to do after that:" in said
    assert {p.name for p in (tmp_path / "out").glob("*.plan")} == {"facades.fp32.plan", "facades.fp16.plan"}


def test_with_a_gpu_everything_is_done(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str], simulated_tensorrt: Start
) -> None:
    simulated_tensorrt("10.3")
    write_image(tmp_path / "photos" / "a.png", picture(5))
    assert export_all(tmp_path, "--data", str(tmp_path / "photos")) == 0
    said = capsys.readouterr().out
    assert printed_commands(said) == [] and "Left to do" not in said
    plans = {p.name for p in (tmp_path / "out").glob("*.plan*")}
    assert plans == {f"facades.{p}.plan{e}" for p in everything.PRECISIONS for e in ("", ".json")}
    for precision in everything.PRECISIONS:
        assert f"$ python -m export build {tmp_path / 'out' / f'facades.{precision}.onnx'}" in said


def test_a_failed_gate_does_not_stop_the_rest(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str], simulated_tensorrt: Start
) -> None:
    simulated_tensorrt("10.3")
    steps["fails"]["quantize"] = GateFailedError("INT8 reaches 31.0 dB")
    write_image(tmp_path / "photos" / "a.png", picture(5))
    assert export_all(tmp_path, "--data", str(tmp_path / "photos")) == 1
    assert "error: INT8 reaches 31.0 dB" in capsys.readouterr().err
    assert (tmp_path / "out" / "facades.fp16.plan").exists() and not (tmp_path / "out" / "facades.int8.plan").exists()


def test_a_failed_conversion_stops_everything(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    steps["fails"]["convert"] = EngineError("the generator is no generator")
    assert export_all(tmp_path) == 2
    said = capsys.readouterr()
    assert said.err == "error: the generator is no generator\n"
    assert steps["ran"] == ["convert"] and "Left to do" not in said.out


def test_the_obstacle_is_named(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")
    assert everything._obstacle_to_plans() is None
    simulated_tensorrt("10.3", pycuda=False)
    assert everything._obstacle_to_plans() == "pycuda is not installed"
    simulated_tensorrt("10.3", present=False)
    assert "finds no GPU" in str(everything._obstacle_to_plans())
    simulated_tensorrt("10.3", tensorrt=False)
    assert "TensorRT is not installed" in str(everything._obstacle_to_plans())


def test_every_option_of_a_step_is_passed_on_to_it(
    tmp_path: Path, steps: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "_obstacle_to_plans", lambda: "no GPU")
    given = {
        "convert": ["--fold", "none", "--size", "64x32", "--input-range", "-1,1", "--output-range", "0,1", "--channels",
                    "bgr", "--batch-statistics", "--custom", "own.py", "--mean", "0.5", "--std",
                    "0.2,0.2,0.3", "--bits", "8"],
        "quantize": ["--target", "both", "--images", "7", "--method", "minmax", "--min-psnr", "30", "--min-ssim", "0.9",
                     "--min-worst", "20", "--cache", "c.json", "--train", "2"],
        "build": ["--batch", "4", "--workspace", "512", "--optimization-level", "2", "--timing-cache", "t",
                  "--verbose", "--rtx", "--gpu", "sm86,sm89"],
    }  # fmt: skip
    for step, words in given.items():
        known = {action.option_strings[0] for action in everything._options(step)}
        assert {word for word in words if word.startswith("--")} == known, "each option, and no other, is given"
    assert export_all(tmp_path, "--data", str(tmp_path), *(word for words in given.values() for word in words)) == 0
    ran = [shlex.split(line[2:]) for line in capsys.readouterr().out.splitlines() if line[:2] in ("$ ", "  ")]
    for words in ran:
        for step, options in given.items():
            assert (set(options) <= set(words)) == (words[3] == step), words
    assert [words[3] for words in ran] == ["convert", "quantize", *["build"] * 3]


def test_an_option_of_a_late_step_is_read_before_the_first_one_runs(tmp_path: Path, steps: dict[str, Any]) -> None:
    assert export_all(tmp_path, "--optimization-level", "9") == 2 and steps["ran"] == []
