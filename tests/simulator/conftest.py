"""What the tests of the simulator share: the simulator itself, and a plan that inverts its picture."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_inverter
from tests.simulator import Simulator, build_plan, install

SIZE = 32
IMAGE = np.full((1, SIZE, SIZE, 3), 9, np.uint8)
TRANSLATED = 246  # what the inverter makes of IMAGE


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """TensorRT 10.3, with nothing checked at the end: mistakes are what is looked for."""
    with install("10.3") as installed:
        yield installed
        gc.collect()  # what the traceback of an error still holds ends with its own driver, not with the next one


@pytest.fixture
def plan(simulator: Simulator, tmp_path: Path) -> Path:
    return build_plan(write_inverter(tmp_path / "inverter.onnx", SIZE), tmp_path / "inverter.plan")
