"""The hand-over between two threads of a stream: bounded, in order, and ended from either side."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ClosedError(Exception):
    """Nobody takes items any more: the thread that puts them should end."""


class BoundedQueue(Generic[Item]):
    """One thread puts, one gets; end() and abort() may come from any other.

    One condition serves both sides, since they never wait at once: a queue is not full and empty together.
    """

    def __init__(self, capacity: int, *, drops: bool = False) -> None:
        """capacity: items that wait at most. drops: the oldest makes room in a full queue; otherwise put() waits."""
        self._capacity, self._drops = capacity, drops
        self._changed = threading.Condition()
        self._items: deque[Item] = deque()
        self._ended = False
        self._expires: float | None = None

    def put(self, item: Item) -> Item | None:
        """Hand an item over; return the one that had to go for it, if any. Raises ClosedError after end or abort."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._drops and not self._ended:
                self._changed.wait()
            if self._ended:
                raise ClosedError
            dropped = self._items.popleft() if len(self._items) >= self._capacity else None
            self._items.append(item)
            self._changed.notify()
            return dropped

    def get(self, *, wait: bool = True) -> Item | None:
        """Return the next item; None when there will be none, or without `wait` when there is none yet."""
        with self._changed:
            while not self._items and wait and not self._ended:
                left = None if self._expires is None else self._expires - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify()
            return item

    def wait(self) -> bool:
        """Wait until there is an item, which stays; False when there will be none."""
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait()
            return bool(self._items)

    def end(self) -> None:
        """Take no more; what waits may still be fetched."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Take no more, and forget what waits."""
        with self._changed:
            self._items.clear()
            self.end()

    def expire(self, moment: float) -> None:
        """From time.monotonic() `moment` on, get() no longer waits."""
        with self._changed:
            self._expires = moment
            self._changed.notify_all()
