"""One engine for many visitors: of each only the newest drawing waits, and everybody gets a turn."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import PATIENCE, ToolkitError, warn
from pix2pix_edge.runtime.frame import Image

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 8.0
"""The wait before an engine that failed is opened again, doubled each time."""

PATIENCE_S = 30.0 * PATIENCE
"""A picture that is not there by then does not come: the engine hangs."""

REMEMBERED = 512
"""Pictures whose durations are remembered."""


class SupersededError(Exception):
    """A newer drawing of the same visitor took this one's place."""


class UnavailableError(Exception):
    """The engine gives no pictures just now; the message says why."""


class _Job:
    def __init__(self, image: Image) -> None:
        self.image = image
        self.asked_at = time.monotonic()
        self.done = threading.Event()
        self.picture: Image | None = None
        self.error: Exception | None = None

    def finish(self, picture: Image | None, error: Exception | None = None) -> None:
        self.picture, self.error = picture, error
        self.done.set()


class Translator:
    """Owns an engine, and a thread that feeds it. translate() may be called from any thread.

    Visitors take turns, addresses first: whoever pretends to be many takes time only from others at the same address.
    about: what the engine says of itself. input, output: what it takes and makes. trouble: why there are no pictures
    just now, else "". pictures: how many were translated. superseded: how many drawings were given up for a newer one.
    """

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        """open_engine: called now, and again whenever the engine has failed."""
        self._open = open_engine
        self._engine: Engine | None = open_engine()
        self.about = self._engine.describe()
        self.input, self.output = self._engine.input, self._engine.output
        self.trouble = ""
        self.pictures = self.superseded = 0
        self._seconds: list[float] = []
        self._waiting: OrderedDict[str, OrderedDict[str, _Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="translate", daemon=True)
        self._thread.start()

    def translate(self, address: str, visitor: str, image: Image) -> Image:
        """Return the engine's picture [H, W, C] of an image [H, W, C].

        Raises SupersededError where the visitor sent a newer one meanwhile, UnavailableError where the engine fails.
        """
        job = _Job(image)
        with self._changed:
            if self._closed or self._engine is None:
                raise UnavailableError(self.trouble or "it is closing")
            visitors = self._waiting.setdefault(address, OrderedDict())
            if old := visitors.get(visitor):
                self.superseded += 1
                old.finish(None, SupersededError())
            visitors[visitor] = job  # in the old one's place: sending more brings nobody forward
            self._changed.notify()
        if not job.done.wait(PATIENCE_S):
            raise UnavailableError("the engine does not answer")
        if job.error:
            raise job.error
        assert job.picture is not None
        return job.picture

    def waiting(self) -> int:
        """Return how many drawings wait."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def quantiles_s(self) -> dict[str, float]:
        """Return p50 and p95 of the seconds from a drawing's arrival to its picture, of the newest REMEMBERED."""
        with self._changed:
            seconds = list(self._seconds)
        return {q: float(np.quantile(seconds, float(q))) for q in ("0.5", "0.95")} if len(seconds) >= 100 else {}

    def close(self) -> None:
        """Free the engine; a second call does nothing. Whoever waits is told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(PATIENCE_S)
        self._dismiss("it is closing")

    def _work(self) -> None:
        while (job := self._next()) is not None:
            assert self._engine is not None
            try:
                picture = self._engine(np.ascontiguousarray(job.image[None]))[0]
            except Exception as error:
                job.finish(None, UnavailableError(str(error)))
                self._come_back(error)
                continue
            with self._changed:
                self.pictures += 1
                self._seconds = [*self._seconds[1 - REMEMBERED :], time.monotonic() - job.asked_at]
            job.finish(picture)
        if self._engine is not None:
            self._engine.close()

    def _next(self) -> _Job | None:
        """Wait for a drawing, and take the one whose turn it is; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._waiting))
            if self._closed:
                return None
            address, visitors = self._waiting.popitem(last=False)
            _, job = visitors.popitem(last=False)
            if visitors:
                self._waiting[address] = visitors  # at the end of the line
            return job

    def _come_back(self, error: Exception) -> None:
        """Open the engine anew, however often that takes."""
        assert self._engine is not None
        self.trouble = str(error) or type(error).__name__
        warn(f"the engine failed ({self.trouble}); opening it again")
        broken, self._engine, delay = self._engine, None, FIRST_DELAY_S
        self._dismiss(self.trouble)
        try:
            broken.close()
        except Exception as closing:
            warn(f"what is left of it cannot be closed: {closing}")
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, delay):
                    return
            try:
                self._engine = self._open()
            except (ToolkitError, OSError, MemoryError) as reason:
                self.trouble = str(reason)
                delay = min(2 * delay, LONGEST_DELAY_S)
            else:
                self.trouble = ""
                warn("the engine is back")
                return

    def _dismiss(self, reason: str) -> None:
        with self._changed:
            for visitors in self._waiting.values():
                for job in visitors.values():
                    job.finish(None, UnavailableError(reason))
            self._waiting.clear()
