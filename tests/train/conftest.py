"""Where TensorFlow is absent, as on a board, the tests that train are left out, so that the others can be collected."""

from __future__ import annotations

import importlib.util

NEED_TENSORFLOW = ("distribution", "judge", "main", "networks", "resume", "trainer")

collect_ignore = [] if importlib.util.find_spec("tensorflow") else [f"test_{name}.py" for name in NEED_TENSORFLOW]
