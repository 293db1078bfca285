"""The ways out of a stream: a queue for each sink, and for whoever iterates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from pix2pix_edge.runtime.frame import Frame, Sink
from pix2pix_edge.runtime.streaming.bounded_queue import BoundedQueue, ClosedError

RECORDER_QUEUE = 8
"""Frames that wait for a sink that keeps them: a disk's hiccup of half a second at 15 fps."""


class Outlet:
    """Sinks that are written by one thread, in order, with their queue.

    name: of the sinks, or "caller". dropped: frames that they missed because the queue was full. written: frames that
    they took. stays: one of them is closed only when a stream of a stored source is stopped.
    """

    def __init__(self, sinks: Sequence[Sink], name: str, *, drops: bool) -> None:
        """drops: a full queue loses its oldest frame; otherwise the stream waits for the sinks."""
        self.sinks = list(sinks)
        self.name = name
        self.dropped = self.written = 0
        self.stays = any(sink.stays for sink in self.sinks)
        newest = drops and all(sink.newest for sink in self.sinks)
        self.queue: BoundedQueue[Frame] = BoundedQueue(1 if newest else RECORDER_QUEUE, drops=drops)
        self.closed = False
        self._lock = threading.Lock()

    def offer(self, frame: Frame) -> bool:
        """Queue a frame; False when another one was dropped for it. Sinks that have ended are left alone."""
        try:
            lost = self.queue.put(frame) is not None
        except ClosedError:
            return True
        self.dropped += lost
        return not lost

    def write(self, frame: Frame, delivered: Callable[[Frame, str, int], None]) -> None:
        """Give a frame to the sinks, and tell `delivered` with the outlet's name and the nanoseconds it took."""
        start = time.monotonic_ns()
        for sink in self.sinks:
            sink.write(frame)
        self.written += 1
        delivered(frame, self.name, time.monotonic_ns() - start)

    def close(self) -> None:
        """Close the sinks, each even when another fails; a second call does nothing. Raises the first error."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self.queue.abort()
        errors = []
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
