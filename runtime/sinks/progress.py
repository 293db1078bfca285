"""A bar on the terminal that shows how far a stored source has come."""

from __future__ import annotations

import contextlib

from pix2pix_edge.runtime.frame import Frame, Sink


class ProgressBar(Sink):
    """Counts frames on standard error; a terminal that has gone away is no reason to end."""

    name = "progress"

    def __init__(self, frames: int | None) -> None:
        """frames: how many will come, None where nobody knows."""
        from tqdm import tqdm

        self._bar = tqdm(total=frames, unit="frame", dynamic_ncols=True)

    def write(self, frame: Frame) -> None:
        with contextlib.suppress(OSError):
            self._bar.update()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._bar.close()
