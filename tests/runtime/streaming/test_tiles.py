"""Pictures in tiles: whole, of any size, without a seam, and in flat memory."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.sidecar import TensorSpec
from pix2pix_edge.runtime.streaming.tiles import OVERLAP, Tiles, spread
from tests.commands import run
from tests.conftest import write_inverter, write_rgb


@given(length=st.integers(8, 400), size=st.integers(8, 64))
@settings(max_examples=100)
def test_the_weights_of_every_pixel_add_up_to_one(length: int, size: int) -> None:
    length = max(length, size)
    total = np.zeros(length)
    tiles = spread(length, size)
    for start, weights in tiles:
        assert 0 <= start <= length - size and weights.min() > 0
        total[start : start + size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    starts = [start for start, _ in tiles]
    assert all(b - a <= size - size // OVERLAP for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("shape", [(32, 32), (33, 100), (7, 90), (200, 131)])
def test_an_engine_of_single_pixels_gives_the_whole_picture_exactly(inverter: Path, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    with open_engine(inverter, backend="onnxruntime") as engine:
        assert np.array_equal(Tiles(engine).submit(image[None]).result()[0], 255 - image)


class Disagreeing(HostEngine):
    """Gives black for one tile and white for the next: the worst that neighbours can disagree."""

    kind = "disagreeing"

    def __init__(self) -> None:
        super().__init__(slots=2)
        self.input, self.output = (TensorSpec(n, (1, 64, 64, 3), "uint8") for n in ("image", "translated"))
        self.calls = 0

    def describe(self) -> dict[str, str]:
        return {}

    def _run(self, images: Images) -> Images:
        self.calls += 1
        return np.full(images.shape, 255 * (self.calls % 2), np.uint8)


def test_no_seam_can_be_seen_where_tiles_disagree() -> None:
    with Disagreeing() as engine:
        result = Tiles(engine).submit(np.zeros((1, 64, 256, 3), np.uint8)).result()[0].astype(int)
        assert engine.calls == 5
    assert result.min() == 0 and result.max() == 255
    overlap = 64 - (256 - 64) / 4
    # black turns to white over the whole overlap, in steps of equal size, and never at once
    assert np.abs(np.diff(result, axis=1)).max() <= 255 / (overlap + 1) + 1


def test_a_large_picture_needs_no_memory_but_its_own_and_a_row_of_tiles(tmp_path: Path) -> None:
    path = write_inverter(tmp_path / "i.fp32.onnx", 256)
    image = np.zeros((1, 2160, 3840, 3), np.uint8)  # 4K
    with open_engine(path, backend="onnxruntime") as engine:
        tracemalloc.start()
        result = Tiles(engine).submit(image).result()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert result.min() == 255
    row = 256 * 3840 * 3 * 4
    assert peak < 2 * image.nbytes + 4 * row


def test_the_command_translates_a_larger_picture_whole(inverter: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (70, 110, 3), np.uint8)
    source = write_rgb(tmp_path / "in.png", image)
    assert run("--engine", inverter, "--source", source, "--sink", tmp_path / "out.png", "--fit", "tile") == 0
    assert np.array_equal(read_image(tmp_path / "out.png"), 255 - image)
