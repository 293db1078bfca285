"""The report's plots as inline SVG, drawn narrow enough to be read on a phone; colours come from the page's CSS.

Every engine keeps its colour, class s0 to s11, in all plots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pix2pix_edge.benchmarks.report.schema import Report, Row
from pix2pix_edge.benchmarks.report.table import escaped, number
from pix2pix_edge.runtime.frame import STAGES

WIDTH = 480
LEFT, RIGHT, TOP, BOTTOM = 44, 16, 12, 34
EDGE = 8
"""Where a plot begins whose rows are named inside it; LEFT where a y axis has its numbers."""

COLOURS = 12
INVISIBLE_DB = 60


class Drawing:
    """SVG elements with a linear or logarithmic x axis and a linear y axis."""

    def __init__(self, height: int, title: str) -> None:
        self.height = height
        self._title = title
        self._parts: list[str] = []

    def text(self, x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escaped(content)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def bar(self, x1: float, x2: float, y: float, height: float, kind: str, tip: str = "") -> None:
        title = f"<title>{escaped(tip)}</title>" if tip else ""
        size = f'width="{max(0.8, x2 - x1):.1f}" height="{height:.1f}"'
        self._parts.append(f'<rect x="{x1:.1f}" y="{y:.1f}" {size} class="{kind}">{title}</rect>')

    def dot(self, x: float, y: float, kind: str, tip: str) -> None:
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{kind}"><title>{escaped(tip)}</title></circle>'
        )

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{steps}" class="{kind}"/>')

    def svg(self) -> str:
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escaped(self._title)}">'
            + "".join(self._parts)
            + "</svg>"
        )


class Scale:
    """Maps values to pixels. Starts at 0 unless the values span more than tenfold: then logarithmic."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, from_zero: bool = True) -> None:
        low, high = min(values), max(values)
        self.logarithmic = from_zero and low > 0 and high / low > 10
        if self.logarithmic:
            self.low, self.high = low / 1.15, high * 1.15
        else:
            margin = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
            self.low, self.high = (0.0 if from_zero else low - margin), high + margin * (0.5 if from_zero else 1)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return self._start + (value - low) / (high - low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values inside the scale, about six."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        else:
            rough = (self.high - self.low) / 6
            unit = 10.0 ** math.floor(math.log10(rough))
            step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough)
            found = [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [tick for tick in found if self.low <= tick <= self.high]


def _x_axis(drawing: Drawing, scale: Scale, bottom: float, label: str, start: float = LEFT) -> None:
    for tick in scale.ticks():
        drawing.line(scale(tick), TOP, scale(tick), bottom, "grid")
        drawing.text(scale(tick), bottom + 15, f"{tick:g}", "tick", "middle")
    drawing.line(start, bottom, WIDTH - RIGHT, bottom, "axis")
    drawing.text(WIDTH - RIGHT, bottom + 30, label + (" (logarithmic)" if scale.logarithmic else ""), "tick", "end")


def _y_axis(drawing: Drawing, scale: Scale, label: str) -> None:
    for tick in scale.ticks():
        drawing.line(LEFT, scale(tick), WIDTH - RIGHT, scale(tick), "grid")
        drawing.text(LEFT - 6, scale(tick) + 4, f"{tick:g}", "tick", "end")
    drawing.text(4, TOP, label, "tick")


def colour(report: Report, row: Row) -> str:
    """Return the CSS class of an engine's colour."""
    return f"s{report.engines.index(row) % COLOURS}"


def distribution(report: Report) -> str | None:
    """Latency of each engine: a line to the 99th percentile, bars of nine tenths and of half, a tick at the median."""
    measured = [(r, r.scopes.get("engine") or r.scopes.get("compute")) for r in report.engines]
    rows = [(row, scope, scope.quantiles_ms) for row, scope in measured if scope and scope.quantiles_ms]
    if not rows:
        return None
    height = TOP + 46 * len(rows)
    drawing = Drawing(height + BOTTOM, "Distribution of latency")
    ends = [quantiles[q] for *_, quantiles in rows for q in (0, 99)]
    scale = Scale(ends, EDGE, WIDTH - RIGHT)
    _x_axis(drawing, scale, height, "ms", EDGE)
    for i, (row, scope, q) in enumerate(rows):
        y, kind = TOP + 46 * i + 30, colour(report, row)
        marks = ", ".join(f"p{p} {number(q[p])}" for p in (5, 25, 50, 75, 95))
        tip = f"{row.name}: {marks} ms, n {scope.n}"
        drawing.text(EDGE, y - 13, row.name, "label halo")
        drawing.text(WIDTH - RIGHT, y - 13, f"{number(scope.p50_ms)} ms", "value halo", "end")
        drawing.line(scale(q[0]), y, scale(q[99]), y, f"{kind} whisker")
        drawing.bar(scale(q[5]), scale(q[95]), y - 4, 8, f"{kind} faint", tip)
        drawing.bar(scale(q[25]), scale(q[75]), y - 6, 12, f"{kind} fill", tip)
        drawing.bar(scale(q[50]) - 1, scale(q[50]) + 1, y - 8, 16, "median", tip)
    return drawing.svg()


def speed_and_fidelity(report: Report) -> str | None:
    """Images a second against PSNR; what nobody can see, from INVISIBLE_DB on, lies on the top line."""
    rows = [(r, r.frames_per_second.serial, r.fidelity.psnr_db) for r in report.engines
            if r.fidelity and r.frames_per_second.serial]  # fmt: skip
    if not rows:
        return None
    height, top = 250, TOP + 26
    drawing = Drawing(height + BOTTOM, "Speed against fidelity")
    seen = [fidelity for *_, fidelity in rows if fidelity < INVISIBLE_DB]
    x = Scale([fps for _, fps, _ in rows], LEFT, WIDTH - RIGHT)
    y = Scale(seen or [30.0, 50.0], height - 8, top + 22, from_zero=False)
    _x_axis(drawing, x, height, "images a second, one after the other")
    _y_axis(drawing, y, "PSNR, dB")
    drawing.line(LEFT, top, WIDTH - RIGHT, top, "axis dashed")
    drawing.text(LEFT - 6, top + 4, f"{INVISIBLE_DB}+", "tick", "end")
    for row, fps, fidelity in rows:
        tip = f"{row.name}: {number(fps)} a second, {fidelity:.1f} dB"
        drawing.dot(x(fps), y(fidelity) if fidelity < INVISIBLE_DB else top, f"{colour(report, row)} fill", tip)
    return drawing.svg()


def stages(report: Report) -> str | None:
    """Where a streamed frame spends its time: the median of each stage, side by side."""
    rows = [(r, r.stream.stages_ms) for r in report.engines if r.stream]
    if not rows:
        return None
    height = TOP + 44 * len(rows)
    drawing = Drawing(height + BOTTOM, "Stages of a frame")
    totals = [sum(took.values()) for _, took in rows]
    scale = Scale([0.0, *totals], EDGE, WIDTH - RIGHT)
    _x_axis(drawing, scale, height, "ms", EDGE)
    for i, ((row, stages_ms), total) in enumerate(zip(rows, totals, strict=True)):
        y, at = TOP + 44 * i + 22, 0.0
        drawing.text(EDGE, y - 5, row.name, "label halo")
        drawing.text(WIDTH - RIGHT, y - 5, f"{number(total)} ms", "value halo", "end")
        for stage in STAGES:
            took = stages_ms[stage]
            drawing.bar(scale(at), scale(at + took), y, 14, f"stage-{stage} fill", f"{stage}: {number(took)} ms")
            at += took
    return drawing.svg()


def frame_age(report: Report) -> str | None:
    """How old each delivered frame is, capture to sink, in the order of delivery."""
    rows = [(r, r.stream.ages_ms) for r in report.engines if r.stream and r.stream.ages_ms]
    if not rows:
        return None
    height = 230
    drawing = Drawing(height + BOTTOM, "Frame age")
    x = Scale([0.0, *(float(len(ages)) for _, ages in rows)], LEFT, WIDTH - RIGHT)
    y = Scale([0.0, *(age for _, ages in rows for age in ages)], height, TOP + 12)
    _x_axis(drawing, x, height, "frame")
    _y_axis(drawing, y, "ms")
    for row, ages in rows:
        points = [(x(i), y(age)) for i, age in enumerate(ages, 1)]
        drawing.path(points, f"{colour(report, row)} stroke")
    return drawing.svg()


def steadiness(report: Report) -> str | None:
    """The median of each round against that of the whole run: what the machine did meanwhile."""
    series = [(colour(report, r), s.medians_ms) for r in report.engines if (s := r.scopes.get("engine"))]
    if report.reference_work:
        series.append(("machine", report.reference_work.medians_ms))
    series = [(kind, medians) for kind, medians in series if len(medians) > 1 and min(medians) > 0]
    if not series:
        return None
    height = 200
    drawing = Drawing(height + BOTTOM, "Round by round")
    relative = [(kind, [m / sorted(medians)[len(medians) // 2] for m in medians]) for kind, medians in series]
    values = [v for _, ratios in relative for v in ratios]
    x = Scale([0.0, *(float(len(medians)) for _, medians in series)], LEFT, WIDTH - RIGHT)
    y = Scale([*values, 0.95, 1.05], height, TOP + 12, from_zero=False)
    _x_axis(drawing, x, height, "round")
    _y_axis(drawing, y, "× the run's median")
    for kind, ratios in relative:
        drawing.path([(x(i), y(v)) for i, v in enumerate(ratios, 1)], f"{kind} stroke")
    return drawing.svg()
