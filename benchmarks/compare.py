"""Compare two reports: what changed beyond the noise. Exit status 1 on a regression.

  python -m benchmarks compare old/report.json new/report.json
  python -m benchmarks compare old new --tolerance 5

A change counts when it is larger than the noise of both reports, and than --tolerance percent. What runs on the CPU is
compared in the rounds in which the machine was as fast in both reports, as the reference work tells, and as a multiple
of the reference work of the same round: a machine that became slower or faster is no change.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.benchmarks.report.schema import Report, Row, load_report, on_gpu
from pix2pix_edge.benchmarks.report.summary import FEWEST_BLOCKS, NORMAL, Floats, repeat_error
from pix2pix_edge.benchmarks.report.tables import Table, number
from pix2pix_edge.runtime.errors import GateFailedError, InputError

FALSE_ALARMS = 0.02
"""Nominal chance that a comparison in which nothing changed reports anything at all.

In simulations of `benchmarks trials` 1 % are (tests/benchmarks/test_compare.py); 0.05 here would make it 3 %, and 0.005
would find 3 of 100 slow-downs of 10 % less.
"""

METRICS = {
    "engine": "latency p50, ms",
    "compute": "compute p50, ms",
    "cpu": "least CPU time, ms",
    "overlap": "time per call, overlapped, ms",
    "stream": "frame age p50, ms",
}
"""Scope -> what is compared of it: the median, but for CPU time the median of each round's 10th percentile.

Waiting for a busy machine is no CPU time, and what remains of the disturbance (cold caches, spinning threads) is left
out with the upper nine tenths. So the least CPU time finds a slower kernel where latency drowns in noise.
"""

PSNR_DB = 0.05
"""Fidelity is repeatable; so much may differ by the order of float additions."""


ALIKE = 0.06
"""Rounds whose reference work took as long within this logarithm met the same state of the machine. On a shared host, a
state in which waking a thread costs more made the reference work 10 % slower, and clocks moved it by 3 % either way."""

FEWEST_ALIKE = 0.25
"""Share of each report's rounds in the same state, with less of which in either all rounds are compared."""

UNLIKE, UNLIKE_STATES = 0.3, 1.2
"""What slows the machine may slow an engine more or less than the reference work: by so much of what it did to that,
among rounds of one state, and between rounds of different states. In the state above, 64 filters took 10 % longer with
OpenVINO, as the reference work did, and 22 % with ONNX Runtime."""

Alike = tuple[NDArray[np.bool_], NDArray[np.bool_], float]

MACHINE_DRIFT = 0.02
"""From here on the reader is told."""


@dataclass(frozen=True)
class Change:
    """One metric of one engine in both reports.

    ratio, noise, machine: logarithms of new / old, of what chance explains, and of what the machine's own speed does
    (None: not known). Of what runs on the CPU, noise includes what the machine may have done to the engine and not to
    the reference work.
    """

    engine: str
    metric: str
    old: float
    new: float
    ratio: float
    noise: float
    machine: float | None = None

    @property
    def own(self) -> float:
        """The engine's part of the ratio: what the machine does not explain."""
        return self.ratio - (self.machine or 0.0)

    def verdict(self, tolerance: float) -> str:
        """Return "slower", "faster", or "" where noise, machine or tolerance (a share, as 0.03) explains the change."""
        if abs(self.own) <= max(self.noise, math.log1p(tolerance)):
            return ""
        return "slower" if self.own > 0 else "faster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD.json", help="the report to compare with, or its folder")
    parser.add_argument("new", type=Path, metavar="NEW.json", help="the report that may have become worse")
    parser.add_argument(
        "--tolerance", type=float, default=3.0, metavar="PERCENT", help="changes up to this never count (default: 3)"
    )


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.benchmarks.report.markdown import markdown_table

    if not 0 <= args.tolerance < 1000:
        raise InputError(f"--tolerance {args.tolerance:g} must be between 0 and 1000 percent")
    old, new = load_report(args.old), load_report(args.new)
    changes, gone = compare(old, new), worse_fidelity(old, new)
    print(markdown_table(comparison_table(changes, args.tolerance / 100)))
    for line in remarks(old, new):
        print(f"- {line}")
    slower = [c for c in changes if c.verdict(args.tolerance / 100) == "slower"]
    regressions = [
        f"{c.engine}: {c.metric} {math.expm1(c.own):+.1%}{' beside the machine' if c.machine else ''}" for c in slower
    ] + gone
    if regressions:
        raise GateFailedError(f"regression: {'; '.join(regressions)}")
    print("no regression")


