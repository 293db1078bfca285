"""The whole command on a real Ray, local: run with `make test-batch`, in an environment that has it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.frame import fit
from pix2pix_edge.runtime.images import encode_image, read_image
from tests.commands import python, start
from tests.conftest import REPOSITORY, eventually, picture, write_inverter, write_rgb

pytest.importorskip("ray")
BATCH = ("-m", "pix2pix_edge", "batch")
BUNDLED = REPOSITORY / "models" / "facades.int8.cpu.onnx"
pytestmark = pytest.mark.slow


def batch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return python(*BATCH, *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for index in range(150):
        write_rgb(folder / f"{index}.png", picture(index % 60, 40, 50))
    return folder


def rows(sink: Path) -> list[dict[str, object]]:
    import pyarrow.parquet

    return list(pyarrow.parquet.read_table(sink / "manifest").to_pylist())


def test_each_picture_is_the_engine_s_and_a_bad_one_is_named(folder: Path, inverter: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / "in").mkdir(exist_ok=True)
        os.link(path, tmp_path / "in" / path.name)
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    done = batch("--engine", inverter, "--source", tmp_path / "in", "--sink", tmp_path / "out", "--workers", "2")
    assert done.returncode == 1 and "1 could not be" in done.stdout and "bad.png is not" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    found = rows(tmp_path / "out")
    assert len(found) == 151 and len({row["output"] for row in found}) == 151
    assert [str(row["source"]).endswith("bad.png") for row in found if row["error"]] == [True]
    with open_engine(inverter) as engine:
        for path in sorted(folder.iterdir())[::29]:
            expected = engine(fit(read_image(path), (32, 32, 3))[None])[0]
            assert np.array_equal(read_image(tmp_path / "out" / path.name), expected)
    again = batch("--engine", inverter, "--source", folder, "--sink", tmp_path / "out")
    assert again.returncode == 0 and "150 of them done before" in again.stdout


def test_killed_20_times_at_random_it_loses_doubles_and_halves_nothing(folder: Path, tmp_path: Path) -> None:
    source, sink, count = tmp_path / "in", tmp_path / "out", 2000
    source.mkdir()
    for number in range(count):
        os.link(folder / f"{number % 150}.png", source / f"{number}.png")
    words = ("--engine", BUNDLED, "--source", source, "--sink", sink)
    random, kills = np.random.default_rng(), 0
    for _ in range(20):
        with start(*BATCH, *words, start_new_session=True, stderr=subprocess.DEVNULL) as process:
            assert process.stdout and "2000 pictures" in process.stdout.readline()  # those killed before are gone now
            before, end = len(list(sink.glob("*.png"))), time.monotonic() + 60
            while len(list(sink.glob("*.png"))) == before and process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.8))
            kills += process.poll() is None
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(process.pid, signal.SIGKILL)
    left = len(list(sink.glob("*.png")))
    done = batch(*words)
    print(f"{kills} kills; {left} of {count} were there before the last run")
    assert done.returncode == 0, done.stderr
    found = [row for row in rows(sink) if not row["error"]]
    assert len(found) == count and {Path(str(row["output"])).name for row in found} == {
        p.name for p in source.iterdir()
    }
    with open_engine(BUNDLED) as engine:
        expected = [engine(fit(read_image(folder / f"{number}.png"), (256, 256, 3))[None])[0] for number in range(150)]
    for number in range(count):
        assert (sink / f"{number}.png").read_bytes() == encode_image(".png", expected[number % 150])
    assert len(list(sink.glob("*.png"))) == count


def test_a_sigterm_ends_it_as_ctrl_c_does_and_what_was_done_is_noted(folder: Path, tmp_path: Path) -> None:
    words = ("--engine", BUNDLED, "--source", folder, "--sink", tmp_path / "out")
    with start(*BATCH, *words) as process:
        assert eventually(lambda: list((tmp_path / "out").glob("*.png")) or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=400)
    assert process.returncode == 130 and stderr.endswith("interrupted\n"), stderr
    assert "SIGTERM" not in stderr and "Traceback" not in stderr
    (tmp_path / "out" / ".writing-killed.png").write_bytes(
        b"half"
    )  # as a worker leaves it that is killed while it writes
    done = batch(*words)
    assert done.returncode == 0 and len(list((tmp_path / "out").glob("*.png"))) == 150, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_named_and_leaves_nothing_half_written(folder: Path, inverter: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", disk], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        full = batch("--engine", inverter, "--source", folder, "--sink", disk / "out")
        assert full.returncode == 1 and "Traceback" not in full.stderr, full.stdout + full.stderr
        assert "No space left on device; make room, or write elsewhere" in full.stdout + full.stderr
        pictures = list((disk / "out").glob("*.png"))
        assert 0 < len(pictures) < 150 and all(read_image(path).shape == (32, 32, 3) for path in pictures)
        assert not list((disk / "out").rglob(".writing-*"))
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        again = batch("--engine", inverter, "--source", folder, "--sink", disk / "out")
        assert again.returncode == 0 and len(list((disk / "out").glob("*.png"))) == 150, again.stderr
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_an_engine_that_does_not_fit_and_a_sink_that_is_read(folder: Path, inverter: Path, tmp_path: Path) -> None:
    words = ("--source", folder, "--sink")
    assert "which is read" in batch("--engine", inverter, *words, folder).stderr
    batches = write_inverter(tmp_path / "four.onnx", batch=4)
    assert "takes a batch of 4" in batch("--engine", batches, *words, tmp_path / "out").stderr
    assert batch("--engine", inverter, *words, tmp_path / "out").returncode == 0
    other = write_inverter(tmp_path / "other.onnx", 64)
    refused = batch("--engine", other, *words, tmp_path / "out")
    assert refused.returncode == 2 and "of another engine" in refused.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nobody"])
def test_an_address_where_no_cluster_is(folder: Path, inverter: Path, tmp_path: Path, address: str) -> None:
    words = ("--engine", inverter, "--source", folder, "--sink", tmp_path / "out", "--address", address)
    refused = batch(*words)
    assert refused.returncode == 2 and f"no Ray cluster can be used at {address}" in refused.stderr
    assert refused.stderr.count("\n") == 1 and "Traceback" not in refused.stderr
