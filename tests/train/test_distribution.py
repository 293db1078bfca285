"""Several workers: the same training as one with the whole batch, one of them writes, and none outlives another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError, ToolkitError
from pix2pix_edge.runtime.frame import BadPictureError
from pix2pix_edge.train import distribution
from pix2pix_edge.train.__main__ import main
from pix2pix_edge.train.data import Pairs, batches
from pix2pix_edge.train.distribution import Place, barrier, place_of, translate_errors
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.pairs.layouts import find_pairs
from pix2pix_edge.train.trainer import LOSSES
from tests.commands import in_process, python, start
from tests.conftest import eventually, kept_ports
from tests.train.test_resume import history, saved

SMALL = ["--filters", "2", "--image-size", "32", "--batch-size", "2", "--validation", "1"]
SMALL += ["--average", "0.9", "--schedule", "constant", "--finish", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_folders(folder, 9, 2, 40, 0)
    return folder


CLOSE = 1e-4
"""Of the losses. Measured: less than 1e-5."""


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs and one to finish, of one worker on one device.

    At 32 pixels there is no dropout, whose masks would differ.
    """
    out = tmp_path_factory.mktemp("alone") / "run"
    assert in_process(main, words=["--data", data, "--out", out, "--epochs", "2", *SMALL, "--finish", "1"]) == 0
    return out


def assert_alike(run: Path, other: Path) -> None:
    """Compare losses, and norms: of Adam's momentums too, or a wrong scale of the gradients would not be seen."""
    for one, two in zip(history(run), history(other), strict=True):
        assert one.keys() == two.keys()
        for name in one:
            close = {"rel": CLOSE} if name in ("epoch", *LOSSES) else {"rel": 0.05, "abs": 0.02}  # of 8-bit pictures
            assert float(one[name]) == pytest.approx(float(two[name]), **close), name
    first, second = saved(run), saved(other)
    assert first.keys() == second.keys()
    for name in first.keys() - {"progress"}:
        assert first[name].shape == second[name].shape
        sizes = [float(np.linalg.norm(state[name].astype(np.float64))) for state in (first, second)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05, abs=1e-6), name


