"""What a running stream tells its user, without ending."""

from __future__ import annotations

import sys


def warn(message: str) -> None:
    """Print one line on standard error."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
