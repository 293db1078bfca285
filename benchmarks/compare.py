"""Compare two reports: what changed beyond the noise. Exit status 1 on a regression.

  python -m benchmarks compare old/report.json new/report.json
  python -m benchmarks compare old new --tolerance 5

A change counts when it is larger than the noise of both reports, and than --tolerance percent. What runs on the CPU is
compared as a multiple of the reference work of the same round, so that a machine that became slower or faster is no
change. A change that is no larger than the machine's own is called unclear: engines may mind the machine more or less
than the reference work does, and no report can tell by how much.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from pix2pix_edge.benchmarks.report.reader import load_report
from pix2pix_edge.benchmarks.report.schema import Fidelity, ReferenceWork, Report, Row, Scope
from pix2pix_edge.benchmarks.report.summary import NORMAL, Floats, repeat_error
from pix2pix_edge.benchmarks.report.table import Table, bullets, markdown_table, number
from pix2pix_edge.runtime.errors import GateFailedError, InputError

FALSE_ALARMS = 0.02
"""Nominal chance that a comparison in which nothing changed reports anything at all."""

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

Pair = tuple[Row, Row]
Works = tuple[ReferenceWork, ReferenceWork]


@dataclass(frozen=True)
class Change:
    """One metric of one engine in both reports.

    ratio, noise, machine: logarithms of new / old, of what chance explains, and of what the reference work changed by
    (None: not known, or no CPU engine).
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
        """The engine's part of the ratio: what the reference work does not explain."""
        return self.ratio - (self.machine or 0.0)

    def verdict(self, tolerance: float) -> str:
        """Return "slower", "faster", "unclear", or "" where noise or tolerance (a share, as 0.03) explains the change.

        Unclear is a change that noise and the machine's change explain together: an engine may mind that not at all, or
        twice as much as the reference work does.
        """
        if abs(self.own) <= max(self.noise, math.log1p(tolerance)):
            return ""
        if abs(self.own) <= math.hypot(self.noise, self.machine or 0.0):
            return "unclear"
        return "slower" if self.own > 0 else "faster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD.json", help="the report to compare with, or its folder")
    parser.add_argument("new", type=Path, metavar="NEW.json", help="the report that may have become worse")
    parser.add_argument(
        "--tolerance", type=float, default=3.0, metavar="PERCENT", help="changes up to this never count (default: 3)"
    )


def run(args: argparse.Namespace) -> None:
    if not 0 <= args.tolerance < 1000:
        raise InputError(f"--tolerance {args.tolerance:g} must be between 0 and 1000 percent")
    old, new = load_report(args.old), load_report(args.new)
    if old == new:
        raise InputError(f"{args.old} and {args.new} are the same report, which is no comparison; measure again")
    changes, gone = compare(old, new), worse_fidelity(old, new)
    tolerance = args.tolerance / 100
    print(markdown_table(comparison_table(changes, tolerance)))
    if found := remarks(old, new):
        print(bullets(found))
    slower = [c for c in changes if c.verdict(tolerance) == "slower"]
    regressions = [
        f"{c.engine}: {c.metric} {math.expm1(c.own):+.1%}{' beside the machine' if c.machine else ''}" for c in slower
    ] + gone
    if regressions:
        raise GateFailedError(f"regression: {'; '.join(regressions)}")
    unclear = sorted({c.engine for c in changes if c.verdict(tolerance) == "unclear"})
    print(f"no regression{', but unclear: ' + ', '.join(unclear) if unclear else ''}")


def compare(old: Report, new: Report) -> list[Change]:
    """Return every metric that both reports have of engines with the same name. Raises InputError without any."""
    both = [
        (a, b, scope)
        for a, b in _pairs(old, new)
        for scope in METRICS
        if a.batch == b.batch and _known(a, scope) and _known(b, scope)
    ]
    if not both:
        raise InputError("the reports have no measured engine in common; compare reports of the same engine files")
    level = NormalDist().inv_cdf(1 - FALSE_ALARMS / len(both) / 2) / NORMAL
    works = yardsticks(old, new)
    # a GPU is not slower because the CPU is
    return [_change(a, b, scope, level, None if b.on_gpu else works) for a, b, scope in both]


def _change(old: Row, new: Row, scope: str, level: float, works: Works | None) -> Change:
    """Compare one scope of an engine. level: noise that counts, as a multiple of noise_of()."""
    ours = [_evidence(row.scopes[scope], scope) for row in (old, new)]
    ratio, machine = math.log(ours[1][0] / ours[0][0]), None
    own = [np.log(rounds) for _, rounds in ours]
    if works:
        same = [_evidence(work.cpu if scope == "cpu" else work, scope) for work in works]
        # an engine that was measured only in part shares the first rounds
        shared = [min(len(rounds), len(logs)) for (_, rounds), logs in zip(same, own, strict=True)]
        own = [
            logs[:count] - np.log(rounds[:count]) for (_, rounds), logs, count in zip(same, own, shared, strict=True)
        ]
        machine = ratio - float(np.median(own[1]) - np.median(own[0]))
    return Change(new.name, METRICS[scope], ours[0][0], ours[1][0], ratio, noise_of(own[0], own[1]) * level, machine)


