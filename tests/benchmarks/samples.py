"""Made-up measurements: what a shared machine does to an engine's times, without waiting for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.benchmarks.machine.description import Machine, Shares, State
from pix2pix_edge.benchmarks.report.schema import (
    Effort,
    Fidelity,
    MemoryUse,
    Rates,
    ReferenceWork,
    Report,
    Row,
    Scope,
    States,
    StreamTimes,
    Work,
)
from pix2pix_edge.benchmarks.report.summary import scope_of

LAUNCHES, ROUNDS, CALLS = 8, 3, 12


def noisy_rounds(
    random: np.random.Generator, milliseconds: float, noise: float = 0.01, machine: NDArray[Any] | None = None
) -> list[NDArray[np.int64]]:
    """Rounds of a run: launches that differ, drift, bursts of other programs, and jitter.

    noise: relative size of each. machine: the drift (logarithm) of each round, to be shared with other contenders.
    """
    count = LAUNCHES * ROUNDS
    launch = np.repeat(random.standard_normal(LAUNCHES), ROUNDS) * noise
    drift = drift_of(random, noise) if machine is None else machine
    bursts = (random.random(count) < 0.1) * np.minimum(random.exponential(20 * noise, count), 3.0)
    jitter = random.standard_normal((count, CALLS)) * noise
    logs = (launch + drift + bursts)[:, None] + jitter
    return list(np.rint(milliseconds * 1e6 * np.exp(logs)).astype(np.int64))


def drift_of(random: np.random.Generator, noise: float) -> NDArray[np.float64]:
    """A wandering machine: each round remembers 80 % of the one before."""
    steps = random.standard_normal(LAUNCHES * ROUNDS) * noise * 0.6
    drift = np.zeros(steps.size)
    for i in range(1, steps.size):
        drift[i] = 0.8 * drift[i - 1] + steps[i]
    return drift


def made_scope(rounds: Sequence[float], lows: Sequence[float] | None = None) -> Scope:
    """A scope of the medians of rounds (ms), and of their 10th percentiles."""
    p50 = float(np.median(rounds))
    return Scope(
        n=len(rounds), min_ms=min(rounds), mean_ms=p50, max_ms=max(rounds), p50_ms=p50,
        medians_ms=list(rounds), lows_ms=list(lows or rounds),
    )  # fmt: skip


def made_row(random: np.random.Generator, name: str = "a.onnx", milliseconds: float = 40.0, **more: Any) -> Row:
    """A row of a report, with all that a CPU engine has."""
    times = {"engine": 1.0, "compute": 0.98, "cpu": 1.9, "overlap": 0.97, "stream": 1.3, "submit": 0.001}
    row = Row(
        name=name,
        file=name,
        engine="ONNX Runtime",
        precision="fp32",
        describe={"version": "1.20"},
        bytes=41_868_390,
        sha256="0" * 64,
        load_ms=[350.0, 340.0, 360.0],
        first_ms=[70.0, 71.0, 69.0],
        scopes={s: scope_of(noisy_rounds(random, milliseconds * factor)) for s, factor in times.items()},
        frames_per_second=Rates(serial=1000 / milliseconds, overlap=1030 / milliseconds, stream=24.0),
        fidelity=made_fidelity(),
        work=Work(multiply_adds=4_626_000_000, weight_bytes=41_000_000, share_of_peak=0.61),
        memory=MemoryUse(host_peak_bytes=326_000_000, host_before_bytes=35_000_000),
        stream=StreamTimes(
            stages_ms={"capture": 0.3, "prepare": 1.2, "engine": milliseconds, "deliver": 0.0},
            ages_ms=[milliseconds * 1.3 + 0.1 * i for i in range(20)],
        ),
    )
    return replace(row, **more)


def made_fidelity(psnr_db: float = 42.9, *, itself: bool = False) -> Fidelity:
    """A row's fidelity; itself: that of the reference."""
    each = [100.0] * 3 if itself else [psnr_db + 1, psnr_db - 2, psnr_db + 1]
    return Fidelity(
        reference="a.fp32.onnx",
        itself=itself,
        images=3,
        psnr_db=100.0 if itself else psnr_db,
        ssim=1.0 if itself else 0.987,
        max_difference=0 if itself else 31,
        psnr_worst_db=min(each),
        worst_image="2.png",
        psnr_each_db=each,
    )


def made_report(random: np.random.Generator, *rows: Row, **more: Any) -> Report:
    """A whole report of these rows; one row by default."""
    report = Report(
        command="python -m benchmarks run --engine a.onnx --data photos --out report",
        profile=Effort(name="quick", launches=LAUNCHES, rounds=LAUNCHES * ROUNDS, turn_s=0.3, warm_up_s=0.3),
        machine=Machine(cpu="Example CPU", cores=2, packages={"numpy": "2.0"}),
        state=States(before=State(busy=0.02), during=Shares(others=0.01, stolen=0.0), after=State(busy=0.03)),
        images=["1.png", "2.png", "3.png"],
        engines=list(rows) or [made_row(random)],
        reference_work=made_work(random, 2.0),
    )
    return replace(report, **more)


def made_work(
    random: np.random.Generator, milliseconds: float, cpu: float = 4.0, machine: NDArray[Any] | None = None
) -> ReferenceWork:
    """A report's reference work."""
    scope = scope_of(noisy_rounds(random, milliseconds, machine=machine))
    return ReferenceWork(what="a convolution", cpu=scope_of(noisy_rounds(random, cpu, machine=machine)), **vars(scope))


def with_scopes(report: Report, **scopes: Scope) -> Report:
    """The report with some scopes of its first row replaced."""
    row = report.engines[0]
    return replace(report, engines=[replace(row, scopes=row.scopes | scopes), *report.engines[1:]])
