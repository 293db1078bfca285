"""The search for what may be INT8, on layers whose costs are made up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from pix2pix_edge.export.fidelity import Fidelity
from pix2pix_edge.export.int8.placement import Layer
from pix2pix_edge.export.int8.search import Request, Search
from pix2pix_edge.export.int8.targets import Cpu
from pix2pix_edge.runtime.errors import GateFailedError
from pix2pix_edge.runtime.sidecar import Gate

ARITHMETIC = {"large": 100, "middle": 50, "small": 20, "least": 10}


def found(monkeypatch: pytest.MonkeyPatch, fatal: Sequence[Collection[str]]) -> list[str]:
    """Return what is INT8 where every layer costs 45 dB, and those of `fatal` together spoil one image."""
    layers = [Layer((name,), name, (name,), (), count, 1) for name, count in ARITHMETIC.items()]

    def attempt(self: Search, kept: Sequence[Layer], *rest: Any) -> tuple[Fidelity, None, Path]:
        names = {layer.name for layer in kept}
        spoiled = any(names.issuperset(each) for each in fatal)
        return Fidelity([40.0, 20.0 if spoiled else 39.0], [0.99, 0.99], [9, 9]), None, Path("judged.onnx")

    monkeypatch.setattr(Search, "__init__", lambda self: None)
    monkeypatch.setattr(Search, "_ranges", lambda *known: {})
    monkeypatch.setattr(Search, "_alone", lambda *known: dict.fromkeys(ARITHMETIC, Fidelity([45.0], [0.99], [9])))
    monkeypatch.setattr(Search, "_attempt", attempt)
    search = Search()  # type: ignore[call-arg]
    search.layers = layers
    search.request = Request(Path("a.fp32.onnx"), Path("data"), 1, "minmax", Gate(30, 0.9, 32))
    return [layer.name for layer in search.best(Cpu).kept]


@pytest.mark.parametrize(
    ("fatal", "kept"),
    [
        ([], list(ARITHMETIC)),
        ([["large"]], ["middle", "small", "least"]),
        ([["small"]], ["large", "middle", "least"]),
        ([["large", "middle"]], ["large", "small", "least"]),
        ([["large"], ["middle", "least"]], ["middle", "small"]),
    ],
    ids=str,
)
def test_layers_that_spoil_the_worst_image_stay_out_and_no_others(
    fatal: list[list[str]], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(monkeypatch, fatal) == kept


def test_nothing_is_found_where_each_layer_spoils_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GateFailedError, match="no layer can be INT8"):
        found(monkeypatch, [[name] for name in ARITHMETIC])
