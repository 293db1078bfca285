"""Ctrl-C, SIGTERM and a closed terminal as the orderly end of a stream."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Protocol

from pix2pix_edge.runtime.errors import PATIENCE

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""SIGHUP comes when the terminal goes: a dropped SSH session must not cost a video. Under nohup it stays
ignored; a SIGINT does not, which shells take from what they start with &, so that `kill -INT` still ends it.
"""

LEAVE_S = 1.8 * PATIENCE
"""What is being opened when a signal comes gets so long; then the process ends without it."""


class Stoppable(Protocol):
    """What a signal ends."""

    def stop(self) -> None: ...


class Interrupt:
    """SIGNALS end the stream, so that its files are finished; a second one breaks off.

    A thread is told by the signal itself, through a pipe: a handler in Python would have to wait until the main thread
    runs, which waits for the stream, and must not touch a lock that the main thread may hold.
    """

    def __init__(self) -> None:
        self.received = False
        self.opening = ""
        """What is being opened, as people call it: named where it hangs."""
        self._stream: Stoppable | None = None
        self._arrived = 0
        self._left = threading.Event()

    def _handle(self, number: int, _: object) -> None:
        self._arrived += 1
        if self._arrived > 1:
            raise KeyboardInterrupt
        self.received = True

    def _listen(self) -> None:
        while (number := os.read(self._ears, 1)) != b"\0":
            if number[0] in SIGNALS:
                self.received = True
                if self._stream is not None:
                    self._stream.stop()
                elif not self._left.wait(LEAVE_S):  # a source or an engine is being opened, and hangs
                    print(f"interrupted: {self.opening} hung while it was opened", file=sys.stderr, flush=True)
                    os._exit(130)

    @contextlib.contextmanager
    def stopping(self, stream: Stoppable) -> Iterator[None]:
        """While inside, a signal stops the stream; one that came before does so at once."""
        self._stream = stream
        self._left.set()
        if self.received:
            stream.stop()
        try:
            yield
        finally:
            self._stream = None

    def __enter__(self) -> Interrupt:
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._before = {
            number: signal.signal(number, self._handle)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        }
        self._previous_fd = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._mouth, b"\0")
        self._listener.join()
        os.close(self._ears)
        os.close(self._mouth)
