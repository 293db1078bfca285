"""Put the benchmark itself to the test on this machine: are its intervals honest, and does compare find what is there?

  python -m benchmarks trials --engine out/facades.int8.cpu.onnx --data photos
  python -m benchmarks trials --engine out/facades.int8.cpu.onnx --data photos --planted 5 --out trials.json

Every trial is two runs: of the engine as it is, and of the engine with work after each call in its own process, that
takes --planted percent of a call's time. Each run is used once to look for the planted slow-down, against the run
beside it, and once to look for a change where there is none, against the next run of its own kind. No two such
comparisons share a run, so that they count as independent. Half an hour for the default and an engine of 10 ms.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pix2pix_edge.benchmarks.machine.description import Machine
from pix2pix_edge.benchmarks.report.schema import Report, Scope
from pix2pix_edge.runtime.cli import add_data, add_engine, add_out
from pix2pix_edge.runtime.errors import EngineError, InputError

if TYPE_CHECKING:
    from pix2pix_edge.benchmarks.measure.engines import Profile
    from pix2pix_edge.benchmarks.measure.worker import Target
    from pix2pix_edge.runtime.engines.base import Images

FORMAT = "pix2pix-edge-trials/1"
TIMED_IMAGES = 16
CALIBRATIONS = 20
UNITS = 1000
TOLERANCE = 0.03
"""The default of `benchmarks compare`."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How trials went.

    planted_found: of `planted`. unchanged_reported, repeats_inside: of `unchanged`. varied_percent: standard deviation
    of the medians of equal runs; None with one of each kind. interval_percent: half the median interval's width.
    """

    planted_percent: float
    planted_measured_percent: float
    planted: int
    planted_found: int
    unchanged: int
    unchanged_reported: int
    repeats_inside: int
    varied_percent: float | None = None
    interval_percent: float

    def sentence(self) -> str:
        """Return the counts as text."""
        return (
            f"a planted slow-down of {self.planted_percent:g} % (measured: {self.planted_measured_percent:g} %)"
            f" found in {self.planted_found} of {self.planted};"
            f" a change reported in {self.unchanged_reported} of {self.unchanged} where there was none;"
            f" {self.repeats_inside} of {self.unchanged} repeated runs inside the interval"
            f" (half of the intervals within ±{self.interval_percent:.1f} %)"
            + (
                ""
                if self.varied_percent is None
                else f"; equal runs varied by {self.varied_percent:g} % (standard deviation)"
            )
        )


@dataclass(frozen=True, kw_only=True)
class Trials(Counts):
    """What this command writes: the counts, of which engine, where, and how busy the machine was."""

    format: str = FORMAT
    engine: str
    machine: Machine
    busy_before: float | None = None
    others: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    add_data(parser, "measure with")
    add_out(parser, "also write the counts", "FILE.json", required=False)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="even number of trials (default: 20)")
    parser.add_argument("--planted", type=float, default=10.0, metavar="PERCENT", help="slow-down (default: 10)")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.benchmarks.machine.description import Usage, describe_machine, machine_state
    from pix2pix_edge.benchmarks.measure.engines import PROFILES, Measured, image_shape
    from pix2pix_edge.benchmarks.measure.worker import Target
    from pix2pix_edge.benchmarks.report.reader import write
    from pix2pix_edge.export.images import evenly, judging_files, read_images

    if args.trials < 2 or args.trials % 2 or not 0 < args.planted <= 1000:
        raise InputError("--trials must be an even number, and --planted more than 0 and at most 1000 percent")
    files = evenly(judging_files(args.data), TIMED_IMAGES)
    target = Target(args.engine)
    images = read_images(files, image_shape([Measured(args.engine.name, target)]))
    machine, state, usage = describe_machine(), machine_state(), Usage()
    slowed = replace(target, extra_work=work_for(target, args.planted / 100, images))
    plain_runs: list[Report] = []
    slowed_runs: list[Report] = []
    for pair in runs(target, slowed, args.trials, images, PROFILES["trial"], machine):
        for reports, report in zip((plain_runs, slowed_runs), pair, strict=True):
            reports.append(report)
        found = counts(plain_runs, slowed_runs, args.planted)
        print(f"trial {len(plain_runs)} of {args.trials}: {found.sentence()}", flush=True)
        if args.out:
            others = usage.so_far().others
            where = Trials(
                **vars(found), engine=args.engine.name, machine=machine, busy_before=state.busy, others=others
            )
            write(where, args.out)


def work_for(target: Target, share: float, images: Sequence[Images]) -> int:
    """Return how many units of work take this share of a call's time. Raises EngineError."""
    from pix2pix_edge.benchmarks.measure.worker import Session, Worker

    with Worker(Session, target) as worker:
        worker.ask("open")
        worker.ask("first", list(images))
        calls, works = [], []
        for _ in range(CALIBRATIONS):  # taking turns, so that both meet the same machine
            calls.append(statistics.median(worker.ask("latency", 5)["engine"].tolist()))
            works.append(worker.ask("work", UNITS) / UNITS)
    units: int = round(share * statistics.median(calls) / statistics.median(works))
    return max(1, units)