def _pairs(old: Report, new: Report) -> list[Pair]:
    """Return the rows of every engine that both reports have, in the new one's order."""
    olds = {row.name: row for row in old.engines}
    return [(olds[row.name], row) for row in new.engines if row.name in olds]


def _known(row: Row, scope: str) -> bool:
    """Tell whether a scope was measured, and not as nothing: a coarse clock gives no CPU time to small work."""
    if scope not in row.scopes:
        return False
    value, rounds = _evidence(row.scopes[scope], scope)
    return min(value, *rounds) > 0


def _evidence(scope: Scope, name: str) -> tuple[float, list[float]]:
    """Return the value that is compared, and its rounds."""
    if name == "cpu":
        return float(np.median(scope.lows_ms)), scope.lows_ms
    return scope.p50_ms, scope.medians_ms


def yardsticks(old: Report, new: Report) -> Works | None:
    """Return the reference work of both reports, or None where one has none, or another one."""
    a, b = old.reference_work, new.reference_work
    if not a or not b or a.what != b.what:
        return None
    rounds = [*a.medians_ms, *b.medians_ms, *a.cpu.lows_ms, *b.cpu.lows_ms, a.p50_ms, b.p50_ms]
    return (a, b) if min(rounds) > 0 else None


def noise_of(old: Floats, new: Floats) -> float:
    """Return how far apart CONFIDENCE of two equal runs with these logarithms lie; infinite with few rounds."""
    errors = [repeat_error(rounds) for rounds in (old, new)]
    if errors[0] is None or errors[1] is None:
        return math.inf
    # each is the error of a run and of its repetition: together they count both runs twice
    return math.hypot(errors[0], errors[1]) / math.sqrt(2)


def worse_fidelity(old: Report, new: Report) -> list[str]:
    """Return a line for each engine whose pictures are further from the same reference, on the same images."""
    return [
        f"{name}: PSNR {before.psnr_db:.1f} to {after.psnr_db:.1f} dB"
        for name, before, after in _fidelities(old, new)
        if _comparable(old, new, before, after) and before.psnr_db - after.psnr_db > PSNR_DB
    ]


def _fidelities(old: Report, new: Report) -> list[tuple[str, Fidelity, Fidelity]]:
    """Return name and fidelity of every engine of which both reports have one."""
    return [(b.name, a.fidelity, b.fidelity) for a, b in _pairs(old, new) if a.fidelity and b.fidelity]


def _comparable(old: Report, new: Report, before: Fidelity, after: Fidelity) -> bool:
    same = old.images == new.images and old.images_sha256 == new.images_sha256
    return same and before.reference == after.reference and before.from_sidecar == after.from_sidecar


def remarks(old: Report, new: Report) -> list[str]:
    """Return what a reader of the comparison must know: other machines, other states, engines without a partner."""
    found = [
        f"{b.name} is not compared, because a call has {a.batch} and {b.batch} images"
        for a, b in _pairs(old, new)
        if a.batch != b.batch
    ]
    for key in ("cpu", "gpu", "board", "power_mode", "tensorrt"):
        was, now = getattr(old.machine, key), getattr(new.machine, key)
        if was != now:
            found.append(
                f"the reports are of different machines: {key.replace('_', ' ')} {was or 'none'} and {now or 'none'}"
            )
    found += _machine_remark(old, new)
    unlike = [name for name, before, after in _fidelities(old, new) if not _comparable(old, new, before, after)]
    if unlike:
        found.append(f"fidelity is not compared, because images or reference are others: {', '.join(unlike)}")
    for one, other, which in ((old, new, "new"), (new, old, "old")):
        missing = _names(one.engines) - _names(other.engines)
        found += [f"{name} has not been measured in the {which} report" for name in sorted(missing)]
    return found


def _machine_remark(old: Report, new: Report) -> list[str]:
    works = yardsticks(old, new)
    if not works:
        if all(row.on_gpu for row in new.engines):
            return []
        return [
            "the reports have no reference work in common: a slower machine cannot be told from slower engines; measure"
            " both with this version, and with the package onnx installed"
        ]
    drift = math.log(works[1].p50_ms / works[0].p50_ms)
    if abs(drift) <= noise_of(np.log(works[0].medians_ms), np.log(works[1].medians_ms)):
        return []
    word = "longer" if drift > 0 else "less"
    return [
        f"the machine itself took {abs(math.expm1(drift)):.1%} {word} for the same work in the new report; engines may"
        " mind that more or less than the work did, so that a smaller change is unclear: measure both again, in turn"
    ]


def _names(rows: Sequence[Row]) -> set[str]:
    return {row.name for row in rows if row.scopes}


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
    return Table("Comparison", ["engine", "metric", "old", "new", "change", "noise", "machine", "verdict"], rows)
