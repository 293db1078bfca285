from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def keras() -> Any:
    """Keras 3, of a test that makes a network; where it is absent the test is skipped."""
    import keras

    return keras