def runs(
    plain: Target,
    slowed: Target,
    trials: int,
    images: Sequence[Images],
    profile: Profile,
    machine: Machine,
) -> Iterator[tuple[Report, Report]]:
    """Yield the reports of a plain and of a slowed run, for each trial.

    Which of them comes first changes from trial to trial: drift of the machine must not look like a slow-down.
    """
    for trial in range(trials):
        order = (plain, slowed) if trial % 2 == 0 else (slowed, plain)
        reports = {target: measured_alone(target, images, profile, machine) for target in order}
        yield reports[plain], reports[slowed]


def measured_alone(target: Target, images: Sequence[Images], profile: Profile, machine: Machine) -> Report:
    """Measure the latency of one engine, and return what `compare` needs of a report. Raises EngineError."""
    from pix2pix_edge.benchmarks.measure.engines import Measured, Run, measure
    from pix2pix_edge.benchmarks.report.builder import effort_of, reference_work_of
    from pix2pix_edge.benchmarks.report.rows import row_of

    run = Run([Measured(target.path.name, target)])
    measure(run, profile, images)
    if run.engines[0].error:
        raise EngineError(run.engines[0].error)
    return Report(
        command="",
        profile=effort_of(profile, run),
        machine=machine,
        engines=[row_of(run.engines[0], run)],
        reference_work=reference_work_of(run.reference),
    )


def counts(plain: Sequence[Report], slowed: Sequence[Report], planted: float) -> Counts:
    """Return how the trials so far went. planted: percent."""
    same = [pair for reports in (plain, slowed) for pair in zip(reports[::2], reports[1::2], strict=False)]
    ratios = [_engine(b).p50_ms / _engine(a).p50_ms for a, b in zip(plain, slowed, strict=True)]
    logs = [[math.log(_engine(report).p50_ms) for report in reports] for reports in (plain, slowed)]
    varied = math.sqrt(statistics.fmean(map(statistics.variance, logs))) if len(plain) > 1 else None
    return Counts(
        planted_percent=planted,
        planted_measured_percent=round(100 * math.expm1(statistics.median(map(math.log, ratios))), 1),
        planted=len(plain),
        planted_found=sum("slower" in _verdicts(a, b) for a, b in zip(plain, slowed, strict=True)),
        unchanged=len(same),
        unchanged_reported=sum(bool(_verdicts(a, b) - {"unclear"}) for a, b in same),
        repeats_inside=sum(_inside(a, b) for a, b in same),
        varied_percent=None if varied is None else round(100 * varied, 1),
        interval_percent=round(statistics.median(_half_width(_engine(report)) for report in (*plain, *slowed)), 2),
    )


def _engine(report: Report) -> Scope:
    return report.engines[0].scopes["engine"]


def _verdicts(old: Report, new: Report) -> set[str]:
    """Return what `compare` says of any metric: of "slower", "faster" and "unclear" those that it says."""
    from pix2pix_edge.benchmarks.compare import compare

    return {change.verdict(TOLERANCE) for change in compare(old, new)} - {""}


def _inside(old: Report, new: Report) -> bool:
    """Tell whether the new run lands in the interval that the old one printed."""
    low, high = _engine(old).interval_ms or (0.0, math.inf)
    return low <= _engine(new).p50_ms <= high


def _half_width(scope: Scope) -> float:
    low, high = scope.interval_ms or (0.0, math.inf)
    return 50 * (high - low) / scope.p50_ms