def compare(old: Report, new: Report) -> list[Change]:
    """Return every metric that both reports have of engines with the same name. Raises InputError without any."""
    pairs = _pairs(old, new)
    both = [(a, b, s) for a, b in pairs if _batch(a) == _batch(b) for s in METRICS if _known(a, s) and _known(b, s)]
    if not both:
        raise InputError("the reports have no measured engine in common; compare reports of the same engine files")
    level = NormalDist().inv_cdf(1 - FALSE_ALARMS / len(both) / 2) / NORMAL
    works = yardsticks(old, new)
    alike = rounds_alike(*(np.log(work["medians_ms"]) for work in works)) if works else None
    # a GPU is not slower because the CPU is
    return [_change(a, b, scope, level, works, None if on_gpu(b) else alike) for a, b, scope in both]


def _change(
    old: Row, new: Row, scope: str, level: float, works: Sequence[dict[str, Any]], alike: Alike | None
) -> Change:
    """Compare one scope of an engine. level: noise that counts, as a multiple of noise_of(). alike: of the works."""
    (before, rounds), (after, other_rounds) = (_evidence(row["scopes"][scope], scope) for row in (old, new))
    own = [np.log(rounds), np.log(other_rounds)]
    ratio, machine, allowed = math.log(after / before), None, 0.0
    if alike:
        *kept, unlike = alike
        same = [_evidence(work["cpu"], "cpu") if scope == "cpu" else _evidence(work, "") for work in works]
        if all(len(work[1]) == len(logs) for work, logs in zip(same, own, strict=True)):
            own = [logs[chosen] for logs, chosen in zip(own, kept, strict=True)]
            pace = [np.log(work[1])[chosen] for work, chosen in zip(same, kept, strict=True)]
            allowed = unlike * abs(float(np.median(pace[1]) - np.median(pace[0])))
            own = [logs - paces for logs, paces in zip(own, pace, strict=True)]
            machine = ratio - float(np.median(own[1]) - np.median(own[0]))
        else:  # an engine that was measured only in part
            machine = math.log(same[1][0] / same[0][0])
            allowed = UNLIKE_STATES * abs(machine)
    noise = noise_of(own[0], own[1]) * level + allowed
    return Change(new["name"], METRICS[scope], before, after, ratio, noise, machine)


def rounds_alike(old: Floats, new: Floats) -> Alike:
    """Return which rounds of each report met the fastest state that both did, and how unlike engines may be in them.

    old, new: float [rounds], logarithms of what the reference work took. All rounds where too few are alike.
    """
    level = max(np.quantile(old, 0.1), np.quantile(new, 0.1))
    kept = abs(old - level) <= ALIKE, abs(new - level) <= ALIKE
    if all(k.mean() >= FEWEST_ALIKE and k.sum() >= FEWEST_BLOCKS for k in kept):
        return *kept, UNLIKE
    same = abs(np.median(old) - np.median(new)) <= ALIKE  # each as restless as the other
    return np.ones_like(kept[0]), np.ones_like(kept[1]), UNLIKE if same else UNLIKE_STATES


def _pairs(old: Report, new: Report) -> list[tuple[Row, Row]]:
    """Return the rows of every engine that both reports have, in the new one's order."""
    olds = {row["name"]: row for row in old["engines"]}
    return [(olds[row["name"]], row) for row in new["engines"] if row["name"] in olds]


def _batch(row: Row) -> int:
    return int(row.get("batch", 1))


def _known(row: Row, scope: str) -> bool:
    """Tell whether a scope was measured, and not as nothing: a coarse clock gives no CPU time to small work."""
    return scope in row["scopes"] and min(_evidence(row["scopes"][scope], scope)[1], default=0) > 0


def _evidence(scope: dict[str, Any], name: str) -> tuple[float, list[float]]:
    """Return the value that is compared, and its rounds."""
    if name == "cpu":
        return float(np.median(scope["lows_ms"])), scope["lows_ms"]
    return scope["p50_ms"], scope["medians_ms"]


