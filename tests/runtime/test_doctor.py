from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from pix2pix_edge.runtime import doctor
from tests.commands import python

WANTED = (
    "Python", "OS", "CPU features", "OpenCV", "PyAV", "ONNX Runtime", "TensorFlow", "TensorRT", "CUDA", "GPU", "Jetson",
    "JetPack", "Display",
)  # fmt: skip


def test_the_table_has_a_value_in_every_row() -> None:
    table = dict(doctor.rows())
    assert set(WANTED) <= set(table)
    assert all(table.values()) and not any("\n" in value for value in table.values())
    assert "GStreamer" in table["OpenCV"] and "CPU" in table["ONNX Runtime"]
    assert not [value for value in table.values() if "cannot be told" in value]


def test_the_command_prints_it_without_loading_tensorflow() -> None:
    done = python("-X", "importtime", "runtime/run.py", "doctor")
    assert done.returncode == 0
    assert [name for name in WANTED if not any(line.startswith(name) for line in done.stdout.splitlines())] == []
    assert "tensorflow" not in done.stderr.split()


def test_a_broken_library_is_a_row_not_a_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise RuntimeError('libGL.so.1 is\\nmissing')")
    (tmp_path / "onnxruntime.py").write_text("import absent_dependency")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("cv2", "onnxruntime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    table = dict(doctor.rows())
    assert table["OpenCV"] == "cannot be told: RuntimeError: libGL.so.1 is missing"
    assert "not installed" in table["ONNX Runtime"] or "absent_dependency" in table["ONNX Runtime"]


def test_a_package_without_metadata_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("importlib.metadata.version", _no_metadata)
    assert dict(doctor.rows())["pycuda"] == "installed, without a version"


def _no_metadata(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)
