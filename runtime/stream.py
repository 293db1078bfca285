"""The streaming loop: capture, prepare, translate, deliver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from runtime.engine import Engine
from runtime.errors import EngineError
from runtime.frame import Frame, fit
from runtime.sinks import Sink, ViewerQuitError
from runtime.sources import Source, open_source
from runtime.timings import Timings

SOURCE_GAP = "source gap"
"""Why a frame was dropped: the source itself lost it, as its index shows."""


class Stream:
    """Iterate it to run it: every delivered frame comes out. Made by translate(); a context manager.

    timings: what was measured so far. dropped: cause -> frames dropped for it. exhausted: the source itself ended,
    rather than the limit or a viewer. When the stream ends, however it ends, its source and sinks are closed; the
    engine is not.
    """

    def __init__(self, source: Source, engine: Engine, sinks: Sequence[Sink], fit_mode: str, limit: int | None) -> None:
        self.source, self.engine = source, engine
        self.timings = Timings()
        self.dropped: Counter[str] = Counter()
        self.exhausted = False
        self._sinks = list(sinks)
        self._fit = fit_mode
        self._limit = limit
        self._size = engine.input.shape[1]
        self._stopping = threading.Event()
        self._closed = False
        if engine.input.shape[0] != 1:
            raise EngineError(
                f"a stream takes an engine with a batch of 1, and this one has {engine.input.shape[0]}; export it again"
                " with the default batch"
            )
        for sink in self._sinks:
            if hasattr(sink, "attach"):
                sink.attach(self)

    def __iter__(self) -> Iterator[Frame]:
        expected = 0
        with self:
            while not self._stopping.is_set() and (self._limit is None or self.timings.frames < self._limit):
                frame = self.source.read()
                if frame is None:
                    self.exhausted = True
                    return
                self.dropped[SOURCE_GAP] += frame.index - expected
                expected = frame.index + 1
                self._translate(frame)
                try:
                    self._deliver(frame)
                except ViewerQuitError:
                    return
                yield frame

    def _translate(self, frame: Frame) -> None:
        start = time.monotonic_ns()
        frame.prepared = fit(frame.image, self._size, self._fit)
        prepared = time.monotonic_ns()
        frame.translated = self.engine(frame.prepared[None])[0]
        frame.timings["prepare"] = prepared - start
        frame.timings["engine"] = time.monotonic_ns() - prepared

    def _deliver(self, frame: Frame) -> None:
        start = time.monotonic_ns()
        try:
            for sink in self._sinks:
                sink.write(frame)
        finally:
            frame.timings["deliver"] = time.monotonic_ns() - start
        self.timings.add(frame)

    def stop(self) -> None:
        """End the stream after the frame in hand; from any thread or a signal handler."""
        self._stopping.set()

    def close(self) -> None:
        """Close the source and every sink, each even when another fails; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as stack:
            stack.callback(self.source.close)
            for sink in self._sinks:
                stack.callback(sink.close)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def translate(
    source: str | Source | Any,
    engine: Engine,
    sinks: Sequence[Sink] = (),
    *,
    fit: str = "stretch",
    limit: int | None = None,
) -> Stream:
    """Run frames through an engine: `for frame in translate("clip.mp4", engine): show(frame.translated)`.

    source: what --source takes, a Source, or any object with read() and close(). fit: one of runtime.options.FIT_MODES.
    limit: end after so many frames. Raises InputError and EngineError, here or while iterating.
    """
    return Stream(open_source(source), engine, sinks, fit, limit)
