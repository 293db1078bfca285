"""A small generator, and a plan of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.small_network import write_small_network
from tests.simulator import Start, build_plan


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_network(tmp_path_factory.mktemp("graph") / "tiny.fp32.onnx")


@pytest.fixture
def plan(simulated_tensorrt: Start, generator: Path, tmp_path: Path) -> Path:
    """A plan for the simulated TensorRT 10.3, which is installed."""
    simulated_tensorrt("10.3")
    return build_plan(generator, tmp_path / "tiny.plan")
