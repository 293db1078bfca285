"""The threads of a stream: started by name, waited for together, the first error kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pix2pix_edge.runtime.frame import ViewerQuitError
from pix2pix_edge.runtime.streaming.bounded_queue import ClosedError

PREFIX = "stream "
"""What the names of the threads begin with."""


class Crew:
    """Threads that end with their work. Once one has failed, or begin_shutdown() was called, the others
    get a limited time.

    changed: the condition under which everything here changes, and what the work wants to share besides.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.running: set[str] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._shutdown_at: float | None = None
        self._error: BaseException | None = None
        self._on_shutdown: list[Callable[[float], None]] = []

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        """Start a thread. ClosedError and ViewerQuitError merely end it; any other error fails the crew."""

        def guarded() -> None:
            try:
                work()
            except (ClosedError, ViewerQuitError):
                pass
            except BaseException as error:
                self.fail(error)
            finally:
                with self.changed:
                    self.running.discard(name)
                    self.changed.notify_all()

        with self.changed:
            # a daemon: one that hangs in a driver must not keep the process alive
            thread = self._threads[name] = threading.Thread(target=guarded, name=f"{PREFIX}{name}", daemon=True)
            thread.start()
            self.running.add(name)

    def on_shutdown(self, call: Callable[[float], None]) -> None:
        """Have `call` told the time.monotonic() at which the limited time begins."""
        self._on_shutdown.append(call)

    def fail(self, error: BaseException) -> None:
        """Keep the first error, and begin the shutdown."""
        with self.changed:
            self._error = self._error or error
        self.begin_shutdown()

    def begin_shutdown(self) -> None:
        """Let the limited time begin, unless it has."""
        with self.changed:
            if self._shutdown_at is None:
                self._shutdown_at = time.monotonic()
                for call in self._on_shutdown:
                    call(self._shutdown_at)
                self.changed.notify_all()

    def wait_for_shutdown(self) -> None:
        """Return when the limited time has begun."""
        with self.changed:
            self.changed.wait_for(lambda: self._shutdown_at is not None)

    def extend(self, seconds: float) -> None:
        """Have the limited time begin no earlier than so many seconds ago."""
        with self.changed:
            self._shutdown_at = max(self._shutdown_at or 0.0, time.monotonic() - seconds)

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until done(), or until the limited time has lasted `seconds`; return done()."""
        with self.changed:
            while not done():
                left = None if self._shutdown_at is None else self._shutdown_at + seconds - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self.changed.wait(left)
            return True

    def join(self) -> list[str]:
        """Join the threads whose work is done; return the names of the others."""
        with self.changed:
            hanging = sorted(self.running)
        for name, thread in self._threads.items():
            if name not in hanging:
                thread.join()
        return hanging

    def raise_once(self) -> None:
        """Raise the first error, if there is one that has not been raised."""
        with self.changed:
            error, self._error = self._error, None
        if error is not None:
            raise error
