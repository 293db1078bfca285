"""When to prepare the next frame of a live source: as late as the engine allows."""

from __future__ import annotations

import threading
import time
from collections import deque

MARGIN_NS = 1_000_000
"""The frame should be ready this much before the engine is: a thread's wake-up on a busy machine."""

SMOOTHING = 0.2
"""Weight of the newest duration in the running mean."""


class Gate:
    """Closed while the engine has all it can take, open from shortly before it is expected to be free.

    A frame prepared when the engine has just started is an old one when its turn comes; one prepared after the engine
    is free lets it wait; and preparing each of a fast camera's frames costs time that an engine on the CPU needs.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        self._started: deque[int] = deque()
        self._last_end = 0
        self._engine_ns = self._prepare_ns = 0.0
        self._ready = self._broken = False

    def wait(self) -> None:
        """Return when the next frame should be taken and prepared."""
        with self._changed:
            while not self._broken and len(self._started) + self._ready >= self._slots:
                left = self._opens_in_ns()
                if left is not None and left <= 0:
                    return
                self._changed.wait(None if left is None else left / 1e9)

    def _opens_in_ns(self) -> float | None:
        """Return when to begin, from now, so that a frame is ready when the engine is; None where nobody can tell."""
        if not self._started or not self._engine_ns:
            return None
        begun = max(self._started[0], self._last_end)
        return begun + self._engine_ns - 1.5 * self._prepare_ns - MARGIN_NS - time.monotonic_ns()

    def prepared(self, ns: int) -> None:
        """Note that a frame is about to be handed over, and how long it took to prepare."""
        with self._changed:
            self._ready = True
            self._prepare_ns += SMOOTHING * (ns - self._prepare_ns) if self._prepare_ns else ns

    def refused(self) -> None:
        """Note that the frame that was ready has been dropped."""
        with self._changed:
            self._ready = False
            self._changed.notify()

    def started(self, now: int) -> None:
        """Note that the engine gets the frame that was ready, at time.monotonic_ns() `now`."""
        with self._changed:
            self._ready = False
            self._started.append(now)

    def finished(self, now: int) -> int:
        """Note that the engine gave back its oldest frame; return the ns it took, waiting behind others left out."""
        with self._changed:
            taken = now - max(self._started.popleft(), self._last_end)
            self._last_end = now
            self._engine_ns += SMOOTHING * (taken - self._engine_ns) if self._engine_ns else taken
            self._changed.notify()
            return taken

    def break_open(self) -> None:
        """Let everyone through from now on: the stream ends."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()
