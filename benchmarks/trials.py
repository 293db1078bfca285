"""Put the benchmark itself to the test on this machine: are its intervals honest, and does compare find what is there?

  python -m benchmarks trials --engine out/facades.int8.cpu.onnx --data photos
  python -m benchmarks trials --engine out/facades.int8.cpu.onnx --data photos --planted 5 --out trials.json

Each trial measures the engine twice, as two runs of `benchmarks run` would: as it is, and with every call lengthened
by --planted percent. Counted is how often a run lands in the interval that the run before it printed, how often
`compare` finds the planted slow-down, and how often it reports one where there is none.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import InputError

if TYPE_CHECKING:
    from benchmarks.measure import Profile
    from benchmarks.schema import Report
    from benchmarks.worker import Target
    from runtime.engine import Images

FORMAT = "pix2pix-edge-trials/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", type=Path, required=True, metavar="FILE", help="an .onnx or .plan file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images to measure with")
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="pairs of runs (default: 20)")
    parser.add_argument("--planted", type=float, default=10.0, metavar="PERCENT", help="slow-down (default: 10)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the counts")


def run(args: argparse.Namespace) -> None:
    from benchmarks.machine import describe_machine, machine_state
    from benchmarks.measure import PROFILES, Measured, image_size
    from benchmarks.worker import Target
    from export.images import evenly, image_files, read_images
    from runtime.files import written_beside

    if args.trials < 2 or not 0 < args.planted <= 1000:
        raise InputError("--trials must be 2 or more, and --planted more than 0 and at most 1000 percent")
    files = evenly(image_files(args.data), 16)
    target = Target(args.engine)
    images = read_images(files, image_size([Measured(args.engine.name, target)]))
    state = machine_state()
    plain, slowed = [], []
    for honest, planted in runs(target, args.planted / 100, args.trials, images, PROFILES["quick"]):
        plain.append(honest)
        slowed.append(planted)
        print(f"trial {len(plain)} of {args.trials}: {sentence(counts(plain, slowed, args.planted))}", flush=True)
    if args.out:
        result = {"format": FORMAT, "engine": args.engine.name, **counts(plain, slowed, args.planted)}
        machine = {"machine": describe_machine(), "busy_before": state.get("busy")}
        with written_beside(args.out) as temporary:
            temporary.write_text(json.dumps(result | machine, indent=1, ensure_ascii=False) + "\n")


def runs(
    target: Target, planted: float, trials: int, images: Sequence[Images], profile: Profile
) -> Iterator[tuple[Report, Report]]:
    """Yield the reports of a plain and of a slowed run, for each trial. planted: share, as 0.1."""
    from dataclasses import replace

    for _ in range(trials):
        yield (
            measured_alone(target, images, profile),
            measured_alone(replace(target, slow_down=planted), images, profile),
        )


def measured_alone(target: Target, images: Sequence[Images], profile: Profile) -> Report:
    """Measure the latency of one engine, and return what `compare` needs of a report. Raises EngineError."""
    from dataclasses import replace

    from benchmarks.measure import Measured, Run, measure
    from benchmarks.rows import row_json
    from runtime.errors import EngineError

    run = Run([Measured(target.path.name, target)])
    measure(run, replace(profile, kinds=("latency",)), images)
    if run.engines[0].error:
        raise EngineError(run.engines[0].error)
    report: Report = {"engines": [row_json(run.engines[0], run, None)], "machine": {}}
    if run.reference_json:
        report["reference_work"] = run.reference_json
    return report


def counts(plain: Sequence[Report], slowed: Sequence[Report], planted: float) -> dict[str, Any]:
    """Return how the trials so far went. planted: percent."""
    from benchmarks.compare import compare

    def reported(old: Report, new: Report) -> bool:
        return any(change.verdict(0.03) for change in compare(old, new))

    scopes = [report["engines"][0]["scopes"]["engine"] for report in plain]
    pairs = list(itertools.pairwise(scopes))
    return {
        "planted_percent": planted,
        "repeats": len(pairs),
        "repeats_inside": sum(a["interval_ms"][0] <= b["p50_ms"] <= a["interval_ms"][1] for a, b in pairs),
        "interval_percent": sorted(_half_width(scope) for scope in scopes)[len(scopes) // 2],
        "planted": len(plain),
        "planted_found": sum(reported(a, b) for a, b in zip(plain, slowed, strict=True)),
        "unchanged": len(pairs),
        "unchanged_reported": sum(reported(a, b) for a, b in itertools.pairwise(plain)),
    }


def _half_width(scope: dict[str, Any]) -> float:
    low, high = scope["interval_ms"]
    return round(50 * (high - low) / scope["p50_ms"], 2)


def sentence(found: dict[str, Any]) -> str:
    """Return the counts as text."""
    return (
        f"{found['repeats_inside']} of {found['repeats']} repeated runs inside the interval"
        f" (half of them within ±{found['interval_percent']:.1f} %); a planted slow-down of"
        f" {found['planted_percent']:g} % found in {found['planted_found']} of {found['planted']};"
        f" a change reported in {found['unchanged_reported']} of {found['unchanged']} where there was none"
    )
