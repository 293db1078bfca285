"""The command, as a user runs it: its files, its refusals, Ctrl-C, a kill, and --resume."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import ToolkitError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.train.__main__ import main
from pix2pix_edge.train.checkpoint import checkpoint_path
from pix2pix_edge.train.distribution import Place
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.guards import disk_full, locked
from pix2pix_edge.train.networks import discriminator, generator
from pix2pix_edge.train.settings import Settings, settings_path, write_settings
from tests.commands import in_process, start
from tests.conftest import eventually
from tests.train.test_resume import assert_same

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
SMALL = ["--filters", "1", "--image-size", "32", "--schedule", "constant", "--finish", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_folders(folder, 6, 2, 40, 0)
    return folder


def run_main(*options: object) -> int:
    return in_process(main, words=options)


def progress(run: Path) -> dict[str, int]:
    with np.load(checkpoint_path(run)) as saved:
        return json.loads(str(saved["progress"]))


def wait_for_epochs(run: Path, process: subprocess.Popen[str], epochs: int) -> None:
    history = run / "history.csv"

    def done() -> bool:
        return history.exists() and len(history.read_text().splitlines()) > epochs and checkpoint_path(run).exists()

    eventually(lambda: done() or process.poll() is not None)
    assert done() and process.poll() is None, f"the run ended or hung before {epochs} epochs: {process.poll()}"


def test_ctrl_c_and_a_kill_change_nothing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stop a run with Ctrl-C, go on, kill it, go on; then compare with a run that was left alone."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    with start("-m", "train", "--data", data, "--out", run, "--epochs", "100000", *SMALL) as first:
        wait_for_epochs(run, first, 2)
        first.send_signal(signal.SIGINT)
        errors = first.communicate()[1]
    assert first.returncode == 130, errors
    assert "saved after" in errors
    assert f"--out {run} --resume" in errors
    assert "Traceback" not in errors
    assert not list(run.rglob(".writing-*"))
    interrupted = progress(run)

    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        start("-m", "train", "--out", run, "--resume", env=ENVIRONMENT, stderr=stderr) as second,
    ):
        wait_for_epochs(run, second, interrupted["epoch"] + 3)
        second.kill()
    assert second.returncode == -signal.SIGKILL
    noise = [line for line in log.read_text().splitlines() if "oneDNN" in line or "cuda" in line.lower()]
    assert not noise, "TensorFlow's greetings reach the user"
    last = progress(run)["epoch"] + 1
    assert last > interrupted["epoch"] + 2

    capsys.readouterr()
    assert run_main("--out", run, "--resume", "--epochs", last) == 0
    assert "resuming after" in capsys.readouterr().out
    assert run_main("--data", data, "--out", alone, "--epochs", last, *SMALL) == 0
    assert "6 pairs to train on, 0 to judge epochs by, 2 held out" in capsys.readouterr().out
    assert_same(run, alone)
    names = {path.name for path in alone.iterdir()}
    assert names == {
        *("settings.json", "checkpoint.npz", "generator.keras", "discriminator.keras"),
        *("history.csv", "curves.png", "samples", "tensorboard", "palette.json"),
    }
    assert len(list((alone / "samples").iterdir())) == last


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--filters", "0", "must be at least 1, got 0"),
        ("--epochs", "many", "expected a whole number"),
        ("--finish", "-1", "must be at least 0, got -1"),
        ("--out", "", "must not be empty"),
        ("--image-size", "64x", "expected a whole number, got ''"),
        ("--image-size", "100", "multiples of 16 from 32 to 2048"),
        ("--l1-weight", "-1", "not below 0"),
        ("--l1-weight", "nan", "not below 0"),
        ("--batch-size", "0", "must be at least 1"),
        ("--limit", "0", "must be at least 1"),
        ("--average", "1", "must be below 1"),
        ("--feature-weight", "-0.1", "not below 0"),
        ("--adversarial", "wasserstein", "invalid choice"),
        ("--scales", "0", "must be at least 1"),
        ("--seed", "-1", "must be at least 0"),
        ("--direction", "sideways", "invalid choice"),
    ],
)
def test_bad_options(option: str, value: str, expected: str, refused: Callable[[int], str]) -> None:
    message = refused(run_main("--data", "d", "--out", "o", option, value))
    assert expected in message and option in message


def test_bad_data_stops_before_training(data: Path, tmp_path: Path, refused: Callable[[int], str]) -> None:
    assert "is not a folder" in refused(run_main("--data", tmp_path / "nowhere", "--out", tmp_path / "run"))
    bad = tmp_path / "bad"
    for path in data.rglob("*.png"):
        target = bad / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes()[:300] if path.name == "2.png" else path.read_bytes())
    message = refused(run_main("--data", bad, "--out", tmp_path / "run"))
    assert "4 of the files" in message  # train and test, label and picture
    assert "train_label/2.png is not a whole image" in message
    for path in bad.rglob("*.png"):
        path.write_text("version https://git-lfs.github.com/spec/v1")
    message = refused(run_main("--data", bad, "--out", tmp_path / "run"))
    assert "1.png is a pointer of Git LFS" in message and message.endswith("fetch the file: git lfs pull\n")
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_together(data: Path, tmp_path: Path, refused: Callable[[int], str]) -> None:
    run = tmp_path / "run"
    for options, expected in (
        (["--data", data, "--out", run, "--batch-size", 7], "leaves fewer than a batch of 7"),
        (["--out", run], "--data is missing"),
        (["--out", run, "--data", ""], "--data is missing"),
        (["--out", run, "--data", "drawn:labels", "--palette"], "leave out channels, WxH and --palette"),
        (
            ["--data", data, "--out", run, "--samples", tmp_path / "nowhere"],
            "nowhere holds no images; give --samples a folder",
        ),
        (
            ["--data", data, "--out", run, "--validation", 6],
            "--validation 6 of 6 training pairs leaves fewer than a batch of 1",
        ),
        (["--out", run, "--resume"], "holds no run to resume"),
        (["--data", data, "--out", data / "train_label" / "run"], "train_label/run is among the pairs"),
        (["--data", "drawn:labels", "--out", run, "--limit", 2, "--batch-size", 3], "--batch-size 3 is more than"),
    ):
        assert expected in refused(run_main(*options))
    assert not run.exists()

    write_settings(run, Settings(data=str(data), filters=16, pairs=6))
    for options, expected in (
        (["--data", data, "--out", run], "already holds a run"),
        (["--out", run, "--resume", "--filters", 8, "--seed", 1], "--filters 16 (now 8), --seed 0 (now 1)"),
        (["--out", run, "--resume", "--no-augment"], "--augment True (now False)"),
    ):
        assert expected in refused(run_main(*options))

    checkpoint_path(run).touch()
    resume = ("--out", run, "--resume")
    assert "has its own weights; leave out --init" in refused(run_main(*resume, "--init", run / "generator.keras"))
    write_settings(run, Settings(data=str(data), pairs=5))
    assert "started on 5 pairs" in refused(run_main(*resume))
    for name in ("teacher", "another"):
        (tmp_path / name).write_text(name)
    taught_by = sha256_of(tmp_path / "teacher")
    write_settings(run, Settings(data=str(data), pairs=6, teacher=str(tmp_path / "teacher"), teacher_sha256=taught_by))
    said = refused(run_main(*resume, "--teacher", tmp_path / "another"))
    assert "another is not the teacher that the run began with" in said
    (run / "settings.json").write_text("{")
    assert "settings.json cannot be read" in refused(run_main(*resume))


def test_a_teacher_that_does_not_fit(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, network in (
        ("small", generator(1, 32)), ("large", generator(1, 64)), ("other", discriminator(1, 32)),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        network.save(tmp_path / name / "generator.keras")
    write_settings(tmp_path / "small", Settings(direction="picture2label"))
    run = tmp_path / "run"
    for name, expected in (
        ("large", "makes [64, 64, 3] of [64, 64, 3], and this run [32, 32, 3] of [32, 32, 3]"),
        ("small", "was trained with --direction picture2label, not label2picture"),
        ("other", "is not a generator of this project"),
        ("missing", "there is no file"),
    ):
        teacher = tmp_path / name / "generator.keras"
        assert run_main("--data", data, "--out", run, "--teacher", teacher, *SMALL) == 2
        message = capfd.readouterr().err.splitlines()[-1]
        assert message.startswith("error: ") and expected in message
        assert not run.exists()


def test_without_held_out_pairs_the_samples_are_training_pairs(tmp_path: Path) -> None:
    draw_folders(tmp_path / "data", 2, 0, 40, 0)
    assert run_main("--data", tmp_path / "data", "--out", tmp_path / "run", "--epochs", 1, *SMALL) == 0
    grid = read_image(tmp_path / "run" / "samples" / "epoch_001.png")
    assert grid.shape[0] < 4 * 36  # two rows of 32 pixels, and not of the 36 that are cropped


def test_a_folder_that_cannot_be_written(data: Path, tmp_path: Path, refused: Callable[[int], str]) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(run_main("--data", data, "--out", tmp_path / "file" / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_that_is_going_on_is_left_alone(data: Path, tmp_path: Path, refused: Callable[[int], str]) -> None:
    with locked(tmp_path / "run", Place()):
        said = refused(run_main("--data", data, "--out", tmp_path / "run", "--epochs", 1, *SMALL))
        assert "is being trained in by another process; wait for it" in said
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_named_with_what_mends_it(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"is full.*start again"), disk_full(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    settings_path(tmp_path).touch()  # a run has begun there
    with pytest.raises(ToolkitError, match=r"is full.*--resume"), disk_full(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), disk_full(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
