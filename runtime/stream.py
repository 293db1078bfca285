"""The streaming loop: capture, prepare, translate and deliver at once, each in a thread of its own.

    source -> [capture] -> [prepare] -> [translate] -> [deliver out.webm] -> sink
                                             |-------> [deliver null] -----> sink
                                             '-------> the caller's thread: window, for-loop

Between two threads lies a queue. Under every_frame each of them waits when the next one is full, so that nothing is
lost; under freshest none does: the oldest frame makes room, and is counted. No thread polls.
"""

from __future__ import annotations

import atexit
import contextlib
import enum
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import PATIENCE, EngineError, warn
from pix2pix_edge.runtime.frame import Frame, Sink, Source, ViewerQuitError
from pix2pix_edge.runtime.sinks import open_sink, refuse_overwriting
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.streaming.outlets import Outlet
from pix2pix_edge.runtime.streaming.pipeline import Pipeline
from pix2pix_edge.runtime.streaming.policy import Policy
from pix2pix_edge.runtime.streaming.threads import Crew
from pix2pix_edge.runtime.streaming.timings import Timings

DRAIN_S, LEAVE_S = 1.0 * PATIENCE, 1.6 * PATIENCE
"""After a stop or an error: until then the sinks may take what is translated; whoever still hangs is left behind."""


class State(enum.Enum):
    """Where a stream is on its way."""

    READY = enum.auto()
    CANCELLED = enum.auto()
    """Stopped before it ran."""
    RUNNING = enum.auto()
    STOPPING = enum.auto()
    """Nothing more enters the engine; the sinks get what it has."""
    ENDING = enum.auto()
    """Source and sinks are being closed."""
    CLOSED = enum.auto()


