"""The whole command on a real Ray, local: run with `make test-batch`, in an environment that has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.images import read_image
from tests.conftest import REPOSITORY, picture, write_inverter, write_rgb

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


def batch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pix2pix_edge", "batch", *map(str, words)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)


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
        from pix2pix_edge.runtime.frame import fit

        for path in sorted(folder.iterdir())[::29]:
            expected = engine(fit(read_image(path), 32)[None])[0]
            assert np.array_equal(read_image(tmp_path / "out" / path.name), expected)
    again = batch("--engine", inverter, "--source", folder, "--sink", tmp_path / "out")
    assert again.returncode == 0 and "150 of them done before" in again.stdout


def test_after_a_kill_the_next_run_loses_and_doubles_nothing(folder: Path, inverter: Path, tmp_path: Path) -> None:
    sink = tmp_path / "out"
    words = [sys.executable, "-m", "pix2pix_edge", "batch", "--engine", inverter, "--source", folder, "--sink", sink]
    process = subprocess.Popen(list(map(str, words)), cwd=REPOSITORY, start_new_session=True, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list(sink.glob("*.png"))) < 20 and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = batch("--engine", inverter, "--source", folder, "--sink", sink)
    assert done.returncode == 0, done.stderr
    found = [row for row in rows(sink) if not row["error"]]
    assert len(found) == 150 and {Path(str(row["output"])).name for row in found} == {p.name for p in folder.iterdir()}
    assert all(read_image(path).shape == (32, 32, 3) for path in sink.glob("*.png"))


def test_an_engine_that_does_not_fit_and_a_sink_that_is_read(folder: Path, inverter: Path, tmp_path: Path) -> None:
    words = ("--source", folder, "--sink")
    assert "which is read" in batch("--engine", inverter, *words, folder).stderr
    batches = write_inverter(tmp_path / "four.onnx", batch=4)
    assert "takes a batch of 4" in batch("--engine", batches, *words, tmp_path / "out").stderr
    assert batch("--engine", inverter, *words, tmp_path / "out").returncode == 0
    other = write_inverter(tmp_path / "other.onnx", 64)
    refused = batch("--engine", other, *words, tmp_path / "out")
    assert refused.returncode == 2 and "of another engine" in refused.stderr


def test_an_address_where_no_cluster_is(folder: Path, inverter: Path, tmp_path: Path) -> None:
    words = ("--engine", inverter, "--source", folder, "--sink", tmp_path / "out", "--address", "127.0.0.1:1")
    refused = batch(*words)
    assert refused.returncode == 2 and "no Ray cluster can be used at 127.0.0.1:1" in refused.stderr
    assert refused.stderr.count("\n") < 4 and "Traceback" not in refused.stderr
