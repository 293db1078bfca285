"""Interleaved rounds: every contender runs for a moment, in shuffled order, again and again.

A machine's speed drifts (clocks, heat, other users of a shared host). Contenders that take turns within a second meet
the same drift, so that their ratio holds where two measurements one after the other would not.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Nanoseconds = NDArray[np.int64]
"""int64 [n], one entry a call, in the order of the calls."""

Contender = Callable[[int], Mapping[str, Nanoseconds]]
"""Run the contender so many times; return what each call took, by scope."""

SETTLE_S = 0.03
"""Unmeasured calls when a contender's turn begins: caches fill, and threads that still spin for the last one sleep."""

LEAST_CALLS = 3


@dataclass
class Timings:
    """What a contender did: scope -> one array of nanoseconds per round. error: why it was taken out, or ""."""

    scopes: dict[str, list[Nanoseconds]] = field(default_factory=dict)
    error: str = ""

    def __getitem__(self, scope: str) -> list[Nanoseconds]:
        return self.scopes.get(scope, [])

    @property
    def rounds(self) -> int:
        """How many rounds were measured."""
        return max(map(len, self.scopes.values()), default=0)

    def add(self, round_: Mapping[str, Nanoseconds]) -> None:
        """Append one round."""
        for scope, values in round_.items():
            self.scopes.setdefault(scope, []).append(np.asarray(values, np.int64))


@dataclass(frozen=True)
class Budget:
    """How much to measure: `rounds` turns of about `turn_s` seconds each, after `warm_up_s` seconds of warming up."""

    rounds: int
    turn_s: float
    warm_up_s: float


def warm_up(contender: Contender, seconds: float, clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """Run a contender for so long, in doubling batches; return the nanoseconds of a call in the fastest batch."""
    best, end, calls = math.inf, clock() + seconds * 1e9, 1
    while True:
        start = clock()
        contender(calls)
        now = clock()
        best = min(best, (now - start) / calls)
        if now >= end:
            return max(1.0, best)
        # no batch longer than what is left, so that a slow engine does not warm up for twice the time asked
        calls = max(1, min(calls * 2, int((end - now) / max(1, now - start) * calls)))


def interleave(
    contenders: Mapping[str, Contender],
    budget: Budget,
    *,
    into: dict[str, Timings] | None = None,
    calls: dict[str, int] | None = None,
    on_round: Callable[[int], None] = lambda done: None,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Timings]:
    """Measure every contender in each of `budget.rounds` rounds, in an order shuffled anew for each round.

    A contender has the same number of calls in every round, so that a slow round weighs as much as a fast one; the
    number comes from its warm-up, or from `calls`, which is filled in for a later run to go on with. One that raises
    is taken out, with the reason in its Timings; the others finish. into: Timings to append to; they hold what was
    measured also when the run is interrupted.
    """
    results = {} if into is None else into
    fixed = {} if calls is None else calls
    active: dict[str, tuple[Contender, int, int]] = {}
    shuffle = random.Random(seed)
    for name, contender in contenders.items():
        timings = results.setdefault(name, Timings())
        if timings.error:
            continue
        try:
            call_ns = warm_up(contender, budget.warm_up_s, clock)
        except Exception as error:
            timings.error = f"warm-up: {describe_error(error)}"
            continue
        count = fixed.setdefault(name, max(LEAST_CALLS, round(budget.turn_s * 1e9 / call_ns)))
        active[name] = contender, count, max(1, math.ceil(SETTLE_S * 1e9 / call_ns))
    for done in range(budget.rounds):
        order: Iterable[str] = shuffle.sample(sorted(active), len(active))
        for name in order:
            contender, count, settle = active[name]
            try:
                contender(settle)
                results[name].add(contender(count))
            except Exception as error:
                results[name].error = f"round {results[name].rounds + 1}: {describe_error(error)}"
                del active[name]
        on_round(done + 1)
    return results


def describe_error(error: Exception) -> str:
    """Return an exception's message on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
