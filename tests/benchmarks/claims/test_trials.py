"""The benchmark's test of itself, on made-up runs and on a real engine."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.benchmarks.claims.trials import UNITS, counts, work_for
from pix2pix_edge.benchmarks.docs import SECTIONS
from pix2pix_edge.benchmarks.measure import engines as measure
from pix2pix_edge.benchmarks.measure.engines import Profile
from pix2pix_edge.benchmarks.measure.interleave import Budget
from pix2pix_edge.benchmarks.measure.worker import Target, Worker
from tests.benchmarks.samples import made_report, made_row, made_work
from tests.commands import benchmarks
from tests.conftest import picture, write_rgb


def test_counts_of_a_machine_with_known_noise() -> None:
    random = np.random.default_rng(3)
    plain = [made_report(random) for _ in range(20)]
    slowed = [made_report(random, made_row(random, milliseconds=44.0)) for _ in range(20)]
    found = counts(plain, slowed, 10.0)
    assert (found.planted, found.unchanged) == (20, 20)
    assert found.repeats_inside >= 18
    assert found.planted_found == 20 and found.unchanged_reported == 0
    assert 0.5 < found.interval_percent < 8 and 8 < found.planted_measured_percent < 12
    assert re.match(
        r"a planted slow-down of 10 % \(measured: .* %\) found in 20 of 20; .* in 0 of 20", found.sentence()
    )


def test_a_repeated_run_counts_as_it_was_printed() -> None:
    """Not scaled by anything: what a user sees who runs twice."""
    random = np.random.default_rng(3)
    fast, slow = (made_report(random, made_row(random, milliseconds=ms)) for ms in (40.0, 48.0))
    slow = replace(slow, reference_work=made_work(random, 2.4))  # even if it was the machine that became slower
    found = counts([fast, slow], [slow, slow], 10.0)
    assert (found.repeats_inside, found.unchanged) == (1, 2)
    assert found.varied_percent == pytest.approx(100 * np.log(1.2) / 2, abs=2)  # of 40, 48 and of 48, 48
    assert f"equal runs varied by {found.varied_percent:g} %" in found.sentence()
    assert "varied" not in counts([fast], [fast], 10.0).sentence()


def test_a_first_trial_has_no_repetition_yet() -> None:
    random = np.random.default_rng(0)
    found = counts([made_report(random)], [made_report(random)], 10.0)
    assert (found.repeats_inside, found.unchanged, found.planted) == (0, 0, 1)


def test_a_gain_is_not_the_slow_down_that_was_planted() -> None:
    random = np.random.default_rng(3)
    plain = [made_report(random) for _ in range(2)]
    faster = [made_report(random, made_row(random, milliseconds=30.0)) for _ in range(2)]
    assert counts(plain, faster, 10.0).planted_found == 0
    assert counts([plain[0], faster[0]], [plain[1], faster[1]], 10.0).unchanged_reported == 2


def test_the_planted_work_takes_its_share_of_a_call(inverter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of its own: on a busy machine two measured shares may differ by anything."""

    def ask(worker: Worker, question: str, *_arguments: object) -> object:
        return {"latency": {"engine": np.full(5, 4e6)}, "work": 2e3 * UNITS}.get(question)  # 4 ms a call, 2 µs a unit

    monkeypatch.setattr(Worker, "ask", ask)
    assert [work_for(Target(inverter), share, [picture(1)]) for share in (0.1, 0.5, 1e-6)] == [200, 1000, 1]


def test_the_command_runs_real_trials(
    inverter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Profile("tiny", launches=1, budget=Budget(rounds=6, turn_s=0.01, warm_up_s=0.0), kinds=("latency",))
    monkeypatch.setitem(measure.PROFILES, "trial", tiny)
    write_rgb(tmp_path / "1.png", picture(1))
    out = tmp_path / "trials.json"
    arguments = ["trials", "--engine", str(inverter), "--data", str(tmp_path), "--trials", "2", "--out", str(out)]
    assert benchmarks(*arguments) == 0
    assert "trial 2 of 2: " in capsys.readouterr().out and "found in" in SECTIONS["trials"].load(out).text
    for number in ("1", "3", "0"):
        assert benchmarks(*arguments, "--trials", number) == 2
