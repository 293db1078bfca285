"""Fixtures of the tests that need an NVIDIA GPU with pycuda."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.cuda import Device


@pytest.fixture(autouse=True)
def gpu() -> capabilities.Gpu:
    """The GPU; skips where there is none, or no pycuda."""
    pytest.importorskip("pycuda", reason="pycuda is not installed")
    found = capabilities.probe()
    if found.gpu is None:
        pytest.skip(found.gpu_missing)
    return found.gpu


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as made:
        yield made
