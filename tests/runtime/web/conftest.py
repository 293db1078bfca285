from __future__ import annotations

import pytest

from pix2pix_edge.runtime.web import status


@pytest.fixture(autouse=True)
def no_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose test waits for a busy machine has not stalled."""
    monkeypatch.setattr(status, "STALLED_S", 600.0)
