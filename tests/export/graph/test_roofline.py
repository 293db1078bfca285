"""The rule that chooses a form: the forms it takes for known layers, and that it is a rule of the layer alone."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_edge.export.graph import polyphase, roofline
from pix2pix_edge.export.graph.polyphase import Axis, Site, stand_in
from pix2pix_edge.export.graph.roofline import choose, estimate

F = 64
GENERATOR = [(8 * F, 8 * F, 2), (16 * F, 8 * F, 4), (16 * F, 8 * F, 8), (16 * F, 4 * F, 16), (8 * F, 2 * F, 32),
             (4 * F, F, 64), (2 * F, 3, 128)]  # fmt: skip
"""Channels in and out, and size of the small map, of the 64-filter generator's decoder."""


def site_of(inputs: int, outputs: int, size: int, kernel: int = 4) -> Site:
    axis = Axis(size, kernel, (kernel - 1) // 2, kernel // 2)
    weight = stand_in((outputs, inputs, kernel, kernel), np.dtype(np.float32))
    return Site("conv", "x", "y", axis, axis, weight, np.zeros(outputs, np.float32))


@pytest.mark.parametrize("layer", GENERATOR)
def test_the_box_form_serves_every_level_of_the_generator(layer: tuple[int, int, int]) -> None:
    assert choose(site_of(*layer)) == "box"


def test_the_choice_depends_little_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for balance in (2, 60):
        monkeypatch.setattr(roofline, "BALANCE", balance)
        assert {choose(site_of(*layer)) for layer in GENERATOR} == {"box"}


def test_few_results_of_an_odd_kernel_are_convolved_at_once() -> None:
    """Four convolutions with three outputs each would leave most lanes idle."""
    assert choose(site_of(64, 3, 128, kernel=3)) == "dense"


def test_a_map_of_one_cell_takes_the_form_that_leaves_out_what_meets_zeros() -> None:
    layer = site_of(512, 512, 1)
    assert estimate(layer, choose(layer)).weight_bytes < estimate(layer, "none").weight_bytes / 3


@pytest.mark.parametrize("form", ["none", *polyphase.FORMS])
def test_hand_counts_of_a_layer(form: str) -> None:
    inputs, outputs, size = 256, 64, 64
    box = 4 * 4 * (size + 1) ** 2 * inputs * outputs + 9 * (2 * size) ** 2 * outputs
    taps = {"none": 64, "phases": 25, "dense": 36}
    expected = box if form == "box" else taps[form] * size**2 * inputs * outputs
    cost = estimate(site_of(inputs, outputs, size), form)
    assert cost.multiply_adds == expected
    weights = {"none": 16, "box": 16, **{f: taps[f] for f in ("phases", "dense")}}[form]
    biases = {"phases": 4, "dense": 4}.get(form, 1) * outputs + (9 * outputs if form == "box" else 0)
    assert cost.weight_bytes == 4 * (weights * inputs * outputs + biases)
