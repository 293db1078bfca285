"""What the engines on the CPU share: one worker thread, so that submit() returns at once."""

from __future__ import annotations

import abc
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from pix2pix_edge.runtime.engines.base import Engine, Images, check_images
from pix2pix_edge.runtime.errors import EngineError


class HostTicket:
    """A Ticket over a worker thread's future."""

    def __init__(self, future: Future[tuple[Images, int]], release: threading.Semaphore) -> None:
        self._future = future
        self._release = release
        self.compute_ns = 0

    def result(self) -> Images:
        try:
            images, self.compute_ns = self._future.result()
        finally:
            self._release.release()
        return images


class HostEngine(Engine):
    """An engine that computes on the CPU in one worker thread, so that submit() returns at once.

    A subclass sets input, output and kind, where they are known precision and threads, and implements describe(),
    _run() and, where it holds resources, _close().
    """

    on_cpu = True

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._free = threading.Semaphore(slots)
        self._worker: ThreadPoolExecutor | None = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @abc.abstractmethod
    def _run(self, images: Images) -> Images: ...

    def _close(self) -> None:
        return

    def submit(self, images: Images) -> HostTicket:
        check_images(images, self.input)
        if self._worker is None:
            raise EngineError("the engine is closed; open it again with open_engine(path)")
        self._free.acquire()
        return HostTicket(self._worker.submit(self._timed, images), self._free)

    def _timed(self, images: Images) -> tuple[Images, int]:
        start = time.perf_counter_ns()
        translated = self._run(images)
        if translated.shape[1:] != self.output.shape[1:] or translated.dtype != self.output.dtype:  # the file has lied
            raise EngineError(
                f"the engine made {translated.dtype}{list(translated.shape)}, but its file declares"
                f" {self.output.dtype}{list(self.output.shape)}; export it again with:"
                " python -m export convert GENERATOR.keras --out DIR"
            )
        return translated, time.perf_counter_ns() - start

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown(wait=True)
            self._worker = None
            self._close()
