from __future__ import annotations

import os
import sys

import pytest


@pytest.fixture(params=["PyAV", "OpenCV"])
def encoder(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """What encodes videos, here and in the processes that a test starts."""
    if request.param == "PyAV":
        pytest.importorskip("av")
        return "PyAV"
    folder = tmp_path_factory.mktemp("without_pyav")
    (folder / "av.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setitem(sys.modules, "av", None)
    return "OpenCV"
