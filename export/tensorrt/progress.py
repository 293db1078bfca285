"""A TensorRT build in progress: one bar for its nested phases, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class BuildProgress:
    """How far a build is, from the phases that TensorRT reports; cancels it on request. Called from any thread."""

    def __init__(self, bar: Any) -> None:
        """bar: a tqdm of 100 steps."""
        self._bar = bar
        self._lock = threading.Lock()
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, done
        self.cancelled = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = (parent, max(steps, 1), 0)
            self._show(name)

    def step(self, name: str, step: int) -> None:
        with self._lock:
            if name in self._phases:
                parent, steps, _ = self._phases[name]
                self._phases[name] = (parent, steps, min(step + 1, steps))
                self._show(name)

    def finish(self, name: str) -> None:
        with self._lock:
            parent, _, _ = self._phases.pop(name, ("", 1, 0))
            if parent is None and not self.cancelled:
                self._bar.update(100 - self._bar.n)

    def fraction(self) -> float:
        """Return the part of the build that is done: each phase is one step of its parent."""

        def done(name: str) -> float:
            _, steps, finished = self._phases[name]
            inner = [done(child) for child, (parent, _, _) in self._phases.items() if parent == name]
            return min(1.0, (finished + max(inner, default=0.0)) / steps)

        roots = [done(name) for name, (parent, _, _) in self._phases.items() if parent not in self._phases]
        return min(roots, default=0.0)

    def _show(self, name: str) -> None:
        self._bar.set_description_str(name[:40], refresh=False)
        self._bar.update(max(0, int(100 * self.fraction()) - self._bar.n))  # never backwards

    def monitor(self, trt: Any) -> Any:
        """Return a tensorrt.IProgressMonitor that reports here."""
        progress = self

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                super().__init__()  # pybind11 needs it before the first use

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                progress.start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                progress.step(phase_name, step)
                return not progress.cancelled

            def phase_finish(self, phase_name: str) -> None:
                progress.finish(phase_name)

        return Monitor()

    def run(self, build: Callable[[], Any]) -> Any:
        """Return what `build` returns. Ctrl-C stops it at its next step, and then raises KeyboardInterrupt.

        It runs in a thread of its own: the builder would keep the main thread, which alone hears Ctrl-C, in C++.
        """
        done = threading.Event()
        results: list[Any] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                results.append(build())
            except BaseException as error:
                failures.append(error)
            finally:
                done.set()

        with self._heard():
            threading.Thread(target=work, name="tensorrt-build").start()
            done.wait()  # not Thread.join(): before Python 3.13 it takes an interrupted thread for dead
        if self.cancelled:
            raise KeyboardInterrupt
        if failures:
            raise failures[0]
        return results[0]

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Let Ctrl-C cancel instead of raise; where it is ignored, or heard by another thread, leave that so."""
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
            yield
            return

        def cancel(*_: object) -> None:
            self.cancelled = True

        before = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
