"""NVIDIA's parser and builder, where the tool that runs them without a GPU lies beside the checkout."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TOOL = REPOSITORY.parent / "shared" / "tools" / "tensorrt-accepts"

needs_tool = pytest.mark.skipif(not TOOL.exists(), reason="tensorrt-accepts is not beside the checkout")


def accepted(path: Path) -> tuple[int, int]:
    """Return (bytes of weights, Q/DQ pairs lowered to float) of a graph that must be accepted."""
    done = subprocess.run([str(TOOL), str(path)], capture_output=True, text=True, timeout=600)
    found = re.search(r"^ACCEPTED .* weights (\d+) bytes\s+lowered (\d+)", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and found, done.stdout + done.stderr
    return int(found[1]), int(found[2])
