"""Interleaved rounds on a clock that only moves when a contender works."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pix2pix_edge.benchmarks.measure.interleave import (
    LEAST_CALLS,
    SETTLE_S,
    Budget,
    Contender,
    Nanoseconds,
    Timings,
    interleave,
    warm_up,
)

PLAN = Budget(rounds=4, turn_s=0.1, warm_up_s=0.05)


class Clock:
    """Nanoseconds that pass only while work() is done."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def work(self, milliseconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += round(milliseconds * 1e6)

        return call


def timed(call: Callable[[], object], *, clock: Clock) -> Contender:
    """A contender of one scope, `engine`."""

    def run(calls: int) -> dict[str, Nanoseconds]:
        stamps = [clock.now]
        for _ in range(calls):
            call()
            stamps.append(clock.now)
        return {"engine": np.diff(stamps)}

    return run


def test_warm_up_lasts_as_long_as_asked_and_no_call_longer() -> None:
    clock = Clock()
    assert warm_up(timed(clock.work(2), clock=clock), 0.05, clock) == 2e6
    assert 50e6 <= clock.now < 54e6
    clock.now = 0
    assert warm_up(timed(clock.work(300), clock=clock), 0.05, clock) == 300e6
    assert clock.now == 300e6


def test_every_round_has_the_same_number_of_calls_also_on_a_slow_machine() -> None:
    clock = Clock()
    speed = [2.0]

    def call() -> None:
        clock.now += round(speed[0] * 1e6)

    plan = Budget(rounds=3, turn_s=0.1, warm_up_s=0.05)

    def slower(done: int) -> None:
        speed[0] = 6.0

    samples = interleave({"a": timed(call, clock=clock)}, plan, clock=clock, on_round=slower)["a"]
    assert [len(r) for r in samples["engine"]] == [50, 50, 50]
    assert samples["engine"][0][0] == 2e6 and samples["engine"][1][0] == 6e6


def test_a_turn_begins_with_uncounted_calls_and_never_has_fewer_than_the_least() -> None:
    clock, calls = Clock(), []

    def slice_(count: int) -> dict[str, np.ndarray]:
        calls.append(count)
        clock.now += round(count * 0.2e9)
        return {"engine": np.full(count, 200_000_000)}

    interleave({"slow": slice_}, Budget(2, 0.1, 0.0), clock=clock)
    assert calls == [1, 1, LEAST_CALLS, 1, LEAST_CALLS]
    assert SETTLE_S < 0.2


def test_order_is_shuffled_anew_and_repeatable() -> None:
    clock = Clock()

    def orders(seed: int) -> list[list[str]]:
        log: list[str] = []

        def contender(name: str):
            def slice_(count: int) -> dict[str, np.ndarray]:
                clock.now += 1_000_000 * count
                log.append(name)
                return {"engine": np.ones(count, np.int64)}

            return slice_

        interleave({n: contender(n) for n in "abcd"}, Budget(6, 0.01, 0.0), clock=clock, seed=seed)
        turns = log[4:][::2]  # after one warm-up each; a turn is a settling and a counted slice
        return [turns[i : i + 4] for i in range(0, len(turns), 4)]

    found = orders(1)
    assert all(sorted(order) == list("abcd") for order in found)
    assert len({tuple(order) for order in found}) > 2
    assert found == orders(1) != orders(2)


def test_one_that_raises_in_round_3_is_reported_and_the_others_finish() -> None:
    clock, done = Clock(), [0]

    def breaks(calls: int) -> dict[str, np.ndarray]:
        clock.now += 10_000_000 * calls
        if done[0] == 2:
            raise RuntimeError("the board\nfell off the table")
        return {"engine": np.full(calls, 10_000_000)}

    contenders = {"breaks": breaks, "whole": timed(clock.work(10), clock=clock)}
    found = interleave(contenders, PLAN, clock=clock, on_round=lambda count: done.__setitem__(0, count))
    assert found["breaks"].error == "round 3: the board fell off the table"
    assert found["breaks"].rounds == 2
    assert found["whole"].error == "" and found["whole"].rounds == PLAN.rounds


def test_one_that_fails_to_warm_up_never_runs() -> None:
    def breaks(calls: int) -> dict[str, np.ndarray]:
        raise ValueError

    found = interleave({"breaks": breaks}, PLAN, clock=Clock())
    assert found["breaks"].error == "warm-up: ValueError" and found["breaks"].rounds == 0


def test_an_interruption_leaves_what_was_measured() -> None:
    clock, into = Clock(), {}

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interleave({"a": timed(clock.work(1), clock=clock)}, PLAN, into=into, on_round=stop, clock=clock)
    assert into["a"].rounds == 2


def test_a_second_launch_goes_on_with_the_same_calls_and_without_what_has_failed() -> None:
    clock, into, calls = Clock(), {"gone": Timings(error="round 1: no")}, {}
    contenders = {"a": timed(clock.work(1), clock=clock), "gone": timed(clock.work(1), clock=clock)}
    interleave(contenders, PLAN, into=into, calls=calls, clock=clock)
    contenders["a"] = timed(clock.work(7), clock=clock)
    interleave(contenders, PLAN, into=into, calls=calls, clock=clock)
    assert calls == {"a": 100}
    assert [len(r) for r in into["a"]["engine"]] == [100] * 8
    assert into["gone"].rounds == 0
