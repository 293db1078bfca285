"""Ctrl-C and SIGTERM as the orderly end of a stream."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pix2pix_edge.runtime.stream import Stream


class Interrupt:
    """Ctrl-C and SIGTERM end the stream, so that its files are finished; a second one breaks off.

    A thread is told by the signal itself, through a pipe: a handler in Python would have to wait until the main thread
    runs, which waits for the stream, and must not touch a lock that the main thread may hold.
    """

    def __init__(self) -> None:
        self.received = False
        self._stream: Stream | None = None
        self._arrived = 0

    def _handle(self, number: int, _: object) -> None:
        self._arrived += 1
        if self._arrived > 1:
            raise KeyboardInterrupt
        self.received = True

    def _listen(self) -> None:
        while (number := os.read(self._ears, 1)) != b"\0":
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                self.received = True
                if self._stream is not None:
                    self._stream.stop()

    @contextlib.contextmanager
    def stopping(self, stream: Stream) -> Iterator[None]:
        """While inside, a signal stops the stream; one that came before does so at once."""
        self._stream = stream
        if self.received:
            stream.stop()
        try:
            yield
        finally:
            self._stream = None

    def __enter__(self) -> Interrupt:
        self._ears, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        self._previous_fd = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._mouth, b"\0")
        self._listener.join()
        os.close(self._ears)
        os.close(self._mouth)
