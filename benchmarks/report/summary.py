"""From samples to numbers: percentiles, rates, and the interval in which a repeated run will land.

The interval. Calls within a run are not independent: a shared machine has slow minutes, and every launch of a process
gets its own memory layout. The usual standard error counts each call as new evidence and is far too small. Here the
evidence is the rounds' medians, in order of time, joined into ever larger blocks (1, 2, 4 … rounds) while FEWEST_BLOCKS
remain. Each size of block gives a standard error of the whole. Without drift all are alike; with drift they grow with
the block (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461, 1989), as a power of its size that is known for many kinds of
drift (the aggregated variance method: Beran, Statistics for Long-Memory Processes, 1994). The growth is continued from
the block to the run, and the widest interval of all sizes taken. Rounds of one launch are neighbours, so that
differences between launches count too (Kalibera and Jones, ISMM 2013). An interval for a repeated run is wider by the
square root of 2 than one for the mean, because the repeated run has an error of its own.

The median of a run hardly minds a burst of some other program, and its error must not either: the lowest and highest
fifth of the rounds are drawn in to their neighbours (winsorised), and the error is that of a trimmed mean (Tukey and
McLaughlin, Sankhya A 25, 331, 1963).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.benchmarks.report.schema import QUANTILES, Ratio, Scope
from pix2pix_edge.benchmarks.report.table import rounded

PERCENTILES = (50, 90, 95, 99)
BEYOND = 10
"""Calls that must lie beyond a percentile before it is reported: 100 calls for p90, 1000 for p99."""

LOW = 10
"""Percentile of a round that other programs hardly touch; what `compare` looks at for CPU time."""

CONFIDENCE = 0.95
NORMAL = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""So many standard deviations hold CONFIDENCE on both sides of the mean of a normal distribution."""

BOUNDED, BOUND_CONFIDENCE = 90, 0.99
"""The percentile that early stopping bounds, and how surely (MLPerf Inference's LoadGen, single stream)."""

FEWEST_BLOCKS = 5
TRIMMED = 0.2

Floats = NDArray[np.float64]


def samples_needed(percent: float) -> int:
    """Return how many calls a percentile needs, so that BEYOND of them lie beyond it."""
    return math.ceil(round(BEYOND / (1 - percent / 100), 6))


def scope_of(rounds: Sequence[Nanoseconds]) -> Scope:
    """Return a scope: what its calls took, with as many digits as a report keeps. Raises ValueError without a call.

    Percentiles are those that the calls support, as numpy.percentile gives them. The median is always given: of few
    calls it is poor, and its interval says so.
    """
    values = np.concatenate(list(rounds)) / 1e6 if rounds else np.empty(0)
    if not values.size:
        raise ValueError("there is no call to summarise")
    medians = np.array([np.median(r) for r in rounds if r.size]) / 1e6
    spread = repeat_error(np.log(medians)) if medians.min() > 0 else None
    median = float(np.percentile(values, 50))
    given = {p: rounded(float(np.percentile(values, p))) for p in PERCENTILES if values.size >= samples_needed(p)}
    factor = math.exp(spread or 0.0)
    return Scope(
        n=values.size,
        min_ms=rounded(float(values.min())),
        mean_ms=rounded(float(values.mean())),
        max_ms=rounded(float(values.max())),
        p50_ms=rounded(median),
        p90_ms=given.get(90),
        p95_ms=given.get(95),
        p99_ms=given.get(99),
        variation=rounded(float(values.std() / values.mean())) if values.mean() else 0.0,
        left_out={f"p{p}": samples_needed(p) for p in PERCENTILES[1:] if p not in given},
        interval_ms=None if spread is None else (rounded(median / factor), rounded(median * factor)),
        medians_ms=[rounded(m) for m in medians.tolist()],
        lows_ms=[rounded(float(np.percentile(r, LOW)) / 1e6) for r in rounds if r.size],
        quantiles_ms=[rounded(q) for q in np.percentile(values, np.linspace(0, 100, QUANTILES + 1)).tolist()],
    )


def paired_ratio(ours: Sequence[Nanoseconds], base: Sequence[Nanoseconds], to: str = "") -> Ratio | None:
    """Return the time of `ours` as a multiple of `base`, from rounds in which both ran; None with too few rounds.

    A repetition lies within its bounds with CONFIDENCE. Drift of the machine cancels within a round, so that the
    interval is much narrower than those of the two times.
    """
    pairs = [(np.median(a), np.median(b)) for a, b in zip(ours, base, strict=False) if a.size and b.size]
    if not pairs:
        return None
    logs = np.log(np.array([a / b for a, b in pairs]))
    spread = repeat_error(logs)
    centre = float(np.median(logs))
    if spread is None:
        return None
    value, low, high = (rounded(math.exp(log)) for log in (centre, centre - spread, centre + spread))
    return Ratio(to=to, value=value, low=low, high=high)


def repeat_error(series: Floats) -> float | None:
    """Return half the width of the interval in which the middle of a repetition of `series` lies with CONFIDENCE.

    series: float [rounds] in order of time. None with fewer than FEWEST_BLOCKS. The method is the module's.
    """
    if len(series) < FEWEST_BLOCKS:
        return None
    series = np.clip(series, *np.quantile(series, [TRIMMED, 1 - TRIMMED]))
    widths, single, size = [], 0.0, 1
    while (blocks := len(series) // size) >= FEWEST_BLOCKS:
        means = series[len(series) - blocks * size :].reshape(blocks, size).mean(axis=1)
        error = float(means.std(ddof=1)) / math.sqrt(blocks)
        if size == 1:
            single = error
        drift = math.log(error / single) / math.log(size) if size > 1 and error > single > 0 else 0.0
        widths.append(student_t(blocks - 1) * math.sqrt(2) * error * blocks ** min(drift, 0.5))
        size *= 2
    widest: float = max(widths)
    return widest / (1 - 2 * TRIMMED)


def student_t(freedom: int) -> float:
    """Two-sided CONFIDENCE quantile of Student's t, within 0.2 % (Abramowitz and Stegun 26.7.5), freedom >= 3."""
    z = NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    series: float = sum(term / freedom**power for power, term in enumerate(terms, 1))
    return z + series


def rate(stamps: Nanoseconds) -> float:
    """Return events per second from their times: n events make n - 1 intervals. Raises ValueError for fewer than 2."""
    if len(stamps) < 2:
        raise ValueError("a rate needs two events")
    return (len(stamps) - 1) * 1e9 / float(stamps[-1] - stamps[0])


def early_stopping_estimate(values: Floats) -> float | None:
    """Return what the 90th percentile of the whole population does not exceed, with 99 % confidence.

    The order statistic that LoadGen's early stopping takes for one query after another: as many of the slowest calls
    are dropped as the binomial distribution allows. None where even the slowest call is no bound.
    """
    ordered, n = np.sort(np.asarray(values, float)), len(values)
    slow = 1 - BOUNDED / 100
    # Probability of at most t calls in n beyond the percentile, summed in logarithms: n may be a million.
    total, allowed = 0.0, -1
    for t in range(n):
        log_term = math.lgamma(n + 1) - math.lgamma(t + 1) - math.lgamma(n - t + 1)
        total += math.exp(log_term + t * math.log(slow) + (n - t) * math.log1p(-slow))
        if total > 1 - BOUND_CONFIDENCE:
            break
        allowed = t
    return None if allowed < 0 else float(ordered[n - 1 - allowed])
