"""One engine for several streams: each gets a share, an Engine with a batch of 1, and they are served in turn.

    stream -> [share] --.                          .--> its ticket
    stream -> [share] ---+--> batch of N -> engine -+--> its ticket
    stream -> [share] --'                          '--> its ticket

Where the engine has a batch of N, frames of several streams are joined into one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from pix2pix_edge.runtime.engines.base import Engine, Images, Ticket, check_images
from pix2pix_edge.runtime.engines.host import HostTicket
from pix2pix_edge.runtime.engines.turnstile import Turnstile
from pix2pix_edge.runtime.errors import EngineError

BATCH_WAIT_S = 0.008
"""So long a frame waits at most for others to fill its batch, while the engine has nothing to do."""

CLOSED = "the engine is closed; open it again with open_engine(path)"


@dataclass
class _Job:
    """A frame that waits for its turn, or is in the engine. since: time.monotonic() of its submission."""

    images: Images
    since: float
    done: Future[tuple[Images, int]] = field(default_factory=Future)


class SharedEngine:
    """Serves its shares in turn; a batch that is not full when its first frame has waited is filled by repeating.

    shares: as many engines as asked for; usable from any thread, each by one thread at a time. The engine itself is
    not closed. A stream that does not fetch its results holds up nobody else: they are collected here.
    """

    def __init__(self, engine: Engine, count: int, *, wait_s: float = BATCH_WAIT_S) -> None:
        """count: of shares. wait_s: seconds a frame waits at most for its batch, while the engine is idle."""
        self.engine, self.batch = engine, engine.input.shape[0]
        self.turnstile = Turnstile(1) if self.batch == 1 else None  # frames that make a batch must come at once
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._flying: deque[tuple[Ticket, list[_Job]]] = deque()
        self._closed = False
        slots = engine.slots * -(-self.batch // count)  # so that few shares fill a large batch, too
        self.shares = [Share(self, slots) for _ in range(count)]
        self._turns = list(self.shares)  # whoever was served longest ago comes first
        self._collector = threading.Thread(target=self._collect, name="shared engine", daemon=True)
        self._collector.start()

    def enter(self, share: Share, images: Images) -> Future[tuple[Images, int]]:
        """Put a share's frame in line; returns what will be its picture and nanoseconds. Raises EngineError."""
        job = _Job(images, time.monotonic())
        with self._changed:
            if self._closed or share.closed:
                raise EngineError(CLOSED)
            share.waiting.append(job)
            self._fill()
            self._changed.notify()
        return job.done

    def leave(self, share: Share) -> None:
        """No batch waits for this share any more."""
        with self._changed:
            share.closed = True
            self._changed.notify()

    def _fill(self) -> None:
        """Start what may start. Called with the lock; the engine has a free slot, so that submit() does not block."""
        while len(self._flying) < self.engine.slots and (jobs := self._next_batch()):
            images = [job.images for job in jobs]
            images += images[-1:] * (self.batch - len(jobs))
            try:
                together = images[0] if self.batch == 1 else np.concatenate(images)
                self._flying.append((self.engine.submit(together), jobs))
            except Exception as error:
                for job in jobs:
                    job.done.set_exception(error)

    def _next_batch(self) -> list[_Job]:
        """Take the frames that go together now out of the line, one of each share in turn; none where it is early."""
        waiting = sum(len(share.waiting) for share in self.shares)
        if waiting < self.batch and (not waiting or self._flying or self._is_early()):
            return []
        jobs: list[_Job] = []
        while len(jobs) < min(self.batch, waiting):
            share = next(share for share in self._turns if share.waiting)
            jobs.append(share.waiting.popleft())
            self._turns.remove(share)
            self._turns.append(share)
        return jobs

    def _is_early(self) -> bool:
        """Whether a batch that is not full may still become so in time: somebody has no frame in line."""
        return self._left() > 0 and not all(share.waiting or share.closed for share in self.shares)

    def _left(self) -> float:
        """Return for how many seconds the first frame in line still waits for others."""
        oldest = min(share.waiting[0].since for share in self.shares if share.waiting)
        return oldest + self._wait_s - time.monotonic()

    def _collect(self) -> None:
        """Hand out what the engine gives, as soon as it does, and start what comes next before that."""
        while True:
            with self._changed:
                self._fill()
                while not self._flying:
                    if self._closed:
                        return
                    in_line = any(share.waiting for share in self.shares)
                    self._changed.wait(max(0.0, self._left()) if in_line else None)
                    self._fill()
                ticket, jobs = self._flying[0]
            failure: BaseException | None = None
            try:
                images = ticket.result()
            except BaseException as error:
                failure = error
            with self._changed:
                self._flying.popleft()
                self._fill()
            for place, job in enumerate(jobs):
                if failure is not None:
                    job.done.set_exception(failure)
                else:
                    job.done.set_result((images[place : place + 1], ticket.compute_ns))

    def close(self) -> None:
        """Wait for what is in the engine, refuse what is in line; a second call does nothing."""
        with self._changed:
            self._closed = True
            for share in self.shares:
                while share.waiting:
                    share.waiting.popleft().done.set_exception(EngineError(CLOSED))
            self._changed.notify()
        self._collector.join()

    def __enter__(self) -> SharedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Share(Engine):
    """An Engine with a batch of 1: one stream's part of a SharedEngine. close() gives it up; the engine stays open."""

    def __init__(self, shared: SharedEngine, slots: int) -> None:
        engine = shared.engine
        self.input, self.output = (replace(spec, shape=(1, *spec.shape[1:])) for spec in (engine.input, engine.output))
        self.turnstile = shared.turnstile
        self.slots, self.kind, self.on_cpu = slots, engine.kind, engine.on_cpu
        self.precision, self.threads = engine.precision, engine.threads
        self.waiting: deque[_Job] = deque()
        self.closed = False
        self._shared = shared
        self._free = threading.Semaphore(slots)

    def describe(self) -> dict[str, str]:
        return self._shared.engine.describe()

    def submit(self, images: Images) -> HostTicket:
        check_images(images, self.input)
        self._free.acquire()
        try:
            return HostTicket(self._shared.enter(self, images), self._free)
        except BaseException:
            self._free.release()
            raise

    def close(self) -> None:
        self._shared.leave(self)