@contextmanager
def workers(out: Path, *options: str | Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Start two workers of one run on this machine; they are killed at the end."""
    words = ["-m", "train", "--out", out, "--distribute", "multiworker", *options]
    with kept_ports(2) as ports, ExitStack() as stack:
        cluster, started = {"worker": [f"127.0.0.1:{port}" for port in ports]}, []
        for index in range(2):
            place = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            environment = os.environ | {"TF_CONFIG": json.dumps(place), "CUDA_VISIBLE_DEVICES": "-1"}
            started.append(start(*words, env=environment))
            stack.callback(started[-1].communicate)
            stack.callback(started[-1].kill)
        yield started


@pytest.mark.parametrize("workers_", [1, 2])
def test_errors_of_tensorflow_are_told_apart(workers_: int) -> None:
    import tensorflow as tf

    def fails() -> Any:
        raise BadPictureError("a.png cannot be read")

    def raised(error: Exception | None) -> None:
        with translate_errors(Place(0, workers_)):
            if error is None:
                tf.numpy_function(fails, [], tf.uint8)
            else:
                raise error

    with pytest.raises(MemoryError):
        raised(tf.errors.ResourceExhaustedError(None, None, "no memory"))
    with pytest.raises(InputError, match=r"^a.png cannot be read$"):
        raised(None)
    gone = tf.errors.UnavailableError(None, None, "connection reset")
    with pytest.raises(ToolkitError if workers_ > 1 else tf.errors.UnavailableError):
        raised(gone)


def test_two_workers_train_as_one_with_the_whole_batch(data: Path, alone: Path, tmp_path: Path) -> None:
    """And a resumed run ends as one that was not interrupted."""
    shared = tmp_path / "shared"
    for options in (["--data", data, "--epochs", "1", *SMALL], ["--resume", "--epochs", "2", "--finish", "1"]):
        with workers(shared, *options) as started:
            ends = [(process.communicate()[1], process.returncode) for process in started]
        assert [code for _, code in ends] == [0, 0], ends[0][0] + ends[1][0]
    assert_alike(alone, shared)
    assert {path.name for path in shared.iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_ends_the_other_with_a_sentence(data: Path, tmp_path: Path, victim: int) -> None:
    run = tmp_path / "run"
    with workers(run, "--data", data, "--epochs", "100000", *SMALL) as started:
        assert eventually((run / "checkpoint.npz").exists) and all(process.poll() is None for process in started)
        started[victim].send_signal(signal.SIGKILL)
        error = started[1 - victim].communicate(timeout=600)[1]
        assert started[1 - victim].returncode == 2, error
    last = error.splitlines()[-1]
    assert last.startswith("error: another worker has gone")
    assert "--resume" in last
    assert not list(run.rglob(".writing-*")) or victim == 0


def cluster_of(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(place))


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with kept_ports(3) as ports:
        yield ports


def test_workers_meet_in_any_order(ports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "PATIENCE_S", 600.0)
    cluster_of(monkeypatch, *(f"127.0.0.1:{port}" for port in ports))
    with ThreadPoolExecutor(3) as pool:
        met = [pool.submit(barrier, Place(number, 3)) for number in (2, 0)]
        time.sleep(0.5)
        assert not any(future.done() for future in met)
        met.append(pool.submit(barrier, Place(1, 3)))
        for future in met:
            future.result()
    barrier(Place())  # alone, there is nobody to wait for


def test_a_worker_that_never_comes_is_named(ports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "PATIENCE_S", 0.2)
    here, there, _ = ports
    cluster_of(monkeypatch, f"127.0.0.1:{here}", f"127.0.0.1:{there}")
    with pytest.raises(
        ToolkitError, match=rf"^worker 1 at 127.0.0.1:{there} did not come within 0.2 s; start the same"
    ):
        barrier(Place(0, 2))
    with (
        socket.create_server(("127.0.0.1", there)),  # it listens, and cannot reach us
        pytest.raises(ToolkitError, match=f"another worker does not reach 127.0.0.1:{here}; open this port"),
    ):
        barrier(Place(0, 2))
    for port in ("x", "99999"):
        cluster_of(monkeypatch, f"127.0.0.1:{port}", f"127.0.0.1:{there}")
        with pytest.raises(InputError, match="give it a free port"):
            barrier(Place(0, 2))
    with socket.create_server(("127.0.0.1", here)):
        cluster_of(monkeypatch, f"127.0.0.1:{here}", f"127.0.0.1:{there}")
        with pytest.raises(InputError, match="give it a free port"):
            barrier(Place(0, 2))


def test_parts_of_a_batch_make_up_the_whole(data: Path) -> None:
    pairs = Pairs(find_pairs(data)[0], 40, "label2picture")

    def read(**share: int) -> list[Any]:
        return [np.array(source) for source, _ in batches(pairs, 32, 4, 1, 0, **share)]

    whole = read()
    assert [len(batch) for batch in whole] == [4, 4]
    two = [read(worker=worker, workers=2, replicas=2) for worker in range(2)]
    four = [read(worker=worker, workers=2, replicas=4) for worker in range(2)]
    for step in range(2):
        np.testing.assert_array_equal(whole[step], np.concatenate([two[0][step], two[1][step]]))
        parts = [part for worker in four for part in worker[2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(whole[step], np.concatenate(parts))
    np.testing.assert_array_equal(read(skip=1, worker=1, workers=2, replicas=2)[0], two[1][1])


@pytest.mark.parametrize(
    "config",
    [None, "", "{}", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'],
)  # fmt: skip
def test_a_multiworker_run_without_a_cluster_is_refused(config: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match="set it on every worker, like this"):
        place_of("multiworker")
    assert place_of("mirrored").chief


TWO_DEVICES = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
class TwoCpus(tf.distribute.MirroredStrategy):  # takes every GPU otherwise
    def __init__(self):
        super().__init__(["CPU:0", "CPU:1"])
tf.distribute.MirroredStrategy = TwoCpus
from pix2pix_edge.train.__main__ import main
assert main(sys.argv[1:]) == 0
sys.exit(main([*sys.argv[1:], "--out", "three", "--batch-size", "3"]))
"""


def test_two_devices_train_as_one_with_the_whole_batch(data: Path, alone: Path, tmp_path: Path) -> None:
    words = ["--data", data, "--out", tmp_path / "two", "--epochs", "2", *SMALL, "--finish", "1"]
    words += ["--distribute", "mirrored"]
    done = python("-c", TWO_DEVICES, *words)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith("error: --batch-size 3 cannot be shared evenly by 2 replicas")
    assert_alike(alone, tmp_path / "two")
