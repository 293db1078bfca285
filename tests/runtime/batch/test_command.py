"""What is refused before any Ray is started."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import pytest

from pix2pix_edge.runtime.batch import command, translator
from pix2pix_edge.runtime.errors import InputError


def test_a_ray_that_is_too_old_is_named_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("ray")
    old.__version__ = "2.9.3"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", old)
    with pytest.raises(InputError, match=r"Ray 2\.9\.3 is too old, 2\.40 is needed; run: pip install --upgrade"):
        next(command._rows(argparse.Namespace(address=None), [("a.png", "b.png")]))


def test_an_engine_that_is_not_on_a_node_is_named_with_the_node(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.onnx is not on the node .+; copy it there, to the same path"):
        translator.Translator(str(tmp_path / "engine.onnx"), "auto", 1, "stretch")
