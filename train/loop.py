"""One training run: resume or start, train epoch by epoch, and keep what a user looks at up to date.

RUN/ holds settings.json, checkpoint.npz, history.csv, curves.png, generator.keras, discriminator.keras,
samples/epoch_NNN.png and tensorboard/.
Importing this module loads TensorFlow.
"""

from __future__ import annotations

import csv
import math
import sys
import threading
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from pix2pix_edge.runtime.errors import InputError, ToolkitError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.frame import Image, as_image
from pix2pix_edge.runtime.images import sheet, write_image
from pix2pix_edge.train.checkpoint import Progress, Row, checkpoint_path, load_checkpoint, save_checkpoint
from pix2pix_edge.train.data import Pairs, batches, prefetch
from pix2pix_edge.train.distribution import Place, barrier, place_of, strategy_of, translate_errors
from pix2pix_edge.train.guards import disk_full, locked, resume_command, stop_requests
from pix2pix_edge.train.judge import judge
from pix2pix_edge.train.measures.curves import draw_curves
from pix2pix_edge.train.networks import plain_discriminator
from pix2pix_edge.train.saved import initialise, teacher_of
from pix2pix_edge.train.settings import Settings, write_settings
from pix2pix_edge.train.trainer import LOSSES, Trainer

SAVE_EVERY_SECONDS = 300.0
ALONE = Place()
Samples = Pairs | list[tuple[Image, Image]] | list[tuple[Image, None]]
SHORT = dict(zip(LOSSES, ("G", "D", "adv", "F", "L1", "fringes"), strict=True))


def train(
    run: Path, settings: Settings, training: Pairs, validation: Pairs, samples: Samples, distribute: str = "none"
) -> None:
    """Train the run in `run` from wherever it is to settings.epochs, and finish it.

    validation: pairs that every epoch is judged on, or none. samples: (source, target or None) for the epochs' grids.
    distribute: one of train.distribution.KINDS; of several workers only the chief writes, after every epoch.

    Raises KeyboardInterrupt, after saving, when Ctrl-C was pressed, and ToolkitError when a loss is not finite or
    another worker has gone; then the last checkpoint stays.
    """
    place = place_of(distribute)
    barrier(place)
    with translate_errors(place), locked(run, place), disk_full(run), stop_requests(place) as stop:
        strategy = strategy_of(distribute, settings.batch_size)
        if place.chief:
            for abandoned in run.rglob(".writing-*"):  # by a run that was killed
                abandoned.unlink()
        keras.utils.set_random_seed(settings.seed)
        with strategy.scope():
            trainer = Trainer(settings, teacher_of(settings))
        progress = load_checkpoint(run, trainer.state())
        if settings.init and not (progress.epoch or progress.step):
            initialise(settings, trainer.generator, trainer.averaged)
        if (settings.last if progress.settled else settings.epochs) < progress.epoch + (progress.step > 0):
            begun = f" and {progress.step} steps" if progress.step else ""
            raise InputError(f"{run} has {progress.epoch} epochs{begun} already; give more of --epochs or --finish")
        if place.chief:
            write_settings(run, settings)
        if progress.epoch or progress.step:
            print(f"resuming after {progress.epoch} epochs and {progress.step} steps")
        events = tf.summary.create_file_writer(str(run / "tensorboard")) if place.chief else None
        while progress.epoch < settings.last:
            if progress.epoch >= settings.epochs and not progress.settled:
                print("finishing: measuring the statistics of batch norm anew", flush=True)
                trainer.begin_finish(training.at(settings.size))
            progress.settled = progress.epoch >= settings.epochs
            trainer.begin_epoch(progress.epoch)
            whole = train_epoch(run, settings, training, trainer, progress, stop, place)
            means = trainer.means()
            if whole:
                trainer.reset_metrics()
            state = finite_state(trainer, means, run)  # before anything is written
            if whole:
                if events is not None:
                    means |= judged(trainer, validation)
                    write_epoch(run, trainer, progress, means, samples, events)
                progress.epoch, progress.step, progress.cpu_seconds = progress.epoch + 1, 0, 0.0
            save(run, trainer, progress, state, place)
            if stop.is_set() and progress.epoch < settings.last:
                done = f"{progress.epoch} epochs and {progress.step} steps"
                again = "" if distribute == "none" else f" --distribute {distribute}"
                print(f"saved after {done}; to go on: {resume_command(run)}{again}", file=sys.stderr)
                raise KeyboardInterrupt


