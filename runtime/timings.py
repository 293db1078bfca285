"""What a stream measured: frames, rate, and percentiles of each stage over the newest frames."""

from __future__ import annotations

import time

import numpy as np

from runtime.frame import STAGES, Frame

WINDOW = 65536
"""Frames remembered, so that a stream that runs for weeks needs no more memory than one that runs for an hour."""

BEYOND = 5
"""Samples that must lie beyond a percentile before it is reported: 10 frames for p50, 100 for p95, 500 for p99."""


def samples_needed(percent: float) -> int:
    """Return how many samples a percentile needs: BEYOND of them on its far side."""
    return round(BEYOND / (1 - percent / 100))


class Timings:
    """Counts delivered frames and keeps their stage timings."""

    def __init__(self) -> None:
        self.frames = 0
        self._first = self._last = 0
        self._table = np.zeros((WINDOW, len(STAGES)), np.int64)

    def add(self, frame: Frame) -> None:
        """Take a frame at the moment it has been delivered."""
        self._last = time.monotonic_ns()
        if not self.frames:
            self._first = self._last
        self._table[self.frames % WINDOW] = [frame.timings.get(stage, 0) for stage in STAGES]
        self.frames += 1

    @property
    def fps(self) -> float | None:
        """Frames per second between the first and the last delivery: n frames make n - 1 intervals."""
        span = self._last - self._first
        return (self.frames - 1) * 1e9 / span if span > 0 else None

    def percentile_ms(self, stage: str, percent: float) -> float | None:
        """Return a percentile of a stage in milliseconds, or None where too few frames support it."""
        kept = min(self.frames, WINDOW)
        if kept < samples_needed(percent):
            return None
        return float(np.percentile(self._table[:kept, STAGES.index(stage)], percent)) / 1e6

    def table(self) -> str:
        """Return p50, p95 and p99 of each stage as text; what too few frames support is left out, and said."""
        percents = [p for p in (50, 95, 99) if min(self.frames, WINDOW) >= samples_needed(p)]
        lines = []
        if percents:
            lines.append("stage     " + "".join(f"{f'p{p}':>12}" for p in percents))
            for stage in STAGES:
                cells = "".join(f"{self.percentile_ms(stage, p) or 0:9.2f} ms" for p in percents)
                lines.append(f"{stage:<10}{cells}")
        lacking = [f"p{p} needs {samples_needed(p)}" for p in (50, 95, 99) if p not in percents]
        if lacking:
            lines.append(f"({', '.join(lacking)} frames)")
        return "\n".join(lines)
