"""The command `benchmarks run` from its arguments to the report's files, with real engines."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks import run as latency
from pix2pix_edge.benchmarks.measure import engines as measure
from pix2pix_edge.benchmarks.measure.engines import Profile
from pix2pix_edge.benchmarks.measure.interleave import Budget
from pix2pix_edge.benchmarks.report import builder
from pix2pix_edge.benchmarks.report.reader import load_report
from tests.commands import benchmarks, start
from tests.conftest import eventually, picture, write_inverter, write_rgb

TINY = Profile("tiny", launches=1, budget=Budget(rounds=5, turn_s=0.01, warm_up_s=0.0))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile of milliseconds, and a peak that is known already."""
    monkeypatch.setitem(measure.PROFILES, "quick", TINY)
    monkeypatch.setattr(builder.ReportBuilder, "_measure_peak", lambda self, say: self.peak.update(fp32=1e9))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for index, name in enumerate(("1.png", "2.png", "more/3.png")):
        write_rgb(folder / name, picture(index, 48, 64))
    return folder


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.usefixtures("quick")
def test_a_mix_of_engines_becomes_a_report(
    inverter: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(b"ptrt" * 100)
    out = tmp_path / "new" / "report"
    engines = ["--engine", inverter, plan]
    assert benchmarks("run", *engines, "--data", data, "--out", out, "--backend", "onnxruntime", "--threads", "1") == 0
    json.loads((out / "report.json").read_text(), parse_constant=_refuse)
    report = load_report(out)
    ours, theirs = report.engines
    assert report.complete and report.images == ["1.png", "2.png", "more/3.png"]
    assert (report.profile.name, report.profile.rounds) == ("tiny", 5)
    assert ours.error == "" and set(ours.scopes) == {"compute", "engine", "stream", "overlap", "submit", "cpu"}
    assert ours.scopes["engine"].interval_ms and len(ours.scopes["engine"].medians_ms) == 5
    assert ours.fidelity and ours.memory and ours.work
    assert ours.fidelity.itself and ours.fidelity.images == 3 and ours.fidelity.max_difference == 0
    assert ours.bytes == inverter.stat().st_size and len(ours.load_ms) == len(ours.first_ms) == 1
    assert ours.memory.host_peak_bytes > ours.memory.host_before_bytes > 0
    assert None not in vars(ours.frames_per_second).values()
    assert ours.work.multiply_adds == 0 and ours.ratio is None
    assert theirs.scopes == {} and theirs.error and theirs.fidelity is None
    assert report.machine.cpu and report.state.before.load is not None
    printed = capsys.readouterr().out
    assert printed.startswith("| engine |") and f"a.plan: {theirs.error}" in printed
    assert (out / "report.html").stat().st_size > 10_000 and (out / "report.md").read_text().startswith(
        "# pix2pix-edge"
    )


@pytest.mark.usefixtures("quick")
def test_fidelity_stands_beside_speed_and_the_worst_picture_comes_first(data: Path, tmp_path: Path) -> None:
    engine, other = write_inverter(tmp_path / "a.fp32.onnx"), _dimmed(tmp_path / "b.onnx")
    out = tmp_path / "report"
    assert benchmarks("run", "--engine", engine, other, "--data", data, "--out", out, "--backend", "onnxruntime") == 0
    report = load_report(out)
    fidelity, ratio = report.engines[1].fidelity, report.engines[1].ratio
    assert fidelity and fidelity.reference == "a.fp32.onnx" and not fidelity.itself
    assert fidelity.psnr_worst_db and 10 < fidelity.psnr_worst_db < fidelity.psnr_db < 60
    assert fidelity.max_difference == 20
    shown = [entry.outputs["b.onnx"].psnr_db for entry in report.gallery]
    assert shown == sorted(fidelity.psnr_each_db or []) and report.gallery[0].image == fidelity.worst_image
    for entry in report.gallery:
        for path in (entry.input, *entry.references.values(), entry.outputs["b.onnx"].difference):
            assert (out / path).is_file()
    assert ratio and ratio.to == "a.fp32.onnx"


def _dimmed(path: Path) -> Path:
    """An inverter whose bright values come out wrong by 20."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(write_inverter(path)))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(235), "least"))
    model.graph.node[1].output[0] = "whole"
    model.graph.node.insert(2, helper.make_node("Min", ["whole", "least"], ["inverted"]))
    onnx.save(model, path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_several_backends_give_a_row_each(inverter: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "report"
    assert (
        benchmarks("run", "--engine", inverter, "--data", data, "--out", out, "--backend", "onnxruntime", "openvino")
        == 0
    )
    rows = load_report(out).engines
    assert [row.name for row in rows] == ["inverter.fp32.onnx (onnxruntime)", "inverter.fp32.onnx (openvino)"]
    assert [row.engine for row in rows] == ["ONNX Runtime", "OpenVINO"]
    assert [row.fidelity and row.fidelity.itself for row in rows] == [True, False]


@pytest.mark.usefixtures("quick")
def test_ctrl_c_writes_what_was_measured(
    inverter: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def interrupting(profile: Profile) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
        def on_round(done: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        yield lambda text: None, on_round

    monkeypatch.setattr(latency, "_progress", interrupting)
    out = tmp_path / "report"
    assert benchmarks("run", "--engine", inverter, "--data", data, "--out", out, "--backend", "onnxruntime") == 130
    report = load_report(out)
    assert report.complete is False
    row = report.engines[0]
    assert len(row.scopes["engine"].medians_ms) == 2 and row.fidelity and row.fidelity.images == 3
    assert "Interrupted" in (out / "report.md").read_text() and (out / "report.html").is_file()


@pytest.mark.usefixtures("quick")
def test_an_int8_file_without_its_fp32_graph_is_not_compared_with_itself(
    inverter: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    int8 = shutil.copy(inverter, tmp_path / "a.int8.onnx")
    sidecar = {"format": "pix2pix-edge/1", "precision": {"asked": "int8"}, "source": {"file": "gone.onnx"}}
    Path(f"{int8}.json").write_text(json.dumps(sidecar))
    out = tmp_path / "report"
    assert benchmarks("run", "--engine", int8, "--data", data, "--out", out, "--backend", "onnxruntime") == 0
    report = load_report(out)
    assert report.engines[0].fidelity is None and report.gallery == []
    assert "Fidelity not known: a.int8.onnx" in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_ctrl_c_ends_every_process(inverter: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    words = ["-m", "benchmarks", "run", "--engine", inverter, "--data", data, "--out", out, "--profile", "full"]
    process = start(*words, "--backend", "onnxruntime", text=False, start_new_session=True)
    assert process.stderr is not None
    seen = b""
    while b"measuring:   2%" not in seen:
        chunk = process.stderr.read1(4096)  # type: ignore[attr-defined]
        assert chunk, seen
        seen += chunk
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=600) == 130
    report = load_report(out)
    assert report.complete is False and report.engines[0].scopes["engine"].n > 0

    def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    assert eventually(gone), "the workers end with their parent"


def test_a_report_that_exists_is_kept_unless_forced(
    inverter: Path, data: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    (out / "gallery").mkdir(parents=True)
    old = out / "gallery" / "old.jpg"
    old.write_text("old")
    arguments = ["--engine", inverter, "--data", data, "--out", out, "--backend", "onnxruntime"]
    assert benchmarks("run", *arguments) == 2
    assert "exists and is kept; choose another --out, or replace it with --force" in capsys.readouterr().err
    assert old.read_text() == "old" and not (out / "report.json").exists()
    assert benchmarks("run", *arguments, "--force") == 0
    assert load_report(out).complete and not old.exists()


def test_different_contracts_are_refused_and_leave_things_as_they_were(
    inverter: Path, data: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = write_inverter(tmp_path / "larger.onnx", 64)
    out, old = tmp_path / "report", tmp_path / "old"
    (old / "gallery").mkdir(parents=True)
    arguments = ["--engine", inverter, larger, "--data", data, "--backend", "onnxruntime", "--out"]
    assert benchmarks("run", *arguments, out) == benchmarks("run", *arguments, old, "--force") == 2
    assert "engines that take different images cannot share a report" in capsys.readouterr().err
    assert not out.exists() and (old / "gallery").is_dir()


def test_when_no_engine_runs_the_reason_is_the_error(
    data: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(b"ptrt" * 100)
    out = tmp_path / "report"
    assert benchmarks("run", "--engine", plan, "--data", data, "--out", out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "TensorRT" in error and not out.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--engine": "missing.onnx"}, "there is no file missing.onnx"),
        ({"--engine": __file__}, "is no .onnx or .plan file"),
        ({"--data": "nowhere"}, "--data nowhere does not exist"),
        ({"--data": "empty"}, "holds no images"),
        ({"--seconds": "0"}, "--seconds 0 must be more than 0"),
        ({"--seconds": "nan"}, "--seconds nan must be more than 0"),
        ({"--profile": "sloppy"}, "invalid choice: 'sloppy'"),
        ({"--reference": "gone.onnx"}, "there is no file gone.onnx"),
        ({"--out": "file/report"}, "cannot make the folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    inverter: Path, data: Path, tmp_path: Path, refused: Callable[[int], str], change: dict[str, str], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    out = tmp_path / "report"
    options: dict[str, Any] = {"--engine": inverter, "--data": data, "--out": out, "--backend": "onnxruntime"} | change
    for name in ("--data", "--out"):
        if name in change and change[name] != "nowhere":
            options[name] = tmp_path / change[name]
    assert says in refused(benchmarks("run", *[part for pair in options.items() for part in pair]))
    assert not out.exists()


def test_two_files_of_one_name_are_told_apart_or_refused(
    inverter: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("x/same", "y/same"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(inverter, tmp_path / folder / "a.onnx")
    files = [tmp_path / "x/same/a.onnx", tmp_path / "y/same/a.onnx"]
    assert benchmarks("run", "--engine", *files, "--data", data, "--out", tmp_path / "report") == 2
    assert "two engines would both be called same/a.onnx" in capsys.readouterr().err