def train_epoch(
    run: Path,
    settings: Settings,
    training: Pairs,
    trainer: Trainer,
    progress: Progress,
    stop: threading.Event,
    place: Place = ALONE,
) -> bool:
    """Train to the end of the epoch begun; return False when asked to stop before."""

    def feed(_: object = None) -> Any:
        return batches(
            training,
            settings.size,
            settings.batch_size,
            settings.seed,
            progress.epoch,
            progress.step,
            *(place.number, place.workers, trainer.strategy.num_replicas_in_sync),
        )

    several = trainer.strategy.num_replicas_in_sync > 1
    dataset = trainer.strategy.distribute_datasets_from_function(feed) if several else prefetch(feed())
    steps = len(training) // settings.batch_size
    saved_at, spent_before = time.monotonic(), time.process_time() - progress.cpu_seconds
    title = f"epoch {progress.epoch + 1}/{settings.last}"
    pace = 0.1 if sys.stderr.isatty() else 30.0  # seconds between lines; a log file wants fewer
    with tqdm(total=steps, initial=progress.step, desc=title, unit="step", mininterval=pace) as bar:
        for batch in dataset:
            means = trainer.step(batch, training=not progress.settled)
            progress.step += 1
            progress.cpu_seconds = time.process_time() - spent_before
            if bar.update():  # drawn only now and then, so that the losses are fetched no more often
                bar.set_postfix(shown(means), refresh=False)
            if place.workers == 1 and time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
                save(run, trainer, progress, finite_state(trainer, trainer.means(), run), place)
                saved_at = time.monotonic()
            if stop.is_set():
                break
        bar.set_postfix(shown(trainer.means()))
    return progress.step == steps


def shown(means: dict[str, Any]) -> dict[str, str]:
    return {SHORT[name]: f"{float(mean):.3f}" for name, mean in means.items() if float(mean)}


def judged(trainer: Trainer, validation: Pairs) -> Row:
    """Return the epoch's columns of validation scores, by the features of the trainer's own discriminator."""
    if not len(validation):
        return {}
    found = judge(trainer, trainer.seen, validation)
    return {f"validation_{name}": value for name, value in found.items()}


def write_epoch(run: Path, trainer: Trainer, progress: Progress, means: Row, samples: Samples, events: Any) -> None:
    """Add the epoch to the history, and write history.csv, its sample grid, the curves and its TensorBoard events."""
    number = progress.epoch + 1
    progress.history.append({"epoch": number, **means, "cpu_seconds": progress.cpu_seconds})
    with written_beside(run / "history.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, list(progress.history[0]))
        table.writeheader()
        table.writerows(progress.history)
    grid = sample_grid(trainer, samples)
    write_image(run / "samples" / f"epoch_{number:03}.png", grid)
    draw_curves(progress.history, run / "curves.png")
    with events.as_default(step=number):
        for name, value in means.items():
            tf.summary.scalar(name, value)
        tf.summary.image("samples", grid[None])
        events.flush()


def finite_state(trainer: Trainer, means: dict[str, float], run: Path) -> list[Any]:
    """Return the values of the trainer's state. Raises ToolkitError when one of them, or a loss, is not finite.

    Every worker must ask, because some of them are summed up over all.
    """
    state = [variable.numpy() for variable in trainer.state()]
    weights = "a weight", sum(float(value.sum()) for value in state if value.dtype.kind == "f")
    wrong = [name for name, value in (*means.items(), weights) if not math.isfinite(value)]
    if wrong:
        kept = f"{run} keeps its last good checkpoint" if checkpoint_path(run).exists() else "nothing was saved"
        raise ToolkitError(
            f"training diverged: {', '.join(wrong)} is not finite; {kept}; start again with another --out and a smaller"
            " --learning-rate and --discriminator-rate, another --seed or a larger --batch-size"
        )
    return state


def save(run: Path, trainer: Trainer, progress: Progress, state: list[Any], place: Place = ALONE) -> None:
    """Write the networks and then the checkpoint, so that a kill in between only repeats some steps."""
    if not place.chief:
        return
    for network in (plain_discriminator(trainer.discriminator), trainer.plain_generator()):
        with written_beside(run / f"{network.name}.keras") as temporary:
            network.save(temporary)
    save_checkpoint(run, progress, state)


def sample_grid(trainer: Trainer, samples: Samples) -> Image:
    """Return the sheet of the samples, as translated in inference mode, with the truth where it is known."""
    sources, targets = zip(*(samples[index] for index in range(len(samples))), strict=True)
    columns = {"Input": sources, "Predicted": [trainer.translate(source[None])[0] for source in sources]}
    if targets[0] is not None:
        columns["Ground truth"] = targets
    return sheet({title: [as_image(picture) for picture in pictures] for title, pictures in columns.items()})
