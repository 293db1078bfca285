"""Statistics against numpy, against brute force, and against noise whose true answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pix2pix_edge.benchmarks.report.summary import (
    FEWEST_BLOCKS,
    early_stopping_estimate,
    paired_ratio,
    rate,
    repeat_error,
    samples_needed,
    scope_of,
    student_t,
)
from tests.benchmarks.samples import drift_of, noisy_rounds


def test_percentiles_equal_numpys() -> None:
    random = np.random.default_rng(3)
    rounds = [random.integers(1_000, 9_000_000, size) for size in (40, 300, 7, 700)]
    scope = scope_of(rounds)
    values = np.concatenate(rounds) / 1e6
    assert scope.n == 1047 and not scope.left_out
    for p in (50, 90, 95, 99):
        assert scope.percentile(p) == pytest.approx(np.percentile(values, p), rel=1e-5)
    assert [scope.min_ms, scope.mean_ms, scope.max_ms] == pytest.approx(
        [values.min(), values.mean(), values.max()], 1e-5
    )
    assert scope.variation == pytest.approx(values.std() / values.mean(), rel=1e-5)
    assert scope.quantiles_ms == pytest.approx(np.percentile(values, range(101)), rel=1e-5)


def test_a_percentile_that_n_cannot_support_is_left_out_with_what_it_needs() -> None:
    assert [samples_needed(p) for p in (50, 90, 95, 99)] == [20, 100, 200, 1000]
    scope = scope_of([np.arange(1, 200)])
    assert scope.p90_ms is not None and scope.p95_ms is None and scope.p99_ms is None
    assert scope.left_out == {"p95": 200, "p99": 1000}
    assert not scope_of([np.arange(1, 1001)]).left_out


def test_the_median_of_few_calls_is_given_without_an_interval() -> None:
    scope = scope_of([np.array([5_000_000])])
    assert scope.p50_ms == 5.0 and scope.interval_ms is None
    assert scope.left_out == {"p90": 100, "p95": 200, "p99": 1000}


def test_nothing_cannot_be_summarised() -> None:
    for rounds in ([], [np.empty(0, np.int64)]):
        with pytest.raises(ValueError):
            scope_of(rounds)


def test_rates_count_intervals() -> None:
    assert rate(np.array([0, 100_000_000, 200_000_000])) == pytest.approx(10.0)
    with pytest.raises(ValueError):
        rate(np.array([1]))


def test_student_t() -> None:
    # two-sided 95 %: Abramowitz and Stegun, table 26.10
    for freedom, value in ((3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (120, 1.980)):
        assert student_t(freedom) == pytest.approx(value, rel=0.002)


def _kinds_of_noise() -> dict[str, np.ndarray]:
    random, n = np.random.default_rng(0), 20 * 1500
    independent = random.standard_normal(n) * 0.05
    bursts = random.standard_normal(n) * 0.01 + (random.random(n) < 0.1) * random.exponential(0.7, n)
    launches = np.repeat(random.standard_normal(n // 4), 4) * 0.03 + random.standard_normal(n) * 0.02
    frequencies = np.fft.rfftfreq(n)
    spectrum = np.zeros(frequencies.size, complex)
    phases = random.standard_normal((2, frequencies.size - 1))
    spectrum[1:] = (phases[0] + 1j * phases[1]) / np.sqrt(frequencies[1:])
    flicker = np.fft.irfft(spectrum, n)
    correlated = np.zeros(n)
    for i in range(1, n):
        correlated[i] = 0.9 * correlated[i - 1] + random.standard_normal() * 0.02
    return {
        "independent": independent,
        "bursts": bursts,
        "launches": launches,
        "1/f": flicker * 0.05 / flicker.std(),
        "correlated": correlated,
    }


@pytest.mark.parametrize(
    ("kind", "least"), [("independent", 0.95), ("bursts", 0.95), ("launches", 0.95), ("1/f", 0.9), ("correlated", 0.88)]
)
def test_a_repeated_run_lands_in_the_interval(kind: str, least: float) -> None:
    """Runs of 20 rounds, cut one after the other from a long record, so that drift goes on between them."""
    runs = _kinds_of_noise()[kind].reshape(-1, 20)
    errors = [repeat_error(run) for run in runs]
    medians = np.median(runs, axis=1)
    inside = np.abs(np.diff(medians)) <= np.array(errors[:-1], float)
    assert inside.mean() >= least


def test_a_burst_widens_the_interval_little() -> None:
    widened = []
    for seed in range(50):
        calm = np.random.default_rng(seed).standard_normal(20) * 0.01
        disturbed = calm.copy()
        disturbed[[3, 11]] += 2.0
        widened.append(repeat_error(disturbed) / repeat_error(calm))  # type: ignore[operator]
    assert np.median(widened) < 1.5


def test_drift_widens_the_interval() -> None:
    random = np.random.default_rng(6)
    noise = random.standard_normal(40) * 0.01
    drifting = np.sort(noise)  # the same values, in an order that drifts
    assert repeat_error(drifting) > 2 * repeat_error(noise)  # type: ignore[operator]


def test_few_rounds_have_no_error_and_equal_rounds_have_none() -> None:
    assert repeat_error(np.zeros(FEWEST_BLOCKS - 1)) is None
    assert repeat_error(np.zeros(FEWEST_BLOCKS)) == 0.0


def test_a_ratio_does_not_see_the_machine_drift() -> None:
    inside, widths, latencies = 0, [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        machine = drift_of(random, 0.3)  # the machine's speed wanders by a third
        base = noisy_rounds(random, 40.0, 0.005, machine)
        ours = noisy_rounds(random, 20.0, 0.005, machine)
        found, alone = paired_ratio(ours, base), scope_of(ours).interval_ms
        assert found is not None and alone is not None
        inside += found.low <= 0.5 <= found.high
        widths.append(50 * (found.high - found.low) / found.value)
        latencies.append(50 * math.log(alone[1] / alone[0]))
    assert inside >= 56  # 93 %
    assert np.median(widths) < 3 < 30 < np.median(latencies)


def test_a_ratio_needs_rounds_that_both_shared() -> None:
    rounds = noisy_rounds(np.random.default_rng(0), 1.0)
    assert paired_ratio(rounds[:4], rounds) is None
    assert paired_ratio([], rounds) is None


def test_early_stopping_drops_as_many_calls_as_the_binomial_allows() -> None:
    # 64 calls are the least for which one may be dropped: the rule's own number for p90 at 99 %
    values = np.arange(1.0, 65.0)
    assert early_stopping_estimate(values) == 63.0
    assert early_stopping_estimate(values[:63]) == 63.0
    assert early_stopping_estimate(np.arange(43.0)) is None
    n, total, allowed = 1024, 0.0, -1
    for t in range(n):
        total += math.comb(n, t) * 0.1**t * 0.9 ** (n - t)
        if total > 0.01:
            break
        allowed = t
    assert early_stopping_estimate(np.arange(float(n))) == n - 1 - allowed


def test_the_bound_is_above_the_percentile_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    true_p90 = -math.log(0.1)
    above = [early_stopping_estimate(random.exponential(1.0, 1024)) >= true_p90 for _ in range(300)]  # type: ignore[operator]
    assert np.mean(above) > 0.97
