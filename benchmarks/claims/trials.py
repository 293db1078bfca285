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
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.runtime.errors import EngineError, InputError

if TYPE_CHECKING:
    from pix2pix_edge.benchmarks.measure.engines import Profile
    from pix2pix_edge.benchmarks.measure.worker import Target
    from pix2pix_edge.benchmarks.report.schema import Report
    from pix2pix_edge.runtime.engines.base import Images

TIMED_IMAGES = 16
CALIBRATIONS = 20
UNITS = 1000
TOLERANCE = 0.03
"""The default of `benchmarks compare`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", type=Path, required=True, metavar="FILE", help="an .onnx or .plan file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images to measure with")
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="even number of trials (default: 20)")
    parser.add_argument("--planted", type=float, default=10.0, metavar="PERCENT", help="slow-down (default: 10)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the counts")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.benchmarks.machine.description import Usage, describe_machine, machine_state
    from pix2pix_edge.benchmarks.measure.engines import PROFILES, Measured, image_size
    from pix2pix_edge.benchmarks.measure.worker import Target
    from pix2pix_edge.benchmarks.report.schema import TRIALS
    from pix2pix_edge.export.images import evenly, judging_files, read_images
    from pix2pix_edge.runtime.files import written_beside

    if args.trials < 2 or args.trials % 2 or not 0 < args.planted <= 1000:
        raise InputError("--trials must be an even number, and --planted more than 0 and at most 1000 percent")
    files = evenly(judging_files(args.data), TIMED_IMAGES)
    target = Target(args.engine)
    images = read_images(files, image_size([Measured(args.engine.name, target)]))
    machine, state, usage = describe_machine(), machine_state(), Usage()
    slowed = replace(target, extra_work=work_for(target, args.planted / 100, images))
    plain_runs: list[Report] = []
    slowed_runs: list[Report] = []
    for pair in runs(target, slowed, args.trials, images, PROFILES["trial"], machine):
        for reports, report in zip((plain_runs, slowed_runs), pair, strict=True):
            reports.append(report)
        found = counts(plain_runs, slowed_runs, args.planted)
        print(f"trial {len(plain_runs)} of {args.trials}: {sentence(found)}", flush=True)
        if args.out:
            result = {"format": TRIALS, "engine": args.engine.name, **found, "machine": machine}
            result |= {"busy_before": state.get("busy"), "others": usage.so_far().get("others")}
            with written_beside(args.out) as temporary:
                temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


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
    return max(1, round(share * statistics.median(calls) / statistics.median(works)))


def runs(
    plain: Target,
    slowed: Target,
    trials: int,
    images: Sequence[Images],
    profile: Profile,
    machine: dict[str, Any],
) -> Iterator[tuple[Report, Report]]:
    """Yield the reports of a plain and of a slowed run, for each trial.

    Which of them comes first changes from trial to trial: drift of the machine must not look like a slow-down.
    """
    for trial in range(trials):
        order = (plain, slowed) if trial % 2 == 0 else (slowed, plain)
        reports = {target: measured_alone(target, images, profile, machine) for target in order}
        yield reports[plain], reports[slowed]


def measured_alone(target: Target, images: Sequence[Images], profile: Profile, machine: dict[str, Any]) -> Report:
    """Measure the latency of one engine, and return what `compare` needs of a report. Raises EngineError."""
    from pix2pix_edge.benchmarks.measure.engines import Measured, Run, measure
    from pix2pix_edge.benchmarks.report.rows import row_json

    run = Run([Measured(target.path.name, target)])
    measure(run, profile, images)
    if run.engines[0].error:
        raise EngineError(run.engines[0].error)
    row = row_json(run.engines[0], run, None, shared=machine.get("virtual", False))
    report: Report = {"engines": [row], "machine": machine}
    if run.reference_json:
        report["reference_work"] = run.reference_json
    return report


def counts(plain: Sequence[Report], slowed: Sequence[Report], planted: float) -> dict[str, Any]:
    """Return how the trials so far went. planted: percent.

    varied_percent: standard deviation of the medians of equal runs; None with one of each kind.
    """
    same = [pair for reports in (plain, slowed) for pair in zip(reports[::2], reports[1::2], strict=False)]
    ratios = [_engine(b)["p50_ms"] / _engine(a)["p50_ms"] for a, b in zip(plain, slowed, strict=True)]
    logs = [[math.log(_engine(report)["p50_ms"]) for report in reports] for reports in (plain, slowed)]
    varied = math.sqrt(statistics.fmean(map(statistics.variance, logs))) if len(plain) > 1 else None
    return {
        "planted_percent": planted,
        "planted_measured_percent": round(100 * math.expm1(statistics.median(map(math.log, ratios))), 1),
        "planted": len(plain),
        "planted_found": sum("slower" in _verdicts(a, b) for a, b in zip(plain, slowed, strict=True)),
        "unchanged": len(same),
        "unchanged_reported": sum(bool(_verdicts(a, b)) for a, b in same),
        "repeats_inside": sum(_inside(a, b) for a, b in same),
        "varied_percent": None if varied is None else round(100 * varied, 1),
        "interval_percent": round(statistics.median(_half_width(_engine(report)) for report in (*plain, *slowed)), 2),
    }


def _engine(report: Report) -> dict[str, Any]:
    scope: dict[str, Any] = report["engines"][0]["scopes"]["engine"]
    return scope


def _verdicts(old: Report, new: Report) -> set[str]:
    """Return what `compare` says of any metric: of "slower" and "faster" all, one or none."""
    from pix2pix_edge.benchmarks.compare import compare

    return {change.verdict(TOLERANCE) for change in compare(old, new)} - {""}


def _inside(old: Report, new: Report) -> bool:
    """Tell whether the new run lands in the interval that the old one printed."""
    low, high = _engine(old)["interval_ms"]
    return bool(low <= _engine(new)["p50_ms"] <= high)


def _half_width(scope: dict[str, Any]) -> float:
    low, high = scope["interval_ms"]
    return float(50 * (high - low) / scope["p50_ms"])


def sentence(found: dict[str, Any]) -> str:
    """Return the counts as text."""
    varied = found.get("varied_percent")
    return (
        f"a planted slow-down of {found['planted_percent']:g} % (measured: {found['planted_measured_percent']:g} %)"
        f" found in {found['planted_found']} of {found['planted']};"
        f" a change reported in {found['unchanged_reported']} of {found['unchanged']} where there was none;"
        f" {found['repeats_inside']} of {found['unchanged']} repeated runs inside the interval"
        f" (half of the intervals within ±{found['interval_percent']:.1f} %)"
        + ("" if varied is None else f"; equal runs varied by {varied:g} % (standard deviation)")
    )
