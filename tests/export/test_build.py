"""`export build` from the ONNX file to the kept plan, in the simulator of each TensorRT version."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pix2pix_edge.export.build import build, cache_name
from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.export.tensorrt import proof as trial
from pix2pix_edge.export.tensorrt.progress import BuildProgress
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import GateFailedError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.nvidia.capabilities import probe
from pix2pix_edge.runtime.sidecar import (
    BuiltBy,
    CalibratedOn,
    FidelitySummary,
    Precision,
    Sidecar,
    Source,
    TensorSpec,
    read_sidecar,
    write_sidecar,
)
from tests.commands import export
from tests.export import test_build_gpu
from tests.export.small_network import CONVOLUTIONS, PRECISIONS, write_small_network
from tests.simulator import VERSIONS, Simulator, Start

command = partial(export, "build")


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error as the user sees it: one line, no traceback."""
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
    return line


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Press Ctrl-C at a step of the build; return the list of the steps that are made."""
    steps: list[str] = []
    original = BuildProgress.step

    def interrupted(progress: BuildProgress, name: str, number: int) -> None:
        steps.append(name)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGINT)
            while not progress.cancelled:  # the main thread hears it
                pass
        original(progress, name, number)

    monkeypatch.setattr(BuildProgress, "step", interrupted)
    return steps


@pytest.fixture(params=VERSIONS)
def simulator(request: pytest.FixtureRequest, simulated_tensorrt: Start) -> Simulator:
    """Each version of TensorRT in turn."""
    return simulated_tensorrt(request.param, total_memory=4 << 30)


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_plan_translates_as_onnxruntime_does(tmp_path: Path, precision: str) -> None:
    source = write_small_network(tmp_path / f"a.{precision}.onnx", precision)
    out = tmp_path / "plans" / "a.plan"
    sidecar = build(source, out)
    assert sidecar.precision == Precision(precision, CONVOLUTIONS[precision])
    images = np.stack(drawn_images((32, 32, 3)))
    with open_engine(out) as plan, open_engine(source, backend="onnxruntime") as reference:
        for image in images:
            assert np.array_equal(plan(image[None]), reference(image[None]))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sidecar_says_what_the_plan_is(simulated_tensorrt: Start, tmp_path: Path, version: str) -> None:
    simulated_tensorrt(version, name="Orin", compute_capability=(8, 7))
    source = write_small_network(tmp_path / "a.int8.onnx", "int8")
    out = tmp_path / "a.plan"
    build(source, out)
    sidecar = read_sidecar(out)
    assert sidecar is not None
    assert sidecar.kind == "plan" and sidecar.sha256 == sha256_of(out)
    assert sidecar.source == Source("a.int8.onnx", sha256_of(source))
    assert sidecar.input == TensorSpec("image", (1, 32, 32, 3), "uint8")
    assert sidecar.output == TensorSpec("translated", (1, 32, 32, 3), "uint8")
    assert sidecar.tensorrt == BuiltBy(probe().tensorrt, "Orin", "8.7", "12.6", probe().driver)
    assert sidecar.fidelity == FidelitySummary(len(drawn_images((32, 32, 3))), 100.0, 1.0, 0, "a.int8.onnx", 100.0)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.usefixtures("simulator")
def test_a_batch_makes_a_plan_for_one_to_n_images(tmp_path: Path) -> None:
    source = write_small_network(tmp_path / "a.int8.onnx", "int8")
    sidecar = build(source, tmp_path / "a.plan", batch=3)
    assert sidecar.tensorrt and sidecar.tensorrt.max_batch == 3
    assert sidecar.input and sidecar.input.shape == (3, 32, 32, 3)
    assert sidecar.precision.layers == CONVOLUTIONS["int8"]
    images = np.stack(drawn_images((32, 32, 3))[-3:])
    with open_engine(tmp_path / "a.plan") as plan, open_engine(source, backend="onnxruntime") as reference:
        assert plan.input.shape == (3, 32, 32, 3)
        assert np.array_equal(plan(images), np.concatenate([reference(image[None]) for image in images]))


def test_the_batch_of_the_file_is_the_default(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulated_tensorrt("10.3")
    sidecar = build(write_small_network(tmp_path / "a.onnx", batch=2), tmp_path / "a.plan")
    assert sidecar.input and sidecar.input.shape == (2, 32, 32, 3)
    assert sidecar.tensorrt and sidecar.tensorrt.max_batch is None


def test_images_of_the_user_are_compared_on(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulated_tensorrt("10.3")
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(drawn_images((48, 48, 3))[:3]):
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), image)
    sidecar = build(write_small_network(tmp_path / "a.onnx"), tmp_path / "a.plan", data=tmp_path / "photos")
    assert sidecar.fidelity and sidecar.fidelity.images == 3


def test_calibration_is_carried_over_from_the_graph(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulated_tensorrt("10.3")
    source = write_small_network(tmp_path / "a.int8.onnx", "int8")
    calibration = CalibratedOn("1" * 64, 24, "percentile")
    write_sidecar(source, Sidecar(calibration=calibration))
    assert build(source, tmp_path / "a.plan").calibration == calibration


def test_the_next_build_reuses_the_timing_cache(
    simulated_tensorrt: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated_tensorrt("10.13", name="NVIDIA RTX A2000", compute_capability=(8, 6))
    steps = interrupt_at(0, monkeypatch)  # never
    source = write_small_network(tmp_path / "a.onnx")
    build(source, tmp_path / "a.plan")
    assert (tmp_path / "tensorrt-10.13.3.9-nvidia-rtx-a2000-sm86.timing").is_file()
    first = len(steps)
    build(source, tmp_path / "b.plan")
    assert len(steps) - first < first


def test_timing_caches_of_other_machines_are_other_files(simulated_tensorrt: Start) -> None:
    names = set()
    for version, gpu, capability in (("10.3", "Orin", (8, 7)), ("11.4", "Orin", (8, 7)), ("10.3", "Thor", (11, 0))):
        simulated_tensorrt(version, name=gpu, compute_capability=capability)
        names.add(cache_name(probe()))
    assert names == {
        "tensorrt-10.3.0-orin-sm87.timing",
        "tensorrt-11.4.0.106-orin-sm87.timing",
        "tensorrt-10.3.0-thor-sm110.timing",
    }


@pytest.mark.parametrize("content", [b"garbage", b'{"device": ["another"], "timed": []}'])
def test_a_timing_cache_that_does_not_fit_is_replaced(
    simulated_tensorrt: Start, tmp_path: Path, content: bytes
) -> None:
    simulated_tensorrt("10.3")
    cache = tmp_path / "mine.timing"
    cache.write_bytes(content)
    build(write_small_network(tmp_path / "a.onnx"), tmp_path / "a.plan", timing_cache=cache)
    assert cache.read_bytes() != content


def test_options_reach_the_builder(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt: Any = simulator.tensorrt
    seen: list[Any] = []
    original = trt.Builder.build_serialized_network

    def spy(builder: Any, network: Any, config: Any) -> Any:
        workspace = config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
        seen.append((config.builder_optimization_level, workspace >> 20, config.get_flag(trt.BuilderFlag.TF32)))
        return original(builder, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", spy)
    source = write_small_network(tmp_path / "a.onnx")
    assert command(source, "--out", tmp_path / "a.plan") == 0
    assert command(source, "--out", tmp_path / "a.plan", "--workspace", "256", "--optimization-level", "5") == 0
    assert seen == [(3, 2048, False), (5, 256, False)]


@pytest.mark.usefixtures("simulator")
def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(1, monkeypatch)
    out = tmp_path / "plans"
    out.mkdir()
    assert command(write_small_network(tmp_path / "a.onnx"), "--out", out / "a.plan") == 130
    assert not list(out.iterdir())


@pytest.mark.parametrize("when", ["proven_precision", "compare_with_onnxruntime"])
def test_ctrl_c_while_trying_the_plan_keeps_the_former_one(
    simulated_tensorrt: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    simulated_tensorrt("10.3")
    source, out = write_small_network(tmp_path / "a.onnx"), tmp_path / "a.plan"
    build(source, out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, when, interrupted)
    assert command(source, "--out", out) == 130
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("simulator")
def test_a_silent_fallback_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = trial.inspect_plan
    monkeypatch.setattr(trial, "inspect_plan", lambda *a: re.sub("(?i)int8", "FP32", original(*a)))
    source = write_small_network(tmp_path / "a.int8.onnx", "int8")
    assert command(source, "--out", tmp_path / "plans" / "a.plan") == 2
    said = one_line(capsys)
    assert "left 2 of 4 convolutions in a wider type" in said and "down2 (int8 asked, fp32 found)" in said
    assert {p.suffix for p in (tmp_path / "plans").iterdir()} == {".timing"}


def test_a_plan_that_gives_other_pictures_fails_the_gate(
    simulated_tensorrt: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated_tensorrt("11.4")
    original = trial.translated

    def miscompiled(engine: Any, images: Any) -> Any:
        pictures = original(engine, images)
        return pictures if hasattr(engine, "_session") else np.roll(pictures, 5, axis=2)

    monkeypatch.setattr(trial, "translated", miscompiled)
    source = write_small_network(tmp_path / "a.fp16.onnx", "fp16")
    assert command(source, "--out", tmp_path / "plans" / "a.plan") == 1
    assert re.search(
        r"error: the plan does not translate as ONNX Runtime does with a\.fp16\.onnx: mean PSNR .* dB", one_line(capsys)
    )
    assert {p.suffix for p in (tmp_path / "plans").iterdir()} == {".timing"}
    with pytest.raises(GateFailedError):
        build(source, tmp_path / "plans" / "a.plan")


@pytest.mark.parametrize("batch", [None, 4])
def test_what_is_tested_on_a_gpu_passes_in_the_simulator(
    simulated_tensorrt: Start, tmp_path: Path, batch: int | None
) -> None:
    simulated_tensorrt("10.3")
    for precision in PRECISIONS:
        (tmp_path / precision).mkdir()
        test_build_gpu.test_a_plan_is_built_proven_and_translates(tmp_path / precision, precision, batch)
