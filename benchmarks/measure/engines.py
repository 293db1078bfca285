"""Measure engines in interleaved rounds, over several launches, each engine in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pix2pix_edge.benchmarks.measure.interleave import Budget, Contender, Nanoseconds, Timings, interleave
from pix2pix_edge.benchmarks.measure.reference_work import ReferenceSession
from pix2pix_edge.benchmarks.measure.worker import Opened, Session, Target, Used, Worker
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.errors import InputError, ToolkitError

REFERENCE = "reference work"
KINDS = ("latency", "overlap", "stream")
"""What an engine does in turn: one image after the other; every slot busy; a live stream."""


@dataclass(frozen=True)
class Profile:
    """How thoroughly to measure. at_least_s, at_least_calls: a run goes on until each engine's latency has both."""

    name: str
    launches: int
    budget: Budget
    kinds: tuple[str, ...] = KINDS
    at_least_s: float = 0.0
    at_least_calls: int = 0

    def lasting(self, seconds: float) -> Profile:
        """Return the profile with so many measured seconds of latency for each engine, in as many rounds."""
        turn_s = seconds / (self.launches * self.budget.rounds)
        budget = Budget(self.budget.rounds, turn_s, min(self.budget.warm_up_s, seconds))
        return Profile(f"{self.name}, {seconds:g} s", self.launches, budget, self.kinds)


PROFILES = {
    "quick": Profile("quick", launches=8, budget=Budget(rounds=3, turn_s=0.25, warm_up_s=0.25)),
    "full": Profile("full", launches=12, budget=Budget(rounds=4, turn_s=1.25, warm_up_s=1.0)),
    # one query after the other for 600 s and 1024 queries: the single-stream rules of the industry's benchmark
    "single-stream": Profile("single-stream", 6, Budget(10, 10.0, 2.0), ("latency",), 600.0, 1024),
    # what `benchmarks trials` repeats: of many launches, because launches differ more than rounds, and half a minute
    # long, because a shared host's slow spells may last a quarter of one
    "trial": Profile("trial", launches=28, budget=Budget(rounds=2, turn_s=0.15, warm_up_s=0.1), kinds=("latency",)),
}


@dataclass
class Measured:
    """What is known of one engine so far. error: why it was not measured, or not to the end."""

    label: str
    target: Target
    describe: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    opened: list[Opened] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    kinds: dict[str, Timings] = field(default_factory=dict)
    memory: list[Used] = field(default_factory=list)
    windows: list[tuple[int, int]] = field(default_factory=list)
    windowed_calls: int = 0
    outputs: list[Images] = field(default_factory=list)
    error: str = ""

    def scope(self, name: str) -> list[Nanoseconds]:
        """Return the rounds of a scope, whichever kind measured it."""
        return next((timings[name] for timings in self.kinds.values() if timings[name]), [])


@dataclass
class Run:
    """A whole run as it grows; what is here when it is interrupted is what was measured."""

    engines: list[Measured]
    reference: Timings = field(default_factory=Timings)
    rounds: int = 0


def translate_all(run: Run, images: Sequence[Images], on_engine: Callable[[str], None] = lambda label: None) -> None:
    """Open each engine once and translate the images: fidelity first, so that no speed stands without it.

    images: uint8 [H, W, C]. An engine that cannot gets its error. Raises InputError when the engines' contracts differ.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for measured in run.engines:
        on_engine(measured.label)
        try:
            with Worker(Session, measured.target) as worker:
                opened: Opened = worker.ask("open")
                measured.describe, measured.kind = opened.describe, opened.kind
                shapes[measured.label] = opened.shape
                if len(set(shapes.values())) == 1:
                    measured.outputs = worker.ask("translate", list(images))
        except ToolkitError as error:
            measured.error = str(error)
    if len(set(shapes.values())) > 1:
        listing = "; ".join(f"{label} takes {list(shape)}" for label, shape in shapes.items())
        raise InputError(f"engines that take different images cannot share a report ({listing}); run them one by one")


def image_shape(engines: Sequence[Measured]) -> tuple[int, ...]:
    """Return (height, width, channels) of the first engine that opens. Raises the last one's error if none does."""
    for measured in engines:
        try:
            with Worker(Session, measured.target) as worker:
                opened: Opened = worker.ask("open")
                return opened.shape[1:]
        except ToolkitError as error:
            last = error
    raise last


def measure(
    run: Run, profile: Profile, images: Sequence[Images], on_round: Callable[[int], None] = lambda done: None
) -> None:
    """Fill `run` with `profile.launches` launches of interleaved rounds; more where the profile's least is not reached.

    images: the uint8 [H, W, C] pictures that the engines translate in turn. The reference work has one process for the
    whole run: it is the machine's yardstick, and starting it anew would be time that measures nothing.
    """
    calls: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        reference = None
        if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
            reference = stack.enter_context(Worker(ReferenceSession))
        for _ in range(profile.launches):
            _launch(run, profile, images, calls, reference, on_round)
        while not _enough(run, profile):
            _launch(run, profile, images, calls, reference, on_round)


def _enough(run: Run, profile: Profile) -> bool:
    for measured in run.engines:
        rounds = measured.scope("engine")
        if not measured.error and (
            sum(int(r.sum()) for r in rounds) < profile.at_least_s * 1e9
            or sum(map(len, rounds)) < profile.at_least_calls
        ):
            return False
    return True


def _launch(
    run: Run,
    profile: Profile,
    images: Sequence[Images],
    calls: dict[str, int],
    reference: Worker | None,
    on_round: Callable[[int], None],
) -> None:
    """Start every engine afresh, measure rounds, end them."""
    with contextlib.ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        timings: dict[str, Timings] = {}
        workers = {}
        for measured in run.engines:
            if measured.error:
                continue
            try:
                worker = stack.enter_context(Worker(Session, measured.target))
                measured.opened.append(worker.ask("open"))
                measured.first_ns.append(worker.ask("first", list(images)))
            except ToolkitError as error:
                measured.error = str(error)
                continue
            workers[measured.label] = worker
            streams = measured.opened[-1].shape[0] == 1  # a stream has one frame at a time
            for kind in (kind for kind in profile.kinds if kind != "stream" or streams):
                name = f"{measured.label} {kind}"
                timings[name] = measured.kinds.setdefault(kind, Timings())
                contenders[name] = functools.partial(_turn, measured, worker, kind)
        if reference:
            timings[REFERENCE] = run.reference
            contenders[REFERENCE] = functools.partial(reference.ask, "reference")

        def count(_: int) -> None:
            run.rounds += 1
            on_round(run.rounds)

        interleave(contenders, profile.budget, into=timings, calls=calls, on_round=count, seed=run.rounds)
        for measured in run.engines:
            failures = [f"{kind}: {s.error}" for kind, s in measured.kinds.items() if s.error]
            if failures:
                measured.error = "; ".join(failures)
            elif measured.label in workers:
                try:
                    measured.memory.append(workers[measured.label].ask("memory"))
                except ToolkitError as error:  # it died after its last round
                    measured.error = str(error)


def _turn(measured: Measured, worker: Worker, kind: str, calls: int) -> Mapping[str, Nanoseconds]:
    """One turn of an engine. The times of `latency` turns are kept, for the power drawn meanwhile."""
    start = time.perf_counter_ns()
    answer: Mapping[str, Nanoseconds] = worker.ask(kind, calls)
    if kind == "latency":
        measured.windows.append((start, time.perf_counter_ns()))
        measured.windowed_calls += calls
    return answer
