"""When to prepare the next frame of a live source: as late as the engine allows; of several sources, in turn."""

from __future__ import annotations

import threading
import time
from collections import deque

MARGIN_NS = 1_000_000
"""The frame should be ready this much before the engine is: a thread's wake-up on a busy machine."""

SMOOTHING = 0.2
"""Weight of the newest duration in the running mean."""


class Turnstile:
    """Closed while the engine has all it can take, open from shortly before it is expected to be free.

    A frame prepared when the engine has just started is an old one when its turn comes; one prepared after the engine
    is free lets it wait; and preparing each of a fast camera's frames costs time that an engine on the CPU needs.
    Streams that share an engine share its turnstile: who has a frame stands in line, and takes its newest when it is
    let in.
    """

    def __init__(self, slots: int) -> None:
        """slots: frames in the engine at once."""
        self._slots = slots
        self._changed = threading.Condition()
        self._line: list[object] = []
        self._ready: object | None = None  # whose frame is being prepared, or waits for the engine
        self._started: deque[tuple[object, int]] = deque()
        self._last_end = 0
        self._engine_ns = self._prepare_ns = 0.0
        self._broken: set[object] = set()

    def wait(self, stream: object) -> None:
        """Return when a stream, which has a frame, should take its newest and prepare it."""
        with self._changed:
            self._line.append(stream)
            while stream not in self._broken:
                left = self._opens_in_ns(stream)
                if left is not None and left <= 0:
                    self._ready = stream
                    break
                self._changed.wait(None if left is None else left / 1e9)
            self._line.remove(stream)
            self._changed.notify_all()

    def _opens_in_ns(self, stream: object) -> float | None:
        """Return when to begin, from now, so that a frame is ready when the engine is; None where nobody can tell."""
        if self._line[0] != stream or self._ready not in (None, stream) or len(self._started) > self._slots:
            return None
        if len(self._started) + (self._ready is not None) < self._slots:
            return 0.0
        if not self._started or not self._engine_ns:
            return None
        begun = max(self._started[0][1], self._last_end)
        return begun + self._engine_ns - 1.5 * self._prepare_ns - MARGIN_NS - time.monotonic_ns()

    def prepared(self, ns: int) -> None:
        """Note how long a frame took to prepare, which is about to be handed over."""
        with self._changed:
            self._prepare_ns += SMOOTHING * (ns - self._prepare_ns) if self._prepare_ns else ns

    def refused(self) -> None:
        """Note that the frame that was ready has been dropped."""
        with self._changed:
            self._ready = None
            self._changed.notify_all()

    def started(self, stream: object, now: int) -> None:
        """Note that the engine gets the frame that was ready, at time.monotonic_ns() `now`."""
        with self._changed:
            self._ready = None
            self._started.append((stream, now))
            self._changed.notify_all()

    def finished(self, stream: object, now: int) -> int:
        """The engine gave back a stream's oldest frame; return the ns it took, its wait behind others left out."""
        with self._changed:
            mine = next(entry for entry in self._started if entry[0] == stream)
            self._started.remove(mine)
            taken = now - max(mine[1], self._last_end)
            self._last_end = now
            self._engine_ns += SMOOTHING * (taken - self._engine_ns) if self._engine_ns else taken
            self._changed.notify_all()
            return taken

    def break_open(self, stream: object) -> None:
        """Let a stream through from now on, and nobody wait for its frame: it ends."""
        with self._changed:
            self._broken.add(stream)
            if self._ready == stream:
                self._ready = None
            self._changed.notify_all()

    def leave(self, stream: object) -> None:
        """Forget what a stream had in the engine: after an error nobody fetches it."""
        with self._changed:
            self._started = deque(entry for entry in self._started if entry[0] != stream)
            self._changed.notify_all()
