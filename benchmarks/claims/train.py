"""Compare our training step with the article's loop, interleaved, at the same width on the same pairs.

  python -m benchmarks train --data DIR
  python -m benchmarks train --data DIR --filters 64 32 16 --rounds 20 --out training.json

The article's loop makes a picture with generator.predict and then calls train_on_batch three times: the discriminator
on a real and on a made pair, and generator and discriminator together. On Keras 3 it is right only when each of these
is traced once while the discriminator is, or is not, to learn: setting `trainable` later has no effect on what was
traced, and setting it before freezes the discriminator everywhere. Both sides have the same losses and optimisers.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.machine.description import Machine, State
from pix2pix_edge.benchmarks.report.schema import Ratio
from pix2pix_edge.runtime.cli import add_out, at_least
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.native import load_tensorflow
from pix2pix_edge.train.settings import RECIPES, Settings

OURS, ARTICLE = "train_step", "article"
FORMAT = "pix2pix-edge-training/1"


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Both loops at one width. speed_up: how many times as long the article's takes. waiting_share: ours, for data."""

    filters: int
    image_size: int
    steps: int
    speed_up: Ratio
    step_ms: float
    article_step_ms: float
    waiting_share: float

    def sentence(self) -> str:
        """Return the result in words."""
        ratio = self.speed_up
        return (
            f"{self.filters} filters, {self.steps} steps: the article's loop takes {ratio.value:.2f} times"
            f" as long as ours ({ratio.low:.2f} to {ratio.high:.2f}); waiting for data is"
            f" {100 * self.waiting_share:.2f} % of our time"
        )


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What this command writes."""

    format: str = FORMAT
    command: str
    widths: list[StepTimes]
    machine: Machine
    state: State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of pairs, as for training")
    parser.add_argument(
        "--filters",
        type=at_least(1),
        nargs="+",
        default=[64],
        metavar="N",
        help="widths, one after the other (default: 64)",
    )
    parser.add_argument("--image-size", type=at_least(32), default=256, metavar="S", help="side (default: 256)")
    parser.add_argument("--rounds", type=at_least(5), default=12, metavar="N", help="turns of each (default: 12)")
    parser.add_argument("--turn", type=float, default=3.0, metavar="S", help="seconds of a turn (default: 3)")
    add_out(parser, "also write the numbers", "FILE.json", required=False)


def run(args: argparse.Namespace) -> None:
    if not 0 < args.turn <= 600:
        raise InputError("--turn must be more than 0 and at most 600 seconds")
    from pix2pix_edge.benchmarks.machine.description import command_line, describe_machine, machine_state
    from pix2pix_edge.benchmarks.report.reader import write

    report = TrainingReport(command=command_line(), widths=[], machine=describe_machine(), state=machine_state())
    for filters in args.filters:
        settings = replace(RECIPES["paper"], filters=filters, image_size=args.image_size)
        report.widths.append(compare_at(settings, args.data, args.rounds, args.turn))
        print(report.widths[-1].sentence(), flush=True)
        if args.out:
            write(report, args.out)


class Side:
    """One of the two, in a worker process of its own (benchmarks.measure.worker.Worker).

    Side by side in one process, the functions that predict leaves behind made our next epoch begin 12 seconds late.
    """

    def __init__(self, name: str, settings: Settings, data: Path) -> None:
        load_tensorflow("comparing training steps")
        from pix2pix_edge.train.data import ENLARGED, Pairs, batches, checked, prefetch
        from pix2pix_edge.train.pairs.layouts import find_pairs
        from pix2pix_edge.train.trainer import Trainer

        pairs = Pairs(find_pairs(data)[0], round(settings.image_size * ENLARGED), settings.direction)
        checked(data, [pairs])  # into memory, as training does

        def feed() -> Iterator[Any]:
            for epoch in itertools.count():
                yield from prefetch(batches(pairs, settings.image_size, 1, 0, epoch))

        if name == OURS:
            trainer = Trainer(settings)
            self.turn = timed_steps(lambda source, target: float(trainer.step((source, target))["l1"]), feed())
        else:
            article = ArticleLoop(settings)
            self.turn = timed_steps(lambda source, target: article.step(source.numpy(), target.numpy()), feed())

    def ready(self) -> None:
        """Do nothing: by now it has been made."""


def compare_at(settings: Settings, data: Path, rounds: int, turn_s: float) -> StepTimes:
    """Return how many times as long the article's loop takes as our step, and how long our step waits for data."""
    from pix2pix_edge.benchmarks.measure.interleave import Budget, interleave
    from pix2pix_edge.benchmarks.measure.worker import Worker
    from pix2pix_edge.benchmarks.report.summary import paired_ratio

    with Worker(Side, OURS, settings, data) as ours, Worker(Side, ARTICLE, settings, data) as article:
        contenders: dict[str, Any] = {}
        for name, worker in ((OURS, ours), (ARTICLE, article)):
            worker.ask("ready")
            contenders[name] = functools.partial(worker.ask, "turn")
        timings = interleave(contenders, Budget(rounds, turn_s, turn_s))
    for name, found in timings.items():
        if found.error:
            raise InputError(f"{name} failed: {found.error}")
    ratio = paired_ratio(timings[ARTICLE]["step"], timings[OURS]["step"])
    assert ratio is not None  # --rounds is at least 5
    step, waiting = (np.concatenate(timings[OURS][scope]) / 1e6 for scope in ("step", "waiting"))
    return StepTimes(
        filters=settings.filters,
        image_size=settings.image_size,
        steps=len(step),
        speed_up=ratio,
        step_ms=float(np.median(step)),
        article_step_ms=float(np.median(np.concatenate(timings[ARTICLE]["step"]) / 1e6)),
        waiting_share=float(waiting.sum() / (step.sum() + waiting.sum())),
    )