class Stream:
    """Iterate it to run it: every translated frame comes out. Made by translate(); a context manager.

    timings: what was measured so far. outlets: the sinks with what each took and missed. left_behind: names of threads
    that still hung when the stream was closed. When the stream ends, however it ends, its source and sinks are closed;
    the engine is not.
    """

    def __init__(
        self, source: Source, engine: Engine, sinks: Sequence[Sink], fit: str, limit: int | None, policy: Policy
    ) -> None:
        if engine.input.shape[0] != 1:
            raise EngineError(
                f"a stream takes an engine with a batch of 1, and this one has {engine.input.shape[0]}; convert its"
                " model again, which gives it a batch of 1"
            )
        self.source, self.engine, self.policy = source, engine, policy
        self.timings = Timings()
        self.left_behind: list[str] = []
        self._state = State.READY
        self._lingers = False
        own_rate = not source.live and policy.max_fps is None and any(sink.watched for sink in sinks)
        self._pipeline = Pipeline(source, engine, fit, limit, policy, own_rate=own_rate)
        here = [sink for sink in sinks if sink.in_main_thread]
        self.outlets = [Outlet([s], s.name, drops=policy.freshest) for s in sinks if not s.in_main_thread]
        self._caller = Outlet(here, ", ".join(sink.name for sink in here) or "caller", drops=policy.freshest)
        self._crew = Crew()
        self._crew.on_shutdown(lambda moment: self._caller.queue.expire(moment + DRAIN_S))
        for sink in sinks:
            sink.attach(self)

    @property
    def dropped(self) -> Counter[str]:
        """Cause (runtime.frame) -> frames dropped for it."""
        return self._pipeline.dropped

    @property
    def unreadable(self) -> Counter[str]:
        """Why a picture of a stored source could not be read -> how often."""
        return self._pipeline.unreadable

    @property
    def exhausted(self) -> bool:
        """Whether the source itself ended, rather than the limit or a viewer."""
        return self._pipeline.exhausted

    @property
    def finished(self) -> bool:
        """Whether all that was asked for has been translated: nobody stopped the stream before."""
        return self._pipeline.finished

    # The caller's thread

    def __iter__(self) -> Iterator[Frame]:
        return self._drive(yields=True)

    def run(self) -> None:
        """Run to the end, where only the sinks want the frames; where one stays, until the stream is stopped."""
        for _ in self._drive(yields=False):
            pass

    def _drive(self, *, yields: bool) -> Iterator[Frame]:
        """Yield what reaches the caller's thread, once its sinks have it. Raises the first error of any thread."""
        if not self._start(yields):
            self.close()
            return
        try:
            while (frame := self._caller.queue.get()) is not None:
                self._caller.write(frame, self._delivered)
                yield frame
        except ViewerQuitError:
            self.stop()
        except BaseException:  # the caller left the loop, its code or its sink failed, or Ctrl-C
            self.stop()
            self._end()
            raise
        self._end()
        self._crew.raise_once()

    def _start(self, yields: bool) -> bool:
        """Start the threads; False when the stream was stopped before. yields: somebody iterates."""
        with self._crew.changed:
            if self._state is State.CANCELLED:
                return False
            if self._state is not State.READY:
                raise RuntimeError("a stream runs once; make another one with translate(…)")
            self._state = State.RUNNING
        self._lingers = not yields and not self.source.live
        atexit.register(self._close_at_exit)
        if yields or self._caller.sinks:
            self.outlets.append(self._caller)
        works: dict[str, Callable[[], None]] = {
            "capture": self._pipeline.capture,
            "prepare": self._pipeline.prepare,
            "translate": functools.partial(self._pipeline.translate, self.outlets, self._caller.queue.end),
        }
        for number, outlet in enumerate(self.outlets):
            if outlet is not self._caller:
                name = f"deliver {outlet.name}"
                works[f"{name} ({number})" if name in works else name] = functools.partial(self._deliver, outlet)
        for name, work in works.items():
            self._crew.spawn(name, work)
        return True

    def stop(self) -> None:
        """End the stream; the sinks still get what the engine has. May come from any thread."""
        with self._crew.changed:
            following = {State.READY: State.CANCELLED, State.RUNNING: State.STOPPING}
            self._state = following.get(self._state, self._state)
        self._pipeline.halt()
        self._caller.queue.end()
        self._crew.begin_shutdown()

    def _end(self) -> None:
        """Wait for the threads; those that a stop or an error leaves hanging are left behind."""
        with self._crew.changed:
            if self._state not in (State.RUNNING, State.STOPPING):
                return
            self._state = State.ENDING
        if not self._crew.wait(lambda: self._crew.running <= {"capture", "prepare"}, DRAIN_S):
            for outlet in self.outlets:
                outlet.queue.abort()
        self._pipeline.halt()
        self._crew.extend(DRAIN_S)
        try:
            self._crew.spawn("close source", self.source.close)
        except RuntimeError:  # the interpreter is ending, and starts no threads any more
            self.source.close()
        try:
            self._caller.close()
        except Exception as error:
            self._crew.fail(error)
        self._crew.wait(lambda: not self._crew.running, LEAVE_S)
        self._state = State.CLOSED
        atexit.unregister(self._close_at_exit)
        self.left_behind = self._crew.join()
        for name in self.left_behind:
            what = "its file may not be whole" if name.startswith("deliver") else "it is left behind"
            warn(f"{name} still hangs after the stream has ended; {what}")

    def close(self) -> None:
        """End the stream, close source and sinks; a second call does nothing. Raises an error not raised yet."""
        self.stop()
        if self._state is State.CANCELLED:
            self._state = State.CLOSED
            with contextlib.ExitStack() as stack:
                stack.callback(self.source.close)
                for outlet in [*self.outlets, self._caller]:
                    stack.callback(outlet.close)
        self._end()
        self._crew.raise_once()

    def _close_at_exit(self) -> None:
        """Finish a video also when the program ends in the middle of a loop."""
        with contextlib.suppress(Exception):  # the engine may have been the first to go
            self.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # else that one tells more
                raise

    # The threads

    def _deliver(self, outlet: Outlet) -> None:
        try:
            while (frame := outlet.queue.get()) is not None:
                outlet.write(frame, self._delivered)
            if self._lingers and outlet.stays:
                for sink in outlet.sinks:
                    sink.rest()
                self._crew.wait_for_shutdown()
        except BaseException:
            self.stop()
            with contextlib.suppress(Exception):  # what was raised first tells more
                outlet.close()
            raise
        outlet.close()

    def _delivered(self, frame: Frame, name: str, ns: int) -> None:
        with self._crew.changed:
            frame.timings["deliver"] = max(ns, frame.timings["deliver"])
            self.timings.wrote(name, ns)
            if frame.delivered_at is None:
                frame.delivered_at = time.monotonic_ns()
                self.timings.add(frame)


def translate(
    source: str | Source | Any,
    engine: Engine,
    sinks: Sequence[str | Sink | Any] = (),
    *,
    fit: str = "stretch",
    view: str = "output",
    limit: int | None = None,
    policy: str = "auto",
    max_staleness: float | None = None,
    max_fps: float | None = None,
    slots: int | None = None,
    strict: bool = False,
) -> Stream:
    """Run frames through an engine: `for frame in translate("clip.mp4", engine): show(frame.translated)`.

    source, sinks: what --source and --sink take, or objects with read() and close(), write() and close(). fit, view,
    policy: one of FIT_MODES, VIEW_MODES, POLICIES. limit: end after so many frames. max_staleness
    (seconds), max_fps, slots, strict: see streaming.policy.Policy. Raises InputError and EngineError, here or while
    iterating.
    """
    with contextlib.ExitStack() as opened:
        input = open_source(source)
        opened.callback(input.close)
        chosen = Policy.choose(
            policy,
            live=input.live,
            slots=slots,
            engine_slots=engine.slots,
            max_staleness=max_staleness,
            max_fps=max_fps,
            strict=strict,
        )
        outputs = []
        for sink in sinks:
            outputs.append(open_sink(sink, mode=view, fps=input.fps, frames=input.frames, live=input.live))
            opened.callback(outputs[-1].close)
        refuse_overwriting(input.files, outputs)
        stream = Stream(input, engine, outputs, fit, limit, chosen)
        opened.pop_all()
        return stream
