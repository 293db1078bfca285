"""The places of a server: how many connections it holds, and for how long it waits for a request."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from pix2pix_edge.runtime.errors import PATIENCE

MOST_CONNECTIONS = 256
"""A hundred viewers and as many who ask for numbers; more are turned away."""

KEPT_PLACES = 16
"""Beyond these, for whoever asks whether we are well: a watchdog must not be turned away because many watch."""

REQUEST_S = 10.0 * PATIENCE
"""A whole request must have come by then, however it trickles; also how long a quiet connection is kept."""

LEAVE_S = 0.5 * PATIENCE
"""What viewers get to take the last event when the server closes."""


class Connections:
    """The open connections: whose request is awaited, and who is being answered. Usable from any thread.

    viewers: how many are shown pictures.
    """

    def __init__(self) -> None:
        self.viewers = 0
        self._due: dict[socket.socket, float | None] = {}
        """When the connection's request must have come; None while it is being answered. The oldest first."""
        self._changed = threading.Condition()

    def enter(self, connection: socket.socket) -> bool:
        """Take a place. Where all are taken, the one whose request is awaited longest gives its own.

        Returns False when there is none.
        """
        with self._changed:
            if len(self._due) >= MOST_CONNECTIONS:
                waiting = (other for other, due in self._due.items() if due is not None)
                if slow := next(waiting, None):
                    _end(slow)
                    del self._due[slow]
                elif len(self._due) >= MOST_CONNECTIONS + KEPT_PLACES:
                    return False
            self._due[connection] = time.monotonic() + REQUEST_S
            return True

    def full(self) -> bool:
        """Whether only the kept places are left."""
        with self._changed:
            return len(self._due) > MOST_CONNECTIONS

    def awaited(self, connection: socket.socket) -> None:
        """The connection's next request is awaited from now on."""
        with self._changed:
            if connection in self._due:
                del self._due[connection]  # to the end of the line
                self._due[connection] = time.monotonic() + REQUEST_S

    def answered(self, connection: socket.socket) -> None:
        """The connection's request has come, and may be answered for as long as that takes."""
        with self._changed:
            if connection in self._due:
                self._due[connection] = None

    def leave(self, connection: socket.socket) -> None:
        """Give the place back."""
        with self._changed:
            self._due.pop(connection, None)
            self._changed.notify_all()

    def end_overdue(self) -> None:
        """End the connections whose request has not come in time."""
        now = time.monotonic()
        with self._changed:
            for connection, due in self._due.items():
                if due is not None and due < now:
                    _end(connection)

    def end_all(self) -> None:
        """Wait a moment for the connections to end by themselves, then end them."""
        with self._changed:
            for _ in range(2):
                if self._changed.wait_for(lambda: not self._due, LEAVE_S):
                    return
                for connection in self._due:
                    _end(connection)

    @contextlib.contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer while inside."""
        with self._changed:
            self.viewers += 1
        try:
            yield
        finally:
            with self._changed:
                self.viewers -= 1


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in send or recv
