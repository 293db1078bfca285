"""Comparisons of made-up runs on a noisy machine: planted changes are found, and nothing else is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks.compare import (
    FALSE_ALARMS,
    METRICS,
    Change,
    compare,
    comparison_table,
    noise_of,
    remarks,
    worse_fidelity,
)
from pix2pix_edge.benchmarks.machine.description import Machine
from pix2pix_edge.benchmarks.report.reader import write
from pix2pix_edge.benchmarks.report.schema import ReferenceWork, Report, Row, Scope
from pix2pix_edge.benchmarks.report.summary import scope_of
from pix2pix_edge.runtime.errors import InputError
from tests.benchmarks.samples import (
    drift_of,
    made_fidelity,
    made_report,
    made_row,
    made_scope,
    made_work,
    noisy_rounds,
    with_scopes,
)
from tests.commands import benchmarks

TRIALS = 20


def _pair(seed: int, slower: float) -> tuple[Report, Report]:
    random = np.random.default_rng(seed)
    names = ("a.onnx", "b.onnx")
    old = made_report(random, *(made_row(random, name) for name in names))
    new = made_report(random, made_row(random, "a.onnx"), made_row(random, "b.onnx", 40.0 * slower))
    return old, new


def _verdicts(pair: tuple[Report, Report], tolerance: float = 0.03) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"a.onnx": set(), "b.onnx": set()}
    for change in compare(*pair):
        found[change.engine].add(change.verdict(tolerance))
    return {name: verdicts - {""} for name, verdicts in found.items()}


def test_a_planted_slow_down_of_10_percent_is_found_and_only_there() -> None:
    found = [_verdicts(_pair(seed, 1.10)) for seed in range(TRIALS)]
    assert [f["b.onnx"] for f in found] == [{"slower"}] * TRIALS
    assert [f["a.onnx"] for f in found] == [set()] * TRIALS


def test_a_change_is_hardly_ever_reported_where_there_is_none() -> None:
    """As seldom as FALSE_ALARMS says: of 200 comparisons of two engines in five metrics, four at most."""
    reported = [any(_verdicts(_pair(seed, 1.0)).values()) for seed in range(200)]
    assert sum(reported) <= FALSE_ALARMS * len(reported)


def _shared_host(random: np.random.Generator, machine: float, slower: float) -> Report:
    """A report of 28 launches with two rounds each, as in `benchmarks trials`, on a machine like our users'.

    Launches differ by 2 %, one round in ten is disturbed, and the whole run is by `machine` (logarithm) slower. CPU
    time minds all of that less.
    """

    def scope(milliseconds: float, launches: Any, noise: float = 1.0) -> Scope:
        bursts = (random.random(56) < 0.1) * random.exponential(0.3, 56)
        own = bursts * noise**4 + random.standard_normal(56) * 0.015
        return made_scope((milliseconds * np.exp((launches + own + machine) * noise)).tolist())

    launches = np.repeat(random.standard_normal(28) * 0.02, 2)
    times = {"engine": 20 * slower, "compute": 20}
    scopes = {name: scope(milliseconds, launches) for name, milliseconds in times.items()}
    scopes["cpu"] = scope(38 * slower, launches, 0.7)
    work = ReferenceWork(what="", cpu=scope(10, 0.0, 0.7), **vars(scope(5, random.standard_normal() * 0.01)))
    return made_report(random, Row(name="a", file="a.onnx", scopes=scopes), reference_work=work)


@pytest.mark.parametrize("regimes", [0.01, 0.03])
def test_on_a_shared_host_a_planted_slow_down_is_nearly_always_found_and_hardly_anything_else(regimes: float) -> None:
    """Also where the neighbours make whole runs slower or faster by some percent."""
    random = np.random.default_rng(11)
    found, reported = 0, 0
    for _ in range(TRIALS * 10):
        machine = random.standard_normal(2) * regimes
        old, new, slow = (_shared_host(random, m, s) for m, s in ((machine[0], 1), (machine[1], 1), (machine[1], 1.1)))
        found += "slower" in {c.verdict(0.03) for c in compare(old, slow)}
        reported += bool({c.verdict(0.03) for c in compare(old, new)} & {"slower", "faster"})
    assert found >= 0.95 * TRIALS * 10
    assert reported <= 0.02 * TRIALS * 10


def test_a_gain_is_no_regression() -> None:
    assert _verdicts(_pair(1, 0.8))["b.onnx"] == {"faster"}


def test_a_machine_that_became_slower_explains_slower_times() -> None:
    """Everything takes 15 % longer, the reference work too; CPU time as ever."""
    random = np.random.default_rng(4)
    old, new = made_report(random), made_report(random)
    times = {name: new.engines[0].scopes[name].p50_ms for name in ("engine", "compute", "overlap", "stream")}
    new = with_scopes(new, **{name: scope_of(noisy_rounds(random, 1.15 * ms)) for name, ms in times.items()})
    assert {c.verdict(0.03) for c in compare(old, new)} > {"slower"}
    new = replace(new, reference_work=made_work(random, 2.3))
    drifts = [c.machine for c in compare(old, new) if c.metric != METRICS["cpu"]]
    assert drifts == pytest.approx([math.log(1.15)] * 4, abs=0.04)
    assert {c.machine for c in compare(old, old)} == {0.0}
    assert {c.verdict(0.03) for c in compare(old, new)} == {""}
    assert {c.verdict(0.03) for c in compare(new, old)} == {""}
    assert any(line.startswith("the machine itself took") and "longer" in line for line in remarks(old, new))
    assert not any(line.startswith("the machine itself") for line in remarks(old, made_report(random)))
    new = replace(new, reference_work=replace(made_work(random, 2.3), what="another work"))
    assert {c.machine for c in compare(old, new)} == {None}
    assert {row[-2] for row in comparison_table(compare(old, new), 0.03).rows} == {"–"}
    assert any("no reference work in common" in line for line in remarks(old, new))


def test_cpu_time_finds_what_latency_cannot() -> None:
    """Where other programs make latencies useless; what the clocks do, they do to the reference work too."""
    random = np.random.default_rng(9)
    found = {"least CPU time, ms": 0, "latency p50, ms": 0}
    for _ in range(TRIALS):
        pair = []
        for cpu in (76.0, 83.6):
            clocks = drift_of(random, 0.01)
            report = made_report(random, reference_work=made_work(random, 2.0, machine=clocks))
            noisy = {s: scope_of(noisy_rounds(random, cpu / 1.9, 0.5)) for s in ("engine", "compute", "overlap")}
            pair.append(with_scopes(report, cpu=scope_of(noisy_rounds(random, cpu, machine=clocks)), **noisy))
        for change in compare(*pair):
            if change.metric in found:
                found[change.metric] += change.verdict(0.03) == "slower"
    assert found["least CPU time, ms"] >= 0.75 * TRIALS
    assert found["latency p50, ms"] == 0


def test_a_plan_is_not_excused_by_a_slow_cpu() -> None:
    random = np.random.default_rng(2)
    old, new = (made_report(random, made_row(random, "a.plan", ms)) for ms in (5.0, 5.7))
    new = replace(new, reference_work=made_work(random, 3.0))
    changes = {c.metric: c for c in compare(old, new)}
    assert changes["compute p50, ms"].verdict(0.03) == "slower" and changes["compute p50, ms"].machine is None
    assert remarks(old, replace(new, reference_work=None)) == []


def test_calls_of_other_batches_are_not_compared() -> None:
    random = np.random.default_rng(2)
    rows = [
        [made_row(random, "a.plan", ms, batch=n), made_row(random, "b.plan", 3.0)] for ms, n in ((2.0, 1), (7.0, 4))
    ]
    old, new = (made_report(random, *pair) for pair in rows)
    assert {change.engine for change in compare(old, new)} == {"b.plan"}
    assert "a.plan is not compared, because a call has 1 and 4 images" in remarks(old, new)


def test_cpu_time_that_a_coarse_clock_did_not_see_is_left_out() -> None:
    random = np.random.default_rng(2)
    old, new = made_report(random), made_report(random)
    new.engines[0].scopes["cpu"].lows_ms[3] = 0.0
    assert {change.metric for change in compare(old, new)} == set(METRICS.values()) - {METRICS["cpu"]}


def test_a_regression_is_said_without_what_the_machine_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(5)
    old, new = made_report(random), made_report(random, made_row(random, milliseconds=44.0))
    new = replace(new, reference_work=made_work(random, 1.9))  # a machine that became faster hides a part of it
    assert _run(tmp_path, old, new) == 1
    said = capsys.readouterr().err
    (percent,) = re.findall(r"latency p50, ms \+([\d.]+)% beside the machine", said)
    assert float(percent) == pytest.approx(15.8, abs=3)


def test_tolerance_and_noise_both_excuse() -> None:
    assert Change("a", "m", 1, 1.05, math.log(1.05), 0.01).verdict(0.03) == "slower"
    assert Change("a", "m", 1, 1.05, math.log(1.05), 0.01).verdict(0.10) == ""
    assert Change("a", "m", 1, 1.05, math.log(1.05), 0.06).verdict(0.03) == ""
    assert Change("a", "m", 1, 0.9, math.log(0.9), 0.01).verdict(0.03) == "faster"


def test_a_machine_that_became_slower_excuses_what_became_slower_only() -> None:
    slower, faster = math.log(1.1), math.log(0.9)
    assert Change("a", "m", 1, 1.1, slower, 0.02, machine=0.09).verdict(0.03) == ""
    assert Change("a", "m", 1, 1.1, slower, 0.02, machine=0.05).verdict(0.03) == "unclear"
    assert Change("a", "m", 1, 1.1, slower, 0.02, machine=-0.09).verdict(0.03) == "slower"
    assert Change("a", "m", 1, 0.9, faster, 0.02, machine=-0.09).verdict(0.03) == ""
    assert Change("a", "m", 1, 0.9, faster, 0.02, machine=0.09).verdict(0.03) == "faster"


@pytest.mark.parametrize("spell", [0.4, 1.0])
def test_a_spell_that_engines_mind_unlike_the_reference_work_is_no_change(spell: float) -> None:
    """For that share of the run the reference work takes 13 % longer and the engine 22 %."""
    random = np.random.default_rng(3)
    seen: list[set[str]] = []
    for _ in range(TRIALS):
        old, new = (_shared_host(random, 0, 1) for _ in range(2))
        slowed = np.exp(np.array([[0.2], [0.12]]) * (np.arange(56) < 56 * spell))
        work = new.reference_work
        assert work
        engine, machine = (
            made_scope((np.array(scope.medians_ms) * by).tolist())
            for scope, by in zip((new.engines[0].scopes["engine"], work), slowed, strict=True)
        )
        new = with_scopes(
            replace(new, reference_work=ReferenceWork(what="", cpu=work.cpu, **vars(machine))), engine=engine
        )
        seen.append({c.verdict(0.03) for c in compare(old, new) if c.metric == METRICS["engine"]})
    assert seen.count({"slower"}) <= 0.15 * TRIALS
    assert spell < 1 or seen.count({"unclear"}) > TRIALS / 2  # a whole run in it: said, and not taken for a change


def test_what_is_unclear_is_said_and_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(5)
    old = made_report(random)
    new = made_report(
        random, made_row(random, milliseconds=40.0 * 1.15 * 1.08), reference_work=made_work(random, 2.3, 4.6)
    )
    assert _run(tmp_path, old, new) == 0
    said = capsys.readouterr().out
    assert "| unclear |" in said and said.endswith("no regression, but unclear: a.onnx\n")


def test_few_rounds_decide_nothing() -> None:
    assert noise_of(np.ones(2), np.ones(20)) == math.inf


def test_an_engine_that_was_measured_in_part_is_compared_in_the_rounds_that_it_shared() -> None:
    random = np.random.default_rng(6)
    old, new = made_report(random), made_report(random)
    short = made_scope([40.0 + 0.1 * i for i in range(6)])
    changes = compare(old, with_scopes(new, engine=short))
    assert next(c for c in changes if c.metric == METRICS["engine"]).machine is not None


def test_a_loss_of_fidelity_always_counts() -> None:
    random = np.random.default_rng(0)
    old = made_report(random, made_row(random, fidelity=made_fidelity(42.9)))
    new = made_report(random, made_row(random, fidelity=made_fidelity(41.0)))
    assert worse_fidelity(old, new) == ["a.onnx: PSNR 42.9 to 41.0 dB"]
    assert worse_fidelity(new, old) == worse_fidelity(old, old) == []
    others = replace(new, images=["4.png", "5.png", "6.png"])  # as many others say nothing
    said = "fidelity is not compared, because images or reference are others: a.onnx"
    assert worse_fidelity(old, others) == [] and said in remarks(old, others) and said not in remarks(old, new)
    old, others = replace(old, images_sha256="a"), replace(new, images_sha256="b")  # other pictures of the same names
    assert worse_fidelity(old, others) == [] and said in remarks(old, others)
    assert said not in remarks(old, replace(new, images_sha256="a"))
    elsewhere = replace(made_fidelity(41.0), reference="b.fp32.onnx"), replace(made_fidelity(41.0), from_sidecar=True)
    for fidelity in elsewhere:
        others = made_report(random, made_row(random, fidelity=fidelity), images_sha256="a")
        assert worse_fidelity(old, others) == [] and said in remarks(old, others)


def test_other_machines_and_missing_engines_are_remarked() -> None:
    random = np.random.default_rng(0)
    old = made_report(random, made_row(random), made_row(random, "gone.onnx"))
    new = made_report(random, made_row(random), machine=Machine(cpu="Another CPU"))
    lines = remarks(old, new)
    assert "the reports are of different machines: cpu Example CPU and Another CPU" in lines
    assert "gone.onnx has not been measured in the new report" in lines


def _run(tmp_path: Path, old: Any, new: Any, *more: str) -> int:
    for name, report in (("old.json", old), ("new.json", new)):
        if isinstance(report, str):
            (tmp_path / name).write_text(report)
        else:
            write(report, tmp_path / name)
    arguments = ["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), *more]
    return benchmarks(*arguments)


def test_exit_status_says_whether_there_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = _pair(7, 1.10)
    assert _run(tmp_path, old, new) == 1
    printed = capsys.readouterr()
    assert "| b.onnx | latency p50, ms |" in printed.out and "slower" in printed.out
    assert printed.err.startswith("error: regression: b.onnx: ")
    assert _run(tmp_path, new, old) == 0
    assert _run(tmp_path, old, new, "--tolerance", "50") == 0
    assert _run(tmp_path, old, old) == 2  # nothing is compared with itself
    assert "are the same report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"format": "pix2pix-edge-report/9"}', "it says pix2pix-edge-report/9, not pix2pix-edge-report/1"),
        ("[1, 2]", "it says nothing, not"),
        ('{"format": "pix2pix-edge-report/1"', "cannot be read (Expecting"),
        ('{"format": "pix2pix-edge-report/1"}', "it does not tell command"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, refused: Callable[[int], str], content: str, says: str) -> None:
    assert says in refused(_run(tmp_path, made_report(np.random.default_rng(0)), content))


def test_a_missing_report_and_reports_without_a_common_engine_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with pytest.raises(InputError, match="no measured engine in common"):
        compare(made_report(random), made_report(random, made_row(random, "other.onnx")))
    arguments = ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert benchmarks(*arguments) == 2
