"""Runs that stop and go on: the same weights as without the stop, and never half a file."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pix2pix_edge.runtime.errors import InputError, ToolkitError
from pix2pix_edge.runtime.images import MARGIN, TITLE
from pix2pix_edge.train import loop
from pix2pix_edge.train.checkpoint import Progress, checkpoint_path, load_checkpoint, save_checkpoint
from pix2pix_edge.train.data import Pairs
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.judge import COLUMNS, judge
from pix2pix_edge.train.loop import finite_state, sample_grid, save, train, train_epoch
from pix2pix_edge.train.measures.statistics import settle
from pix2pix_edge.train.pairs.layouts import find_pairs
from pix2pix_edge.train.settings import FORMAT, Settings, read_settings, settings_path
from pix2pix_edge.train.trainer import LOSSES, Trainer

SETTINGS = Settings(epochs=2, filters=1, image_size=64, scales=1, seed=3, average=0.9)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    data = tmp_path_factory.mktemp("data")
    draw_folders(data, 5, 1, 72, 0)
    return Pairs(find_pairs(data)[0], 72, "label2picture")


def saved(run: Path) -> dict[str, NDArray[np.generic]]:
    """Everything in a checkpoint but the time it took: weights, optimisers, dropout's random state, means, progress."""
    with np.load(checkpoint_path(run)) as file:
        values = {name: file[name] for name in file.files}
    progress = json.loads(str(values["progress"]))
    for row in (progress, *progress["history"]):
        del row["cpu_seconds"]
    return values | {"progress": np.array(json.dumps(progress))}


