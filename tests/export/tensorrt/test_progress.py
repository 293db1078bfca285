"""A build's progress and its cancelling, with phases as the real builder reports them."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from pix2pix_edge.export.tensorrt.progress import BuildProgress
from tests.conftest import in_threads


class Bar:
    """What BuildProgress needs of a tqdm."""

    def __init__(self) -> None:
        self.n = 0
        self.seen: list[int] = []
        self.names: list[str] = []

    def set_description_str(self, name: str, refresh: bool) -> None:
        self.names.append(name)

    def update(self, more: int) -> None:
        assert more >= 0
        self.n += more
        self.seen.append(self.n)


def test_nested_phases_make_one_bar_that_ends_at_100() -> None:
    bar = Bar()
    progress = BuildProgress(bar)
    progress.start("Building engine", None, 4)
    progress.start("Cloning network graph", "Building engine", 10)
    for step in range(5):
        progress.step("Cloning network graph", step)
    assert progress.fraction() == pytest.approx(0.5 / 4)
    progress.finish("Cloning network graph")
    progress.step("Building engine", 0)
    assert progress.fraction() == pytest.approx(1 / 4)
    progress.start("Building engine from subgraph", "Building engine", 2)
    progress.start("Timing graph nodes", "Building engine from subgraph", 2)
    progress.step("Timing graph nodes", 0)
    assert progress.fraction() == pytest.approx((1 + 0.25) / 4)
    progress.finish("Timing graph nodes")
    progress.finish("Building engine from subgraph")
    progress.finish("Building engine")
    assert bar.n == 100 and bar.seen == sorted(bar.seen)
    assert "Timing graph nodes" in bar.names


def test_a_phase_that_starts_again_never_moves_the_bar_back() -> None:
    bar = Bar()
    progress = BuildProgress(bar)
    progress.start("root", None, 1)
    for _ in range(3):
        progress.start("Timing tactics", "root", 2)
        progress.step("Timing tactics", 1)
        progress.finish("Timing tactics")
    assert bar.seen == sorted(bar.seen) and bar.n == 100


def test_unknown_and_empty_phases_are_harmless() -> None:
    progress = BuildProgress(Bar())
    progress.step("never started", 3)
    progress.finish("never started")
    progress.start("empty", None, 0)
    progress.step("empty", 7)
    assert progress.fraction() == 1.0


def test_many_threads_may_report_at_once() -> None:
    bar = Bar()
    progress = BuildProgress(bar)
    progress.start("root", None, 400)

    def report(first: int) -> None:
        for step in range(first, first + 100):
            progress.step("root", step)

    with in_threads(*(functools.partial(report, 100 * i) for i in range(4))):
        pass
    assert bar.seen == sorted(bar.seen)


def test_run_gives_back_what_the_build_gives() -> None:
    assert BuildProgress(Bar()).run(lambda: b"plan") == b"plan"


def test_run_raises_what_the_build_raises() -> None:
    def broken() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        BuildProgress(Bar()).run(broken)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests were started in the background and inherit it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_lets_the_build_stop_and_then_raises() -> None:
    """Twice, because an impatient user presses it twice; the build still ends before run() does."""
    progress = BuildProgress(Bar())
    ended = threading.Event()

    def build() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
        while not progress.cancelled:  # as the builder, which asks after each step
            time.sleep(0.001)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        progress.run(build)
    assert ended.is_set()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_handed_back_after_the_build() -> None:
    BuildProgress(Bar()).run(lambda: None)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_build_in_another_thread_leaves_signals_alone() -> None:
    results: list[object] = []
    with in_threads(lambda: results.append(BuildProgress(Bar()).run(lambda: "plan"))):
        pass
    assert results == ["plan"]
