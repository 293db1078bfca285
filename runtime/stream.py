"""The streaming loop: capture, prepare, translate and deliver at once, each in a thread of its own.

    source -> [capture] -> [prepare] -> [translate] -> [deliver out.mp4] -> sink
                                             |-------> [deliver null] ----> sink
                                             '-------> the caller's thread: window, for-loop

Between two threads lies a Channel. Under every_frame each of them waits when the next one is full, so that nothing is
lost; under freshest none does: the oldest frame makes room, and is counted. No thread polls.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from pix2pix_edge.runtime import frame as frames
from pix2pix_edge.runtime.engines.base import Engine, Ticket
from pix2pix_edge.runtime.errors import EngineError, warn
from pix2pix_edge.runtime.frame import QUEUE_FULL, RATE_LIMIT, SOURCE_GAP, STALE, Frame, Sink, Source, ViewerQuitError
from pix2pix_edge.runtime.sinks import open_sink
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.streaming.channel import Channel, ClosedError
from pix2pix_edge.runtime.streaming.gate import Gate
from pix2pix_edge.runtime.streaming.outlets import Outlet, name_of
from pix2pix_edge.runtime.streaming.policy import Pacer, Policy
from pix2pix_edge.runtime.streaming.threads import Crew
from pix2pix_edge.runtime.streaming.timings import Timings

AHEAD = 2
"""Frames that wait before each stage of a stored source."""

DRAIN_S, LEAVE_S = 1.0, 1.8
"""After a stop or an error: until then the sinks may take what is translated; whoever still hangs is left behind."""


class Stream:
    """Iterate it to run it: every translated frame comes out. Made by translate(); a context manager.

    timings: what was measured so far. dropped: cause (runtime.frame) -> frames dropped for it. outlets: the sinks
    with what each took and missed. exhausted: the source itself ended, rather than the limit or a viewer. left_behind:
    names of threads that still hung when the stream was closed. When the stream ends, however it ends, its source and
    sinks are closed; the engine is not.
    """

    def __init__(
        self, source: Source, engine: Engine, sinks: Sequence[Sink], fit: str, limit: int | None, policy: Policy
    ) -> None:
        self.source, self.engine, self.policy = source, engine, policy
        self.timings = Timings()
        self.dropped: Counter[str] = Counter()
        self.exhausted = False
        self.left_behind: list[str] = []
        self._fit, self._limit = fit, limit
        self._shape = engine.input.shape[1:]
        ahead, drops = (1 if policy.freshest else AHEAD), policy.freshest
        self._captured: Channel[Frame] = Channel(ahead, drops=drops)
        self._prepared: Channel[Frame] = Channel(ahead, drops=drops)
        self._gate = Gate(policy.slots)
        here = [sink for sink in sinks if getattr(sink, "in_main_thread", False)]
        self.outlets = [Outlet([s], name_of(s), drops=drops) for s in sinks if s not in here]
        self._caller = Outlet(here, ", ".join(map(name_of, here)) or "caller", drops=drops)
        self._yields = False
        self._crew = Crew()
        self._crew.on_hurry(lambda moment: self._caller.queue.expire(moment + DRAIN_S))
        self._halted = False
        self._started = self._stopped = self._ended = self._closed = False
        if engine.input.shape[0] != 1:
            raise EngineError(
                f"a stream takes an engine with a batch of 1, and this one has {engine.input.shape[0]}; export it again"
                " with the default batch"
            )
        for sink in sinks:
            if hasattr(sink, "attach"):
                sink.attach(self)

    # The caller's thread

    def __iter__(self) -> Iterator[Frame]:
        self._yields = True
        return self._drive()

    def run(self) -> None:
        """Run to the end, where only the sinks want the frames."""
        for _ in self._drive():
            pass

    def _drive(self) -> Iterator[Frame]:
        """Yield what reaches the caller's thread, once its sinks have it. Raises the first error of any thread."""
        self._start()
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

    def _start(self) -> None:
        if self._started or self._closed:
            raise RuntimeError("a stream runs once; make another one with translate(…)")
        self._started = True
        atexit.register(self._close_at_exit)
        if self._yields or self._caller.sinks:
            self.outlets.append(self._caller)
        works: dict[str, Callable[[], None]] = {
            "capture": self._capture,
            "prepare": self._prepare,
            "translate": self._translate,
        }
        for number, outlet in enumerate(self.outlets):
            if outlet is not self._caller:
                name = f"deliver {outlet.name}"
                works[f"{name} ({number})" if name in works else name] = functools.partial(self._deliver, outlet)
        for name, work in works.items():
            self._crew.spawn(name, work)

    def stop(self) -> None:
        """End the stream; the sinks still get what the engine has. May come from any thread."""
        if not self._stopped:
            self._stopped = True
            self._close_upstream()
            self._caller.queue.end()
            self._crew.hurry()

    def _close_upstream(self) -> None:
        """Nothing more enters the engine."""
        with self._crew.changed:
            self._halted = True
            self._crew.changed.notify_all()
        self._captured.abort()
        self._prepared.abort()
        self._gate.break_open()

    def _end(self) -> None:
        """Wait for the threads; those that a stop or an error leaves hanging are left behind."""
        if not self._started or self._ended:
            return
        self._ended = True
        if not self._crew.wait(lambda: self._crew.running <= {"capture", "prepare"}, DRAIN_S):
            for outlet in self.outlets:
                outlet.queue.abort()
        self._close_upstream()
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
        self._closed = True
        atexit.unregister(self._close_at_exit)
        self.left_behind = self._crew.join()
        for name in self.left_behind:
            what = "its file may not be whole" if name.startswith("deliver") else "it is left behind"
            warn(f"{name} still hangs after the stream has ended; {what}")

    def close(self) -> None:
        """End the stream, close source and sinks; a second call does nothing. Raises an error not raised yet."""
        if not self._started and not self._closed:
            self._closed = True
            with contextlib.ExitStack() as stack:
                stack.callback(self.source.close)
                for outlet in [*self.outlets, self._caller]:
                    stack.callback(outlet.close)
            return
        self.stop()
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

    def _capture(self) -> None:
        pacer, live = Pacer(self.policy.max_fps), self.source.live
        expected = taken = 0
        try:
            while self._limit is None or self.policy.freshest or taken < self._limit:
                while not live and (delay := pacer.delay(time.monotonic_ns())):
                    self._pause(delay)
                frame = self.source.read()
                if frame is None:
                    self.exhausted = not self._halted
                    return
                self._drop(SOURCE_GAP, frame.index - expected)
                expected, taken = frame.index + 1, taken + 1
                if live and pacer.delay(frame.captured_at):
                    self._drop(RATE_LIMIT)
                elif self._captured.put(frame) is not None:
                    self._drop(STALE)
        finally:
            self._captured.end()

    def _pause(self, seconds: float) -> None:
        with self._crew.changed:
            if self._crew.changed.wait_for(lambda: self._halted, seconds):
                raise ClosedError

    def _prepare(self) -> None:
        try:
            while True:
                if self.policy.freshest:
                    self._gate.wait()
                frame = self._captured.get()
                if frame is None:
                    return
                start = time.monotonic_ns()
                frame.prepared = frames.fit(frame.image, self._shape, self._fit)
                frame.timings["prepare"] = taken = time.monotonic_ns() - start
                self._gate.prepared(taken)
                if self._prepared.put(frame) is not None:
                    self._drop(STALE)
        finally:
            self._captured.abort()
            self._prepared.end()

    def _translate(self) -> None:
        flying: deque[tuple[Frame, Ticket]] = deque()
        left = self._limit
        try:
            while True:
                left = self._submit(flying, left, wait=True)
                if not flying:
                    return
                frame, ticket = flying.popleft()
                frame.translated = ticket.result()[0]
                frame.timings["engine"] = self._gate.finished(time.monotonic_ns())
                # the engine gets its next frame before the sinks get this one
                left = self._submit(flying, left, wait=False)
                frame.timings["deliver"] = 0
                for outlet in self.outlets:
                    if not outlet.offer(frame):
                        self._drop(QUEUE_FULL)
        finally:
            self._close_upstream()
            for outlet in [*self.outlets, self._caller]:
                outlet.queue.end()
            for _, ticket in flying:  # after an error: the engine gets its slots back
                with contextlib.suppress(Exception):
                    ticket.result()

    def _submit(self, flying: deque[tuple[Frame, Ticket]], left: int | None, *, wait: bool) -> int | None:
        """Fill the engine's slots with what is prepared, waiting only where it has nothing; return the limit left."""
        while len(flying) < self.policy.slots and left != 0:
            frame = self._prepared.get(wait=wait and not flying)
            if frame is None:
                break
            now = time.monotonic_ns()
            if self.policy.max_staleness and now - frame.captured_at > self.policy.max_staleness * 1e9:
                self._gate.refused()
                self._drop(STALE)
                continue
            assert frame.prepared is not None
            self._gate.started(now)
            flying.append((frame, self.engine.submit(frame.prepared[None])))
            left = None if left is None else left - 1
        return left

    def _deliver(self, outlet: Outlet) -> None:
        try:
            while (frame := outlet.queue.get()) is not None:
                outlet.write(frame, self._delivered)
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

    def _drop(self, cause: str, count: int = 1) -> None:
        if count > 0:
            with self._crew.changed:
                self.dropped[cause] += count


def translate(
    source: str | Source | Any,
    engine: Engine,
    sinks: Sequence[str | Sink] = (),
    *,
    fit: str = "stretch",
    view: str = "output",
    limit: int | None = None,
    policy: str = "auto",
    max_staleness: float | None = None,
    max_fps: float | None = None,
    slots: int | None = None,
) -> Stream:
    """Run frames through an engine: `for frame in translate("clip.mp4", engine): show(frame.translated)`.

    source, sinks: what --source and --sink take, or objects with read() and close(), write() and close(). fit, view,
    policy: one of FIT_MODES, VIEW_MODES, POLICIES. limit: end after so many frames. max_staleness
    (seconds), max_fps, slots: see streaming.policy.Policy. Raises InputError and EngineError, here or while
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
        )
        outputs = []
        for sink in sinks:
            outputs.append(open_sink(sink, mode=view, fps=input.fps, frames=input.frames, live=input.live))
            opened.callback(outputs[-1].close)
        stream = Stream(input, engine, outputs, fit, limit, chosen)
        opened.pop_all()
        return stream
