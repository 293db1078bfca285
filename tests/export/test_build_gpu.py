"""The whole path with NVIDIA's TensorRT on a real GPU: build, prove, compare, open, translate.

pytest -m gpu
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.export.build import build, cache_name
from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.export.tensorrt.proof import translated
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.nvidia.capabilities import probe
from pix2pix_edge.runtime.sidecar import Precision
from tests.export.small_network import CONVOLUTIONS, PRECISIONS, write_small_network

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def machine() -> None:
    pytest.importorskip("tensorrt")
    pytest.importorskip("pycuda")
    probe.cache_clear()
    if probe().gpu is None:
        pytest.skip(probe().gpu_missing)


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_is_built_proven_and_translates(tmp_path: Path, precision: str, batch: int | None) -> None:
    source = write_small_network(tmp_path / f"a.{precision}.onnx", precision, size=64, width=32)
    sidecar = build(source, tmp_path / "a.plan", batch=batch)
    assert sidecar.precision == Precision(precision, CONVOLUTIONS[precision])
    assert sidecar.fidelity and sidecar.fidelity.psnr_db > 40
    assert (tmp_path / cache_name(probe())).stat().st_size > 0
    images = np.stack(drawn_images((64, 64, 3)))
    with open_engine(tmp_path / "a.plan") as plan, open_engine(source, backend="onnxruntime") as reference:
        assert plan.input.shape == (batch or 1, 64, 64, 3)
        difference = np.abs(translated(plan, images).astype(int) - translated(reference, images))
        assert difference.mean() < 2
