from __future__ import annotations

import time

import numpy as np
import pytest

from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.streaming import timings
from pix2pix_edge.runtime.streaming.timings import Timings, percentile_ms, samples_needed


def add(measured: Timings, engine_ns: int) -> None:
    measured.add(Frame(0, 0, "a", np.zeros((1, 1, 3), np.uint8), timings={"engine": engine_ns}))


def test_percentiles_agree_with_numpy() -> None:
    measured = Timings()
    values = np.random.default_rng(2).integers(1, 10**9, 700)
    for value in values:
        add(measured, int(value))
    for percent in (50, 95, 99):
        assert percentile_ms(measured.column("engine"), percent) == pytest.approx(np.percentile(values, percent) / 1e6)
    assert percentile_ms(measured.column("deliver"), 50) == 0
    assert all(word in measured.table() for word in ("p50", "p95", "p99", "capture", "deliver"))
    assert "needs" not in measured.table()


@pytest.mark.parametrize(("percent", "needed"), [(50, 10), (95, 100), (99, 500)])
def test_a_percentile_is_left_out_where_too_few_frames_support_it(percent: float, needed: int) -> None:
    assert samples_needed(percent) == needed
    measured = Timings()
    for _ in range(needed - 1):
        add(measured, 5)
    assert percentile_ms(measured.column("engine"), percent) is None
    assert f"p{percent} needs {needed}" in measured.table()
    add(measured, 5)
    assert percentile_ms(measured.column("engine"), percent) == 5e-6


def test_the_rate_counts_intervals_not_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10**9, 2 * 10**9, 3 * 10**9])
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(moments))
    measured = Timings()
    add(measured, 1)
    assert measured.fps is None
    add(measured, 1)
    add(measured, 1)
    assert measured.fps == 1.0


def test_only_the_newest_frames_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "WINDOW", 20)
    measured = Timings()
    for value in [1] * 50 + [7] * 20:
        add(measured, value)
    assert measured.frames == 70 and percentile_ms(measured.column("engine"), 50) == 7e-6


def test_ages_and_rate_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, now = Timings(), 100 * 10**9
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    for index in range(200):  # 20 fps for ten seconds; the younger half is older at delivery
        delivered = now - (199 - index) * 50_000_000
        age = (20 if index < 100 else 30) * 1_000_000
        picture = np.zeros((1, 1, 3), np.uint8)
        measured.add(Frame(index, delivered - age, "a", picture, delivered_at=delivered))
    recent = measured.recent(4.99)
    assert (recent.frames, recent.fps) == (100, pytest.approx(20.0))
    assert (recent.age_p50_ms, recent.age_p95_ms, recent.age_p99_ms) == (30.0, 30.0, None)
    assert measured.recent(60).frames == 200 and percentile_ms(measured.column("age"), 50) == 25.0
    assert Timings().recent().fps is None and Timings().recent().frames == 0


def test_with_several_sinks_each_has_its_line() -> None:
    measured = Timings()
    for _ in range(20):
        add(measured, 5)
        measured.wrote("fast.mp4", 1_000_000)
        measured.wrote("slow/", 9_000_000)
    lines = {line.split("  ")[0]: line for line in measured.table().splitlines()}
    assert "9.00 ms" in lines["deliver slow/"] and "1.00 ms" in lines["deliver fast.mp4"] and "deliver" not in lines


def test_the_histogram_counts_every_frame_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "WINDOW", 10)
    measured = Timings()
    for ms in (4, 5, 40, 60, 5000) * 10:
        at = 10**10
        frame = Frame(0, at - ms * 10**6, "a", np.zeros((1, 1, 3), np.uint8), delivered_at=at)
        measured.add(frame)
    found = measured.ages()
    assert found.count == 50 and found.sum_s == pytest.approx(10 * 5.109)
    assert found.below[0.005] == 20 and found.below[0.05] == 30 and found.below[0.075] == found.below[2.5] == 40
