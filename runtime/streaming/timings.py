"""What a stream measured: frames, rate, and percentiles of each stage and of the frames' age."""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.frame import STAGES, Frame, Histogram, Recent

WINDOW = 65536
"""Frames remembered, so that a stream that runs for weeks needs no more memory than one that runs for an hour."""

RECENT = 8192
"""Of these, at most so many are looked at for what happened in the last seconds: it is asked again and again."""

BEYOND = 5
"""Samples that must lie beyond a percentile before it is reported: 10 frames for p50, 100 for p95, 500 for p99."""

AGE = "age"
"""From capture to delivery: the end of the first sink's write, or the moment the caller gets the frame."""

BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Of the histogram of ages: from what a GPU needs to what nobody would call live."""

COLUMNS = (*STAGES, AGE, "delivered_at")


def samples_needed(percent: float) -> int:
    """Return how many samples a percentile needs: BEYOND of them on its far side."""
    return round(BEYOND / (1 - percent / 100))


def percentile_ms(nanoseconds: NDArray[np.int64], percent: float) -> float | None:
    """Return a percentile of int64 [n] in milliseconds, or None where too few samples support it."""
    if len(nanoseconds) < samples_needed(percent):
        return None
    return float(np.percentile(nanoseconds, percent)) / 1e6


class Ring:
    """The newest WINDOW rows of whole numbers."""

    def __init__(self, columns: int) -> None:
        self._table = np.zeros((WINDOW, columns), np.int64)
        self.count = 0

    def add(self, row: Sequence[int]) -> None:
        self._table[self.count % len(self._table)] = row
        self.count += 1

    def rows(self, newest: int = WINDOW) -> NDArray[np.int64]:
        """Return a copy of the newest rows, int64 [n, columns], oldest first."""
        size = len(self._table)
        n = min(newest, self.count, size)
        return self._table[np.arange(self.count - n, self.count) % size]


class Timings:
    """Counts delivered frames and keeps their stage timings and ages. Usable from any thread."""

    def __init__(self) -> None:
        self.frames = 0
        self._first = self._last = 0
        self._rows = Ring(len(COLUMNS))
        self._sinks: dict[str, Ring] = {}
        self._ages, self._ages_ns = [0] * (len(BOUNDS_S) + 1), 0
        self._lock = threading.Lock()

    def add(self, frame: Frame) -> None:
        """Take a frame at the moment it has been delivered."""
        with self._lock:
            self._last = frame.delivered_at or time.monotonic_ns()
            if not self.frames:
                self._first = self._last
            stages = [frame.timings.get(stage, 0) for stage in STAGES]
            self._rows.add([*stages, self._last - frame.captured_at, self._last])
            self._ages[bisect_left(BOUNDS_S, (self._last - frame.captured_at) / 1e9)] += 1
            self._ages_ns += self._last - frame.captured_at
            self.frames += 1

    def wrote(self, sink: str, ns: int) -> None:
        """Take how long a sink needed for a frame."""
        with self._lock:
            self._sinks.setdefault(sink, Ring(1)).add([ns])

    def ages(self) -> Histogram:
        """Return the ages of all frames since the first, for those who add them up over many boards."""
        with self._lock:
            below = list(itertools.accumulate(self._ages))
            return Histogram(dict(zip(BOUNDS_S, below, strict=False)), below[-1], self._ages_ns / 1e9)

    @property
    def fps(self) -> float | None:
        """Frames per second between the first and the last delivery: n frames make n - 1 intervals."""
        span = self._last - self._first
        return (self.frames - 1) * 1e9 / span if span > 0 else None

    def column(self, name: str) -> NDArray[np.int64]:
        """Return one of COLUMNS for the newest WINDOW frames, int64 [n], nanoseconds, oldest first."""
        with self._lock:
            return self._rows.rows()[:, COLUMNS.index(name)]

    def recent(self, seconds: float = 10.0) -> Recent:
        """Return the rate and the ages of the frames that were delivered in the last `seconds`."""
        with self._lock:
            rows = self._rows.rows(RECENT)
        delivered = rows[:, COLUMNS.index("delivered_at")]
        rows = rows[np.searchsorted(delivered, time.monotonic_ns() - round(seconds * 1e9)) :]
        span = int(rows[-1, -1] - rows[0, -1]) if len(rows) else 0
        ages = rows[:, COLUMNS.index(AGE)]
        fps = (len(rows) - 1) * 1e9 / span if span > 0 else None
        return Recent(len(rows), fps, *(percentile_ms(ages, percent) for percent in (50, 95, 99)))

    def table(self) -> str:
        """Return p50, p95 and p99 of each stage and of the age as text; what too few frames support is left out."""
        percents = [p for p in (50, 95, 99) if min(self.frames, WINDOW) >= samples_needed(p)]
        lines = []
        if percents:
            with self._lock:
                rows = self._rows.rows()
                writes = {name: ring.rows()[:, 0] for name, ring in self._sinks.items()}
            measured = {name: rows[:, COLUMNS.index(name)] for name in (*STAGES, AGE)}
            if len(writes) > 1:  # one line each, so that the slow one is seen
                age = measured.pop(AGE)
                del measured["deliver"]
                measured |= {f"deliver {name}": values for name, values in writes.items()} | {AGE: age}
            width = max(map(len, measured)) + 1
            lines.append("stage".ljust(width) + "".join(f"{f'p{p}':>12}" for p in percents))
            for name, values in measured.items():
                cells = "".join(f"{np.percentile(values, p) / 1e6 if len(values) else 0:9.2f} ms" for p in percents)
                lines.append(name.ljust(width) + cells)
        lacking = [f"p{p} needs {samples_needed(p)}" for p in (50, 95, 99) if p not in percents]
        if lacking:
            lines.append(f"({', '.join(lacking)} frames)")
        return "\n".join(lines)
