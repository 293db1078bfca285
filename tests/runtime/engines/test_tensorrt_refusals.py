"""What the TensorRT engine refuses, over the SIMULATED TensorRT (tests/simulator) and real pycuda on a fake driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.tensorrt import TensorRTEngine
from pix2pix_edge.runtime.errors import EngineError, MissingPackageError, ToolkitError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.sidecar import BuiltBy, Precision, Sidecar, Source, write_sidecar
from tests.conftest import write_inverter
from tests.simulator import Start, build_plan, run_simulated

SIZE = 32


def message_of(action: Callable[[], Any], kind: type[ToolkitError] = EngineError) -> str:
    """Return the one-line message that `action` must raise."""
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def describe_plan(plan: Path, **tensorrt: str) -> Path:
    """Write a sidecar beside a plan."""
    here = replace(BuiltBy("10.3.0", "Simulated GPU", "8.7"), **tensorrt)
    write_sidecar(plan, Sidecar("plan", source=Source("tiny.fp32.onnx", "0"), tensorrt=here))
    return plan


def rebuild(plan: Path) -> str:
    return f"python -m export build {plan.parent / 'tiny.fp32.onnx'} --out {plan}"


def test_a_plan_from_another_version(plan: Path, simulated_tensorrt: Start) -> None:
    describe_plan(plan)
    simulated_tensorrt("10.13")
    message = message_of(lambda: open_engine(plan))
    assert "was built by TensorRT 10.3.0.26, but 10.13.3.9 is here" in message and rebuild(plan) in message


def test_a_plan_for_another_gpu_or_architecture(plan: Path) -> None:
    message = message_of(lambda: open_engine(describe_plan(plan, compute_capability="8.9")))
    assert "for the compute capability 8.9, but here it is 8.7" in message and rebuild(plan) in message
    message = message_of(lambda: open_engine(describe_plan(plan, gpu="NVIDIA H100")))
    assert "for the GPU NVIDIA H100, but here it is Simulated GPU" in message and rebuild(plan) in message


def test_without_a_sidecar_tensorrts_own_words_are_passed_on(plan: Path, simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3", compute_capability=(8, 9))
    message = message_of(lambda: open_engine(plan))
    assert "expecting compute 8.9 got compute 8.7, please rebuild" in message
    assert f"python -m export build {plan.with_suffix('.onnx')} --out {plan}" in message


def test_half_a_plan_is_refused_in_tensorrts_words(plan: Path) -> None:
    whole = plan.read_bytes()
    plan.write_bytes(whole[: len(whole) // 2])
    assert "TensorRT does not load it" in message_of(lambda: open_engine(plan))


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:-1] + b"?"], ids=["cut", "altered"])
def test_a_plan_changed_after_it_was_built(plan: Path, change: Callable[[bytes], bytes]) -> None:
    describe_plan(plan).write_bytes(change(plan.read_bytes()))
    message = message_of(lambda: open_engine(plan))
    assert "was altered" in message and rebuild(plan) in message


def test_a_plan_of_another_contract(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulated_tensorrt("10.3")
    graph = write_inverter(tmp_path / "other.onnx", SIZE, input="picture")
    message = message_of(lambda: open_engine(build_plan(graph, tmp_path / "other.plan")))
    assert "is not an exported generator: it takes picture" in message


@pytest.mark.parametrize(
    ("machine", "kind", "said"),
    [
        ({"tensorrt": False}, MissingPackageError, "TensorRT is not installed; run: pip install"),
        ({"pycuda": False}, MissingPackageError, "needs the package pycuda, which is not installed"),
        ({"total_memory": 1_000}, EngineError, "not enough memory to open"),  # the plan does not fit
        ({"total_memory": 1_500_000}, EngineError, "not enough memory to open"),  # all but the last context does
        ({"total_memory": 1_052_300}, EngineError, "not enough memory to open"),  # all but the last buffer does
    ],
    ids=["no-tensorrt", "no-pycuda", "oom-plan", "oom-context", "oom-buffer"],
)
def test_a_machine_that_cannot_run_plans(
    plan: Path, simulated_tensorrt: Start, machine: dict[str, Any], kind: type[ToolkitError], said: str
) -> None:
    simulated_tensorrt("10.3", **machine)
    assert said in message_of(lambda: open_engine(plan), kind)


def test_a_command_says_it_in_one_line_and_exits_2(plan: Path, tmp_path: Path) -> None:
    run = ("runtime/run.py", "--engine", plan, "--source", "test://", "--sink", "null")
    done = run_simulated(*run, version="11.4")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "export build" in done.stderr


def test_the_report_names_precision_and_board(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = capabilities.probe()
    board = replace(found, jetson_model="NVIDIA Jetson Orin Nano", l4t="36.4.3", jetpack="6.2")
    monkeypatch.setattr(capabilities, "probe", lambda **_: board)
    write_sidecar(plan, Sidecar("plan", precision=Precision("int8", {"a": "int8", "b": "int8", "c": "fp16"})))
    with TensorRTEngine(plan) as engine:
        about = engine.describe()
        assert (engine.kind, engine.on_cpu, engine.precision, engine.threads) == ("tensorrt", False, "int8", None)
    assert about["precision"] == "int8 (convolutions: 2 int8, 1 fp16)"
    assert about["board"] == "NVIDIA Jetson Orin Nano, JetPack 6.2"