def yardsticks(old: Report, new: Report) -> list[dict[str, Any]]:
    """Return the reference work of both reports, or nothing where one has none, or another one."""
    works = [work for report in (old, new) if (work := report.get("reference_work"))]
    return works if len(works) == 2 and works[0]["what"] == works[1]["what"] else []


def noise_of(old: Floats, new: Floats) -> float:
    """Return how far apart CONFIDENCE of two equal runs with these logarithms lie; infinite with few rounds."""
    errors = [repeat_error(rounds) for rounds in (old, new)]
    if errors[0] is None or errors[1] is None:
        return math.inf
    # each is the error of a run and of its repetition: together they count both runs twice
    return math.hypot(errors[0], errors[1]) / math.sqrt(2)


def machine_drift(old: Report, new: Report) -> float | None:
    """Return the logarithm of how much longer the reference work took in the new report; None where it is not known."""
    works = yardsticks(old, new)
    return math.log(works[1]["p50_ms"] / works[0]["p50_ms"]) if works else None


def worse_fidelity(old: Report, new: Report) -> list[str]:
    """Return a line for each engine whose pictures are further from the same reference, on the same images."""
    return [
        f"{name}: PSNR {before['psnr_db']:.1f} to {after['psnr_db']:.1f} dB"
        for name, before, after in _judged(old, new)
        if _judged_alike(old, new, before, after) and before["psnr_db"] - after["psnr_db"] > PSNR_DB
    ]


def _judged(old: Report, new: Report) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return name and fidelity of every engine that both reports judged."""
    pairs = ((b["name"], a.get("fidelity"), b.get("fidelity")) for a, b in _pairs(old, new))
    return [(name, before, after) for name, before, after in pairs if before and after]


def _judged_alike(old: Report, new: Report, before: dict[str, Any], after: dict[str, Any]) -> bool:
    same = all(old.get(key) == new.get(key) for key in ("images", "images_sha256"))
    return same and before["reference"] == after["reference"]


def remarks(old: Report, new: Report) -> list[str]:
    """Return what a reader of the comparison must know: other machines, other states, engines without a partner."""
    found = [
        f"{b['name']} is not compared, because a call has {_batch(a)} and {_batch(b)} images"
        for a, b in _pairs(old, new)
        if _batch(a) != _batch(b)
    ]
    for key in ("cpu", "gpu", "board", "power_mode", "tensorrt"):
        a, b = old["machine"].get(key), new["machine"].get(key)
        if a != b:
            found.append(
                f"the reports are of different machines: {key.replace('_', ' ')} {a or 'none'} and {b or 'none'}"
            )
    drift = machine_drift(old, new)
    if drift is None and not all(map(on_gpu, new["engines"])):
        found.append(
            "the reports have no reference work in common: a slower machine cannot be told from slower engines; measure"
            " both with this version, and with the package onnx installed"
        )
    elif drift is not None and abs(drift) > MACHINE_DRIFT:
        word = "longer" if drift > 0 else "less"
        found.append(f"the machine itself took {abs(math.expm1(drift)):.1%} {word} for the same work in the new report")
    unlike = [name for name, before, after in _judged(old, new) if not _judged_alike(old, new, before, after)]
    if unlike:
        found.append(f"fidelity is not compared, because images or reference are others: {', '.join(unlike)}")
    for one, other, which in ((old, new, "new"), (new, old, "old")):
        missing = _names(one["engines"]) - _names(other["engines"])
        found += [f"{name} has not been measured in the {which} report" for name in sorted(missing)]
    return found


def _names(rows: Sequence[Row]) -> set[str]:
    return {row["name"] for row in rows if row["scopes"]}


def comparison_table(changes: Sequence[Change], tolerance: float) -> Table:
    """Return the changes as a table."""
    rows = [
        [
            change.engine,
            change.metric,
            number(change.old),
            number(change.new),
            f"{math.expm1(change.ratio):+.1%}",
            f"±{math.expm1(change.noise):.1%}" if math.isfinite(change.noise) else "not known",
            "–" if change.machine is None else f"{math.expm1(change.machine):+.1%}",
            change.verdict(tolerance) or "–",
        ]
        for change in changes
    ]
    return Table("Comparison", ["engine", "metric", "old", "new", "change", "noise", "machine", "verdict"], rows, [])
