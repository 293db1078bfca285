from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.benchmarks import stream as streaming
from pix2pix_edge.benchmarks.measure.interleave import Budget, Timings
from pix2pix_edge.benchmarks.measure.streams import Ages, LongRun, live, long_run, throughput, write_clip
from pix2pix_edge.benchmarks.report.reader import read
from pix2pix_edge.benchmarks.stream import (
    FORMAT,
    StreamReport,
    freshness_rows,
    latency_rows,
    stored_rows,
    throughput_rows,
)
from pix2pix_edge.runtime.errors import InputError
from tests.commands import benchmarks
from tests.conftest import write_inverter
from tests.runtime.doubles import SlowEngine


def ages(age_ms: list[float], engine_ms: float = 10.0) -> Ages:
    age = np.array(age_ms) * 1e6
    return Ages(
        30.0, np.arange(len(age)) * 10**7, age.astype(np.int64), np.full(len(age), engine_ms * 1e6, np.int64), {}
    )


def test_limits_are_judged_on_what_was_measured() -> None:
    calm = latency_rows(ages([11.5] * 980 + [30.0] * 20))
    assert [row.kept for row in calm] == [True, False] and "1.50 ms" in calm[0].value
    fresh, growth, _ = freshness_rows(ages([15.0] * 1000))
    assert fresh.kept and fresh.value == "1.50 ×" and growth.value == "+0.0 %" and growth.kept
    stale, growth, _ = freshness_rows(ages([10.0 + index / 5 for index in range(1000)]))
    assert not stale.kept and not growth.kept and float(growth.value.rstrip(" %")) > 100, "latency that grows is seen"
    stored = LongRun(
        frames=10, lost=0, out_of_order=1, growth_bytes=20_000_000, files_left=0, threads_after_close=2
    )  # fmt: skip
    assert [row.kept for row in stored_rows(stored)] == [False, False, True, False]


def test_a_percentile_of_too_few_frames_is_not_judged() -> None:
    calm = latency_rows(ages([11.5] * 999))
    assert [(row.value, row.kept) for row in calm] == [("1.50 ms", True), ("needs 1000 frames", None)]
    assert freshness_rows(ages([15.0] * 999))[0].kept is None


def test_an_engine_that_slows_down_is_no_growth_of_the_queue() -> None:
    slower = ages([15.0] * 500 + [30.0] * 500)
    slower.engine[500:] *= 2
    assert freshness_rows(slower)[1].kept


def test_throughput_is_a_share_of_the_bare_engine() -> None:
    def timings(frame_ns: int) -> Timings:
        one = [np.array([frame_ns])] * 6
        return Timings({"frame": one, "cpu": one, "switches": one})

    null, webm, *_ = throughput_rows({"bare": timings(100), "null": timings(101), "webm": timings(125)})
    assert null.value.startswith("99.0 %") and null.kept and webm.value.startswith("80.0 %") and not webm.kept


def test_the_trials_measure_a_real_stream(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, 32, 32)
    measured: dict[str, Timings] = {}
    with SlowEngine(0.004) as engine:
        throughput(engine, clip, tmp_path, Budget(2, 0.1, 0.1), measured)
        run = live(engine, 600.0, 2.0)
        stored = long_run(engine, clip, 520)
    assert {name: (sample.rounds, sample.error) for name, sample in measured.items()} == {
        "bare": (2, ""), "null": (2, ""), "webm": (2, ""),
    }  # fmt: skip
    assert len(run.age) > 10 and (run.age > run.engine).all() and sum(run.dropped.values()) > 0
    assert (stored.lost, stored.out_of_order, stored.files_left) == (0, 0, 0)
    assert stored.growth_bytes is not None


def test_an_engine_too_slow_to_judge_is_said() -> None:
    with SlowEngine(0.4) as engine, pytest.raises(InputError, match=r"too few frames \(\d\) in 0.6 s; give more --sec"):
        live(engine, 600.0, 0.6)


def test_the_command_writes_numbers_and_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streaming, "TURN_S", 0.1)
    parser = argparse.ArgumentParser()
    streaming.add_arguments(parser)
    engine = write_inverter(tmp_path / "inverter.onnx")
    arguments = ["--engine", str(engine), "--out", str(tmp_path / "out"), "--seconds", "2", "--frames", "40"]
    assert streaming.run(parser.parse_args([*arguments, "--rounds", "1", "--backend", "onnxruntime"])) == 0
    stdout = capsys.readouterr().out
    assert "of the bare engine" in stdout and "lost or out of order, of 40 stored frames" in stdout
    report = read(tmp_path / "out/stream.json", StreamReport, FORMAT, "")
    assert report.stored.lost == 0 and report.machine.cores and report.overload and report.overload.age_ms
    assert cv2.imread(str(tmp_path / "out/frame_age.png")).shape[1] > 500


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--frames", "1"], ["--rounds", "0"]])
def test_senseless_lengths_are_one_line(tmp_path: Path, refused: Callable[[int], str], arguments: list[str]) -> None:
    assert "--seconds must be" in refused(benchmarks("stream", "--engine", "x.onnx", "--out", tmp_path, *arguments))
