"""What happens to a frame between source and sinks: capture, prepare and translate, each in its thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from pix2pix_edge.runtime import frame as frames
from pix2pix_edge.runtime.engines.base import Engine, Ticket
from pix2pix_edge.runtime.engines.turnstile import Turnstile
from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.frame import QUEUE_FULL, RATE_LIMIT, SOURCE_GAP, STALE, BadPictureError, Frame, Source
from pix2pix_edge.runtime.streaming.bounded_queue import BoundedQueue, ClosedError
from pix2pix_edge.runtime.streaming.outlets import Outlet
from pix2pix_edge.runtime.streaming.policy import Pacer, Policy
from pix2pix_edge.runtime.streaming.tiles import TILE, Tiles

PREFETCH = 2
"""Frames that wait before each stage of a stored source."""


class Pipeline:
    """From a source through the engine to the outlets. capture(), prepare() and translate() each run in a thread.

    dropped: cause (runtime.frame) -> frames dropped for it. unreadable: why a picture could not be read -> how often.
    exhausted: the source itself ended. finished: everything that was asked for has been translated.
    """

    def __init__(
        self, source: Source, engine: Engine, fit: str, limit: int | None, policy: Policy, *, own_rate: bool
    ) -> None:
        """own_rate: a stored source is read no faster than it would be played."""
        self.dropped: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.exhausted = self.finished = False
        self._source, self._engine, self._policy = source, engine, policy
        self._fit, self._limit, self._own_rate = fit, limit, own_rate
        self._shape = engine.input.shape[1:]
        self._translator = Tiles(engine) if fit == TILE else engine
        waiting = 1 if policy.freshest else PREFETCH
        self._captured: BoundedQueue[Frame] = BoundedQueue(waiting, drops=policy.freshest)
        self._prepared: BoundedQueue[Frame] = BoundedQueue(waiting, drops=policy.freshest)
        shared = engine.turnstile if policy.freshest and policy.slots == 1 else None
        self._turnstile = shared or Turnstile(policy.slots)
        self._halted = threading.Event()
        self._lock = threading.Lock()

    def halt(self) -> None:
        """Let nothing more enter the engine. May come from any thread."""
        self._halted.set()
        self._captured.abort()
        self._prepared.abort()
        self._turnstile.break_open(self)

    def capture(self) -> None:
        """Read the source to its end, or to the limit."""
        pacer, live = Pacer(self._policy.max_fps), self._source.live
        expected = taken = 0
        begun = time.monotonic()
        try:
            while self._limit is None or self._policy.freshest or taken < self._limit:
                while not live and (delay := pacer.delay(time.monotonic_ns())):
                    self._pause(delay)
                frame, refused = self._read()
                if frame is None:
                    self.exhausted = not self._halted.is_set()
                    return
                self._drop(SOURCE_GAP, frame.index - expected - refused)
                expected, taken = frame.index + 1, taken + 1
                if self._own_rate:
                    self._pause(begun + self._moment(frame) - time.monotonic())
                if live and pacer.delay(frame.captured_at):
                    self._drop(RATE_LIMIT)
                elif self._captured.put(frame) is not None:
                    self._drop(STALE)
        finally:
            self._captured.end()

    def _read(self) -> tuple[Frame | None, int]:
        """Return the next frame that can be read, or None at the end, and how many pictures could not be before it."""
        refused: set[str] = set()
        while True:
            try:
                return self._source.read(), len(refused)
            except BadPictureError as error:
                reason = str(error)
                # the same one again, and none between that could be read: a loop that would never end
                if self._policy.strict or reason in refused:
                    raise InputError(reason) from error
                refused.add(reason)
                if reason not in self.unreadable:
                    warn(reason)
                self.unreadable[reason] += 1

    def _moment(self, frame: Frame) -> float:
        """Return when a stored source shows a frame, in seconds from its first."""
        if frame.position_ns is not None:
            return frame.position_ns / 1e9
        return frame.index / self._source.fps if self._source.fps else 0.0

    def _pause(self, seconds: float) -> None:
        if self._halted.wait(max(0.0, seconds)):
            raise ClosedError

    def prepare(self) -> None:
        """Fit frames to the engine's size; a live source's as late as the engine allows."""
        try:
            while True:
                if self._policy.freshest and self._captured.wait():
                    self._turnstile.wait(self)
                frame = self._captured.get()
                if frame is None:
                    return
                start = time.monotonic_ns()
                whole = self._fit == TILE
                frame.prepared = frame.image if whole else frames.fit(frame.image, self._shape, self._fit)
                frame.timings["prepare"] = taken = time.monotonic_ns() - start
                self._turnstile.prepared(taken)
                if self._prepared.put(frame) is not None:
                    self._drop(STALE)
        finally:
            self._captured.abort()
            self._prepared.end()

    def translate(self, outlets: Sequence[Outlet], ended: Callable[[], None]) -> None:
        """Keep the engine busy, and offer each outlet what it gives. ended: called when no more will come."""
        flying: deque[tuple[Frame, Ticket]] = deque()
        left = self._limit
        try:
            while True:
                left = self._submit(flying, left, wait=True)
                if not flying:
                    self.finished = not self._halted.is_set()
                    return
                frame, ticket = flying.popleft()
                frame.translated = ticket.result()[0]
                frame.timings["engine"] = self._turnstile.finished(self, time.monotonic_ns())
                # the engine gets its next frame before the sinks get this one
                left = self._submit(flying, left, wait=False)
                frame.timings["deliver"] = 0
                for outlet in outlets:
                    if not outlet.offer(frame):
                        self._drop(QUEUE_FULL)
        finally:
            self.halt()
            for outlet in outlets:
                outlet.queue.end()
            ended()
            for _, ticket in flying:  # after an error: the engine gets its slots back
                with contextlib.suppress(Exception):
                    ticket.result()
            self._turnstile.leave(self)

    def _submit(self, flying: deque[tuple[Frame, Ticket]], left: int | None, *, wait: bool) -> int | None:
        """Fill the engine's slots with what is prepared, waiting only where it has nothing; return the limit left."""
        while len(flying) < self._policy.slots and left != 0:
            frame = self._prepared.get(wait=wait and not flying)
            if frame is None:
                break
            now = time.monotonic_ns()
            if self._policy.max_staleness and now - frame.captured_at > self._policy.max_staleness * 1e9:
                self._turnstile.refused()
                self._drop(STALE)
                continue
            assert frame.prepared is not None
            self._turnstile.started(self, now)
            flying.append((frame, self._translator.submit(frame.prepared[None])))
            left = None if left is None else left - 1
        return left

    def _drop(self, cause: str, count: int = 1) -> None:
        if count > 0:
            with self._lock:
                self.dropped[cause] += count