def timed_steps(
    step: Callable[[Any, Any], object], feed: Iterator[Any]
) -> Callable[[int], Mapping[str, np.ndarray[Any, Any]]]:
    """Return a contender of interleave(): scopes step and waiting, the latter for the next batch."""

    def turn(calls: int) -> Mapping[str, np.ndarray[Any, Any]]:
        stamps = np.empty((calls, 3), np.int64)
        for row in stamps:
            row[0] = time.perf_counter_ns()
            source, target = next(feed)
            row[1] = time.perf_counter_ns()
            step(source, target)
            row[2] = time.perf_counter_ns()
        return {"waiting": stamps[:, 1] - stamps[:, 0], "step": stamps[:, 2] - stamps[:, 1]}

    return turn


class ArticleLoop:
    """predict and three train_on_batch, as the Keras-GAN collection trains pix2pix; correct on Keras 3."""

    def __init__(self, settings: Settings) -> None:
        import keras

        from pix2pix_edge.train.networks import discriminator, generator
        from pix2pix_edge.train.trainer import BETA_1

        size = settings.image_size
        self.generator = generator(settings.filters, size)
        self.discriminator = discriminator(settings.filters, size)
        entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.real = np.ones((1, *self.discriminator.output_shape[1:]), np.float32)
        source = keras.Input((size, size, 3))
        made = self.generator(source)
        # The original also lists the target as an input that nothing reads, which Keras 3.12 refuses.
        self.combined = keras.Model(source, [self.discriminator([source, made]), made])
        adam = {"learning_rate": settings.learning_rate, "beta_1": BETA_1}
        # Each is traced at its first call, while the discriminator is in the state that it then keeps in this graph.
        empty = np.zeros((1, size, size, 3), np.float32)
        self.discriminator.compile(optimizer=keras.optimizers.Adam(**adam), loss=entropy, loss_weights=[0.5])
        self.discriminator.train_on_batch([empty, empty], self.real)
        self.discriminator.trainable = False
        self.combined.compile(
            optimizer=keras.optimizers.Adam(**adam), loss=[entropy, "mae"], loss_weights=[1.0, settings.l1_weight]
        )
        self.combined.train_on_batch(empty, [self.real, empty])

    def step(self, source: Any, target: Any) -> None:
        """Move both networks once. source and target: float32 [1, S, S, 3] in [-1, 1]."""
        made = self.generator.predict(source, verbose=0)
        self.discriminator.train_on_batch([source, target], self.real)
        self.discriminator.train_on_batch([source, made], 0 * self.real)
        self.combined.train_on_batch(source, [self.real, target])
