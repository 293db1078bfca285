"""Real engines in real processes: every scope, failures of one that leave the others whole."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks.measure import worker
from pix2pix_edge.benchmarks.measure.engines import KINDS, Measured, Profile, Run, image_shape, measure, translate_all
from pix2pix_edge.benchmarks.measure.interleave import Budget, Timings
from pix2pix_edge.benchmarks.measure.reference_work import CHANNELS, SIZE, reference_work
from pix2pix_edge.benchmarks.measure.worker import Session, Target, Worker
from pix2pix_edge.benchmarks.report.rows import row_of
from pix2pix_edge.benchmarks.report.table import rounded
from pix2pix_edge.runtime.errors import EngineError, InputError
from pix2pix_edge.runtime.frame import STAGES
from tests.conftest import picture, write_inverter

TINY = Profile("tiny", launches=2, budget=Budget(rounds=2, turn_s=0.01, warm_up_s=0.0))
IMAGES = [picture(i) for i in range(3)]


class Mortal:
    """A session that dies, as an engine does that crashes."""

    def die(self) -> None:
        os._exit(3)

    def close(self) -> None:
        return


@pytest.fixture(scope="module")
def measured(inverter: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of an engine, a plan that cannot run here, and a file that is no engine."""
    folder = tmp_path_factory.mktemp("engines")
    broken, plan = folder / "broken.onnx", folder / "a.plan"
    broken.write_bytes(b"not ONNX")
    plan.write_bytes(b"ptrt" * 100)
    targets = {
        "good": Target(inverter, "onnxruntime", 1),
        "plan": Target(plan),
        "broken": Target(broken, "onnxruntime"),
    }
    run = Run([Measured(label, target) for label, target in targets.items()])
    translate_all(run, IMAGES)
    measure(run, TINY, IMAGES)
    return run


def test_every_scope_is_measured_in_every_round_of_every_launch(measured: Run) -> None:
    good = measured.engines[0]
    assert good.error == ""
    for scope in ("engine", "compute", "submit", "cpu", "overlap", "stream", "captured_at", "prepare stage"):
        rounds = good.scope(scope)
        assert len(rounds) == 4 and all(len(r) == len(rounds[0]) >= 3 and (r >= 0).all() for r in rounds), scope
    assert len(good.first_ns) == len(good.opened) == len(good.memory) == 2
    assert set(good.kinds) == set(KINDS)
    assert measured.rounds == 4 and len(measured.reference["reference"]) == 4


def test_engine_time_holds_compute_and_stream_time_holds_more(measured: Run) -> None:
    good = measured.engines[0]
    for engine, compute in zip(good.scope("engine"), good.scope("compute"), strict=True):
        assert (engine >= compute).all() and (compute > 0).all()
    stages = ("stream", "prepare stage", "engine stage")
    for age, prepare, engine in zip(*(good.scope(s) for s in stages), strict=True):
        assert (age >= prepare + engine).all() and (engine > 0).all()
    row = row_of(good, measured)
    for stage in STAGES:
        assert row.stream and row.stream.stages_ms[stage] == rounded(
            float(np.median(np.concatenate(good.kinds["stream"][f"{stage} stage"]))) / 1e6
        )


def test_memory_and_windows_are_the_engines_own(measured: Run) -> None:
    good = measured.engines[0]
    assert 20e6 < good.opened[0].host_base < good.memory[0].host_peak < 2e9
    rounds = sum(samples.rounds for kind, samples in good.kinds.items() if kind == "latency")
    assert len(good.windows) > rounds and all(a < b for a, b in good.windows)  # they hold the warm-up too
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(good.windows))
    assert good.windowed_calls >= sum(map(len, good.scope("engine")))


def test_engines_that_cannot_run_have_a_reason_and_the_others_results(measured: Run) -> None:
    good, plan, broken = measured.engines
    assert (good.outputs[1] == 255 - IMAGES[1]).all()
    assert "TensorRT" in plan.error and plan.scope("engine") == []
    assert "broken.onnx" in broken.error and broken.outputs == []


def test_different_contracts_are_refused_before_anything_is_measured(inverter: Path, tmp_path: Path) -> None:
    larger = write_inverter(tmp_path / "larger.onnx", 64)
    run = Run([Measured(path.name, Target(path, "onnxruntime", 1)) for path in (inverter, larger)])
    with pytest.raises(
        InputError, match=r"inverter.fp32.onnx takes \[1, 32, 32, 3\]; larger.onnx takes \[1, 64, 64, 3\]"
    ):
        translate_all(run, IMAGES)


def test_planted_work_is_real_and_within_the_call(inverter: Path) -> None:
    with Worker(Session, Target(inverter, "onnxruntime", 1, extra_work=3000)) as asked:
        asked.ask("open")
        asked.ask("first", IMAGES)
        assert asked.ask("work", 3000) > 1_000_000  # an inversion of 32×32 pixels takes some 20 µs
        times = asked.ask("latency", 20)
    extra = times["engine"] - times["compute"]
    assert (extra > 1_000_000).all()
    assert (times["cpu"] > 1_000_000).all()  # work, not waiting