def history(run: Path) -> list[dict[str, str]]:
    """The rows of history.csv, without the time they took."""
    with (run / "history.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "cpu_seconds"} for row in csv.DictReader(file)]


def stop_after_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Press Ctrl-C while the pictures of that epoch are judged."""

    def interrupted(*given: object) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        return judge(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("pix2pix_edge.train.loop.judge", interrupted)


@pytest.fixture(scope="module")
def samples(pairs: Pairs) -> Pairs:
    return Pairs(pairs.pairs[:3], 64, "label2picture")


@pytest.fixture(scope="module")
def uninterrupted(pairs: Pairs, samples: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted")
    train(run, SETTINGS, pairs, samples, samples)
    return run


def state_of(trainer: Trainer, run: Path = Path("run")) -> list[Any]:
    return finite_state(trainer, trainer.means(), run)


def assert_same(run: Path, other: Path) -> None:
    first, second = saved(run), saved(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert history(run) == history(other)


def test_a_run_resumed_within_and_after_an_epoch_ends_the_same(
    pairs: Pairs, samples: Pairs, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    keras.utils.set_random_seed(SETTINGS.seed)
    trainer = Trainer(SETTINGS)
    assert any(isinstance(layer, keras.layers.Dropout) for layer in trainer.generator.layers)  # as in a real run
    progress, stop = Progress(), threading.Event()
    stop.set()
    for step in (1, 2):
        assert not train_epoch(tmp_path, SETTINGS, pairs, trainer, progress, stop)
        assert (progress.epoch, progress.step) == (0, step)
    save(tmp_path, trainer, progress, state_of(trainer))
    del trainer
    stop_after_epoch(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, SETTINGS, pairs, samples, samples)
    monkeypatch.undo()
    keras.utils.set_random_seed(99)
    train(tmp_path, SETTINGS, pairs, samples, samples)
    assert_same(uninterrupted, tmp_path)


def norms_of(network: Any) -> list[NDArray[np.generic]]:
    """The moving statistics of a network's norms."""
    return [np.array(variable) for variable in network.variables if "moving_" in variable.path]


def test_a_run_is_finished_in_inference_mode(
    pairs: Pairs, samples: Pairs, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statistics that its average has in inference, held; the same when stopped after the first step."""
    finishing = dataclasses.replace(SETTINGS, finish=2)
    runs = [shutil.copytree(uninterrupted, tmp_path / name) for name in ("whole", "stopped")]
    with pytest.raises(InputError, match="has 2 epochs already"):  # of which none were in inference mode
        train(runs[0], dataclasses.replace(SETTINGS, epochs=1, finish=1), pairs, samples, samples)
    train(runs[0], finishing, pairs, samples, samples)
    begin = Trainer.begin_finish

    def interrupted(trainer: Trainer, given: Pairs) -> None:
        begin(trainer, given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "begin_finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(runs[1], finishing, pairs, samples, samples)
    assert json.loads(str(saved(runs[1])["progress"]))["step"] == 1
    monkeypatch.undo()
    train(runs[1], read_settings(runs[1]), pairs, samples, samples)
    assert_same(*runs)
    assert [row["epoch"] for row in history(runs[0])] == ["1", "2", "3", "4"]

    before, after = Trainer(SETTINGS), Trainer(finishing)
    load_checkpoint(uninterrupted, before.state())
    progress = load_checkpoint(runs[0], after.state())
    assert progress.settled and int(after.generator_optimizer.iterations) == 2 * len(pairs)
    unsettled = norms_of(before.averaged)
    settle(before.averaged, pairs.at((64, 64)))
    for network in (after.generator, after.averaged):
        for one, other, then in zip(norms_of(network), norms_of(before.averaged), unsettled, strict=True):
            np.testing.assert_array_equal(one, other)
            assert not np.array_equal(one, then)
    assert not np.array_equal(after.averaged.trainable_weights[0], before.averaged.trainable_weights[0])

    with pytest.raises(InputError, match="has 4 epochs already"):
        train(runs[0], dataclasses.replace(SETTINGS, finish=1), pairs, samples, samples)
    train(runs[0], dataclasses.replace(SETTINGS, epochs=5), pairs, samples, samples)  # lengthened, in training mode
    assert not load_checkpoint(runs[0], before.state()).settled
    for one, other in zip(norms_of(before.generator), norms_of(after.generator), strict=True):
        assert not np.array_equal(one, other)


def test_what_a_run_leaves(uninterrupted: Path) -> None:
    import cv2
    import keras

    rows = history(uninterrupted)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    judged = [f"validation_{name}" for name in COLUMNS if name != "l1_batch"]
    assert all(
        float(row[name]) > 0
        for row in rows
        for name in (*LOSSES, *judged)
        if name not in ("validation_labels", "adversarial")
    )
    assert cv2.imread(str(uninterrupted / "curves.png")).shape[1] > 1000
    assert len(keras.models.load_model(uninterrupted / "discriminator.keras", compile=False).inputs) == 2
    grid = cv2.imread(str(uninterrupted / "samples" / "epoch_002.png"))
    assert grid.shape[0] > 3 * 64
    assert grid.shape[1] > 3 * 64
    assert any(path.stat().st_size > 1000 for path in (uninterrupted / "tensorboard").iterdir())
    network = keras.models.load_model(uninterrupted / "generator.keras", compile=False)
    kinds = {type(layer).__module__.partition(".")[0] for layer in network.layers}
    assert kinds == {"keras"}
    values = saved(uninterrupted)
    exported = Trainer(SETTINGS)
    load_checkpoint(uninterrupted, exported.state())
    np.testing.assert_array_equal(network.get_weights()[0], exported.averaged.get_weights()[0])
    assert not np.array_equal(network.get_weights()[0], values["v0000"])
    assert not list(uninterrupted.rglob(".writing-*"))


def test_the_grid_shows_input_prediction_and_truth(samples: Pairs, uninterrupted: Path) -> None:
    import cv2

    grid = cv2.imread(str(uninterrupted / "samples" / "epoch_001.png"))[..., ::-1]
    for row in range(3):
        top = TITLE + row * (64 + MARGIN)
        cells = [grid[top : top + 64, MARGIN + k * (64 + MARGIN) :][:, :64] for k in range(3)]
        np.testing.assert_array_equal(cells[0], samples[row][0])
        np.testing.assert_array_equal(cells[2], samples[row][1])
        assert not np.array_equal(cells[1], cells[2])


def test_samples_without_a_truth_show_two_columns(samples: Pairs) -> None:
    trainer = Trainer(SETTINGS)
    three, two = sample_grid(trainer, samples), sample_grid(trainer, [(samples[0][0], None)] * 3)
    assert two.shape[0] == three.shape[0]
    assert two.shape[1] == three.shape[1] - 64 - MARGIN


def test_what_a_killed_run_left_is_removed(pairs: Pairs, samples: Pairs, uninterrupted: Path) -> None:
    (uninterrupted / "samples" / ".writing-abcepoch_009.png").write_bytes(b"half")
    train(uninterrupted, SETTINGS, pairs, samples, samples)
    assert not list(uninterrupted.rglob(".writing-*"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(pairs: Pairs, tmp_path: Path) -> None:
    trainer = Trainer(SETTINGS)
    save(tmp_path, trainer, Progress(epoch=1), state_of(trainer))
    good = saved(tmp_path)
    kernel = trainer.generator.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    train_epoch(tmp_path, SETTINGS, pairs, trainer, Progress(), threading.Event())
    with pytest.raises(ToolkitError, match="diverged: generator_loss"):
        state_of(trainer, tmp_path)
    for name, value in saved(tmp_path).items():
        np.testing.assert_array_equal(value, good[name])


def test_a_weight_that_is_not_finite_is_not_saved(
    pairs: Pairs, samples: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch may do it, after its loss was taken. Nothing of that epoch is shown either."""

    def spoiled(run: Path, settings: Settings, training: Pairs, trainer: Trainer, *_: Any) -> bool:
        bias = trainer.discriminator.trainable_variables[-1]
        bias.assign(np.full(bias.shape, np.nan))
        return True

    monkeypatch.setattr(loop, "train_epoch", spoiled)
    with pytest.raises(ToolkitError, match="diverged: a weight"):
        train(tmp_path, SETTINGS, pairs, samples, samples)
    assert {path.name for path in tmp_path.iterdir()} == {"settings.json", "tensorboard"}


def test_fewer_epochs_than_are_done_are_refused(pairs: Pairs, samples: Pairs, uninterrupted: Path) -> None:
    before = (uninterrupted / "settings.json").read_text()
    with pytest.raises(InputError, match="has 2 epochs already"):
        train(uninterrupted, dataclasses.replace(SETTINGS, epochs=1), pairs, samples, samples)
    assert (uninterrupted / "settings.json").read_text() == before


def test_fewer_steps_than_are_done_are_refused(pairs: Pairs, samples: Pairs, tmp_path: Path) -> None:
    """A whole epoch and a step of the next are no run of one epoch."""
    trainer = Trainer(SETTINGS)
    save(tmp_path, trainer, Progress(epoch=1, step=1), state_of(trainer))
    with pytest.raises(InputError, match="has 1 epochs and 1 steps already"):
        train(tmp_path, dataclasses.replace(SETTINGS, epochs=1), pairs, samples, samples)


class Variable:
    """The little of a variable that a checkpoint uses."""

    def __init__(self, value: float, shape: tuple[int, ...] = (2, 3)) -> None:
        self.value = np.full(shape, value, np.float32)
        self.shape = shape

    def assign(self, value: NDArray[np.float32]) -> None:
        self.value = value


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, [Variable(1)]) == Progress()
    progress = Progress(3, 4, 5.5, [{"epoch": 1, "l1": 0.1234567890123}])
    save_checkpoint(tmp_path, progress, [Variable(1).value, Variable(2, ()).value])
    variables = [Variable(0), Variable(0, ())]
    assert load_checkpoint(tmp_path, variables) == progress
    assert [float(variable.value.max()) for variable in variables] == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "gone"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, Progress(1), [Variable(1).value])
    path = checkpoint_path(tmp_path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"no checkpoint"}.get(damage, b""))
    if damage == "gone":
        path.unlink()
        (tmp_path / "history.csv").write_text("epoch\n1\n2\n")
    variable = Variable(0)
    with pytest.raises(InputError, match=r"checkpoint.npz cannot be resumed from"):
        load_checkpoint(tmp_path, [variable])
    assert variable.value.max() == 0


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Progress(1), [Variable(1).value])
    with pytest.raises(InputError, match="other networks"):
        load_checkpoint(tmp_path, [Variable(1, (3, 2))])


@pytest.mark.parametrize(
    "content", ["[]", '{"epoch": "3"}', '{"history": 5}', '{"history": [[1]]}', '{"step": NaN}', "[" * 100000]
)
def test_progress_of_other_types_is_refused(tmp_path: Path, content: str) -> None:
    np.savez(checkpoint_path(tmp_path), progress=content, v0000=np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match=r"checkpoint.npz cannot be resumed from"):
        load_checkpoint(tmp_path, [Variable(0)])


@pytest.mark.parametrize("content", ["[]", '{"filters": "16"}', '{"epochs": 2.5}', '{"data": {}}', "[" * 100000])
def test_settings_of_other_types_are_refused(tmp_path: Path, content: str) -> None:
    body = content if content[0] == "[" else content.replace("{", f'{{"format": "{FORMAT}", ', 1)
    settings_path(tmp_path).write_text(body)
    with pytest.raises(InputError, match=r"settings.json cannot be read"):
        read_settings(tmp_path)
