"""The GPU report: on a machine without a GPU it says what it left out, and nothing in it says whose machine it was."""

from __future__ import annotations

import functools
import json
import platform
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.capabilities import Gpu
from tests.commands import python
from tests.conftest import REPOSITORY
from tests.gpu import report
from tests.gpu.report import Stage, clean, main, packages, run, stages


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Nothing is asked of a GPU here."""


def test_a_machine_with_everything_builds_measures_and_asks_trtexec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    machine = replace(
        capabilities.probe(), tensorrt="10.3.0", gpu=Gpu("Orin", (8, 7), True, 8 << 30), gpu_missing="", pycuda=True
    )
    (tmp_path / "plans").mkdir()
    found = {}
    for stage in stages(machine, tmp_path):
        found[stage.name] = stage
        if stage.name.startswith("build-bench"):
            Path(stage.command[stage.command.index("--out") + 1]).touch()  # as a build does
    assert {"build-facades.int8", "build-bench.fp32", "build-bench.fp16", "build-bench.int8"} <= set(found)
    assert {"trtexec-bench.fp32", "trtexec-bench.fp16", "trtexec-bench.int8"} <= set(found)
    assert "trtexec-facades.int8" not in found  # it was not built
    assert str(tmp_path / "plans" / "bench.int8.plan") in found["benchmarks"].command
    assert {stage.name for stage in found.values() if stage.lacks} == {"build-rtx"}  # it knows no Jetson
    assert {"gpu-tests", "gpu-tests-again", "gpu-tests-a-third-time"} <= set(found)


def test_tensorrt_is_installed_for_the_cuda_of_a_pc_and_never_on_a_jetson() -> None:
    pc = replace(capabilities.probe(), gpu=Gpu("RTX", (8, 9), False, 8 << 30), gpu_missing="", cuda="12.6", pycuda=True)
    assert [(stage.command[-1], stage.lacks) for stage in packages(pc) if not stage.lacks] in (
        [("tensorrt-cu12", ""), ("tensorrt-rtx-cu12", "")], [("tensorrt-cu12", "")], [],
    )  # fmt: skip
    assert all(stage.lacks for stage in packages(replace(pc, jetson_model="Orin")))
    assert not next(packages(replace(pc, pycuda=False))).lacks


def test_without_a_gpu_what_is_left_out_is_said_and_the_rest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = replace(
        capabilities.probe(), gpu=None, gpu_missing="there is no NVIDIA driver here", tensorrt="",
        tensorrt_missing="is not installed",
    )  # fmt: skip
    monkeypatch.setattr(report, "probe", functools.cache(lambda package="": without))
    quick = [s for s in stages(without, tmp_path / "report") if s.lacks or s.name == "doctor"]
    quick.append(
        Stage("breaks", "a command that fails", (sys.executable, "-c", "print('so it is'); raise SystemExit(3)"))
    )
    monkeypatch.setattr(report, "stages", lambda machine, out: iter(quick))
    assert main(tmp_path / "report") == 1
    assert "attach this file to an issue" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "report.zip") as packed:
        assert {"report.html", "report.json", "doctor.log", "breaks.log"} <= set(packed.namelist())
        found = json.loads(packed.read("report.json"))
        page = packed.read("report.html").decode()
    states = {stage["name"]: (stage["state"], stage["said"]) for stage in found["stages"]}
    assert states["doctor"][0] == "ok" and states["breaks"] == ("failed", "so it is")
    assert states["gpu-tests"] == ("left out", "there is no NVIDIA driver here")
    assert "there is no NVIDIA driver here" in page and found["GPU"] == "none"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("rtsp://anna:geheim@camera/1", "rtsp://***@camera/1"),
        ("HF_TOKEN=hf_abc123 api_key: 99", "HF_TOKEN=*** api_key: ***"),
        ("listening on 192.168.1.7:8080", "listening on ADDRESS:8080"),
        ("http://10.0.0.4/ and 10.0.0.4:8080", "http://ADDRESS/ and ADDRESS:8080"),
        ("TensorRT 10.13.3.9 with CUDA 12.6", "TensorRT 10.13.3.9 with CUDA 12.6"),
        ("GPU-3f8a1c22-0d1e-4b7a-9c55-0123456789ab", "ID"),
        (f"{Path.home()}/plans/a.plan", "~/plans/a.plan"),
        (f"{REPOSITORY}/models", "./models"),
    ],
)
def test_nothing_says_whose_machine_it_was(said: str, left: str) -> None:
    assert clean(said) == left


def test_a_log_is_cleaned(tmp_path: Path) -> None:
    program = f"print({str(Path.home())!r}, {platform.node()!r}, 'PASSWORD=' + 'abc')"
    outcome = run(Stage("says", "", (sys.executable, "-c", program)), tmp_path / "says.log")
    text = (tmp_path / "says.log").read_text() + outcome.said + outcome.command
    assert outcome.state == "ok" and "abc" not in (tmp_path / "says.log").read_text()
    assert not any(f"{secret} " in text or f"{secret}'" in text for secret in (str(Path.home()), platform.node()))


def test_a_stage_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SECONDS", 4.0)  # by when a shell has said a word on any machine
    outcome = run(Stage("hangs", "", ("sh", "-c", "echo begun; exec sleep 6000")), tmp_path / "hangs.log")
    assert (
        outcome.state == "failed" and "ended after" in outcome.said and "begun" in (tmp_path / "hangs.log").read_text()
    )


def test_the_overlap_stage_runs_where_pycuda_does() -> None:
    from tests import fake_cuda

    if reason := fake_cuda.missing():
        pytest.skip(reason)
    code = "import sys; sys.argv = ['stages']; from tests.gpu.stages import overlap; overlap(20)"
    done = python("-c", code, **fake_cuda.environment())
    assert done.returncode == 0 and "every picture right: {1:" in done.stdout, done.stderr