def test_a_batch_is_filled_with_the_next_images(tmp_path: Path) -> None:
    engine = write_inverter(tmp_path / "batch.onnx", batch=2)
    with Worker(Session, Target(engine, "onnxruntime", 1)) as worker:
        worker.ask("open")
        outputs = worker.ask("translate", IMAGES)
        worker.ask("first", IMAGES)
        assert len(worker.ask("latency", 4)["engine"]) == 4
    run = Run([Measured("batch", Target(engine, "onnxruntime", 1))])
    measure(run, TINY, IMAGES)
    assert run.engines[0].error == "" and set(run.engines[0].kinds) == {"latency", "overlap"}
    assert all((output == 255 - image).all() for output, image in zip(outputs, IMAGES, strict=True))


def test_a_process_that_dies_is_one_engines_error() -> None:
    with Worker(Mortal) as worker, pytest.raises(EngineError, match=r"process ended \(exit code 3\)"):
        worker.ask("die")


class Unborn:
    """A session that cannot be made."""

    def __init__(self) -> None:
        raise InputError("no such thing here")


def test_a_session_that_cannot_be_made_says_why() -> None:
    with Worker(Unborn) as worker:
        for _ in range(2):
            with pytest.raises(InputError, match="no such thing here"):
                worker.ask("anything")


def test_device_memory_is_taken_before_other_engines_open(inverter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([900, 700, 100])  # at the start, after the first inference, and beside another engine
    monkeypatch.setattr(worker, "_free_device_memory", lambda: next(free))
    session = Session(Target(inverter, "onnxruntime", 1))
    session.open()
    session.first(IMAGES)
    assert session.memory().device == 200
    session.close()


def test_a_round_that_measured_a_stream_only_is_no_latency(inverter: Path) -> None:
    measured = Measured("a", Target(inverter))
    measured.kinds["stream"] = Timings()
    ones = np.ones(3, np.int64)
    measured.kinds["stream"].add({"stream": ones, "engine stage": ones, "captured_at": ones})
    assert measured.scope("engine") == []
    assert "stream" in row_of(measured, Run([measured])).scopes


@pytest.mark.parametrize("last", [1, 2])
def test_an_engine_that_is_killed_in_any_round_leaves_the_others_whole(
    inverter: Path, tmp_path: Path, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """last: the round after which it is killed, the launch's last one among them."""
    other = write_inverter(tmp_path / "other.onnx")
    run = Run([Measured(path.name, Target(path, "onnxruntime", 1)) for path in (inverter, other)])
    pids = []

    def kill(done: int) -> None:
        if done == last:
            os.kill(pids[0], signal.SIGKILL)

    real = Worker.ask

    def ask(self: Worker, method: str, *arguments: Any) -> Any:
        if method == "open":
            pids.append(self._process.pid)
        return real(self, method, *arguments)

    monkeypatch.setattr(Worker, "ask", ask)
    measure(run, TINY, IMAGES, kill)
    killed, whole = run.engines
    assert "process ended (it was killed" in killed.error and len(killed.scope("engine")) == last
    assert whole.error == "" and len(whole.scope("engine")) == 4


def test_other_exceptions_of_a_session_become_engine_errors() -> None:
    with Worker(Mortal) as worker:
        with pytest.raises(EngineError, match="no attribute 'nonsense'"):
            worker.ask("nonsense")
        worker.ask("close")


def test_the_size_is_that_of_the_first_engine_that_opens(inverter: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    shutil.copy(__file__, bad)
    engines = [Measured("bad", Target(bad, "onnxruntime")), Measured("good", Target(inverter, "onnxruntime"))]
    assert image_shape(engines) == (32, 32, 3)
    with pytest.raises(EngineError):
        image_shape(engines[:1])


def test_a_profile_for_other_seconds_keeps_its_rounds() -> None:
    profile = Profile("p", 4, Budget(5, 1.0, 2.0), at_least_s=600.0).lasting(1.0)
    assert (profile.launches, profile.budget.rounds, profile.budget.turn_s) == (4, 5, 0.05)
    assert (profile.name, profile.budget.warm_up_s, profile.at_least_s) == ("p, 1 s", 1.0, 0.0)


def test_a_profile_with_a_least_goes_on_until_it_is_reached(inverter: Path) -> None:
    run = Run([Measured("a", Target(inverter, "onnxruntime", 1))])
    measure(run, Profile("p", 1, Budget(2, 0.0, 0.0), ("latency",), at_least_calls=10), IMAGES)
    assert sum(map(len, run.engines[0].scope("engine"))) == 12  # two launches of 2 rounds of 3 calls
    assert set(run.engines[0].kinds) == {"latency"}


def test_the_reference_work_is_convolutions() -> None:
    """Its output is that of the last one, of weights and a picture that are drawn anew here from the same seed."""
    (output,) = reference_work()()  # type: ignore[misc]
    random = np.random.default_rng(0)
    weights = random.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    x = np.pad(random.standard_normal((1, CHANNELS, SIZE, SIZE)).astype(np.float32)[0], ((0, 0), (1, 1), (1, 1)))
    for row, column in ((0, 0), (40, 95)):
        expected = np.einsum("oihw,ihw->o", weights, x[:, row : row + 3, column : column + 3])
        np.testing.assert_allclose(output[0, :, row, column], expected, rtol=1e-3, atol=1e-3)
