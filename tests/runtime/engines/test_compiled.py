"""What OpenVINO compiled is found again: for the same content and settings, whole, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines import compiled, openvino
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.sidecar import Sidecar, write_sidecar
from tests.conftest import write_inverter

pytest.importorskip("openvino")
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_inverter(tmp_path / "inverter.onnx")
    write_sidecar(path, Sidecar())
    return path


def blobs(exported: Path) -> list[Path]:
    return sorted((exported.parent / "cache").rglob("*.*"))


def inverts(path: Path, threads: int = 1) -> bool:
    with open_engine(path, backend="openvino", precision="fp32", threads=threads) as engine:
        return np.array_equal(engine(IMAGE), 255 - IMAGE)


def refuse(*_: object) -> None:
    raise EngineError("it was looked at anew")


def test_the_next_start_takes_what_was_kept(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inverts(exported) and len(blobs(exported)) == 1
    assert blobs(exported)[0].parent.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(openvino, "check_sizes", refuse)
    assert inverts(exported)
    other = write_inverter(exported.parent / "other.onnx", size=64)
    write_sidecar(other, Sidecar())
    with pytest.raises(EngineError, match="looked at anew"):
        inverts(other)
    if len(os.sched_getaffinity(0)) > 1:
        with pytest.raises(EngineError, match="looked at anew"):
            inverts(exported, threads=2)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:], lambda _: b""])
def test_what_is_damaged_is_made_anew(exported: Path, damage: object) -> None:
    assert inverts(exported)
    blob = blobs(exported)[0]
    whole = blob.read_bytes()
    blob.write_bytes(damage(whole))  # type: ignore[operator]
    assert inverts(exported) and compiled.kept(blob) is not None
    compiled.keep(blob, b"no network of OpenVINO's")
    assert inverts(exported) and compiled.kept(blob) != b"no network of OpenVINO's"


def test_what_is_not_kept_runs_all_the_same(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported.with_name("inverter.onnx.json").unlink()
    assert inverts(exported) and blobs(exported) == []  # no exported file: a candidate of quantize, say
    write_sidecar(exported, Sidecar())
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "LARGEST", 10)
        assert inverts(exported) and blobs(exported) == []
    with monkeypatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(exported))  # where no folder can be made
        assert inverts(exported)
    with monkeypatch.context() as patched:
        patched.delenv("XDG_CACHE_HOME")
        patched.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
        assert inverts(exported)
    assert blobs(exported) == []


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST", 2)
    for number in range(4):
        path = tmp_path / f"{number}.blob"
        compiled.keep(path, b"network")
        os.utime(path, (time.time() - 100 + number,) * 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.blob", "3.blob"]
