"""What the streaming loop costs and keeps to, measured against the bare engine."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.measure.interleave import Budget, Contender, Nanoseconds, Timings, interleave
from pix2pix_edge.runtime.engines.base import Engine, Images
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import STAGES, Frame, Sink
from pix2pix_edge.runtime.sinks import open_sink
from pix2pix_edge.runtime.sinks.files import NullSink
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.sources.pattern import TestSource
from pix2pix_edge.runtime.stream import translate
from pix2pix_edge.runtime.streaming.timings import AGE

CLIP_FRAMES = 300
WIDTH, HEIGHT = 640, 480
"""What a camera gives, for the live trials."""

LEAST_FRAMES = 3
"""Of a live run: its last third is compared with its first."""

EARLY_FRAMES = 500
"""Memory is compared with that after so many frames: by then every buffer has been used."""


@dataclass(frozen=True)
class Ages:
    """A live run: int64 [n] nanoseconds each. delivered_at counts from the start of the stream."""

    fps: float
    delivered_at: Nanoseconds
    age: Nanoseconds
    engine: Nanoseconds
    dropped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class LongRun:
    """What a long stored run lost, and left behind.

    growth_bytes: of resident memory since EARLY_FRAMES, None for a shorter run. files_left, threads_after_close: still
    open, and alive, when it was over.
    """

    frames: int
    lost: int
    out_of_order: int
    growth_bytes: int | None = None
    files_left: int
    threads_after_close: int = 1


def write_clip(folder: Path, height: int, width: int) -> Path:
    """Write a video of the test pattern that decodes as real ones do."""
    path = folder / "clip.mp4"
    source = TestSource(width, height, 30.0)
    sink = open_sink(path, fps=30.0)
    for index in range(CLIP_FRAMES):
        picture = source.picture(index)
        sink.write(Frame(index, 0, "clip", picture, picture, picture))
    sink.close()
    return path


def throughput(engine: Engine, clip: Path, folder: Path, budget: Budget, into: dict[str, Timings]) -> None:
    """Measure the bare engine in a loop, and the stream from the clip to null and to a .webm, in turns.

    Scopes of each: frame (nanoseconds per frame, one value a round), cpu (of all cores), switches (of context). The
    start of a stream is left out: its rate counts from the first delivery to the last.
    """
    images = [frame.image[None] for frame in _read(clip, 16)]

    def bare(calls: int) -> Mapping[str, Nanoseconds]:
        with _usage(calls) as used:
            start = time.perf_counter_ns()
            for call in range(calls):
                engine(images[call % len(images)])
            used["frame"] = np.array([(time.perf_counter_ns() - start) // calls])
        return used

    def stream(sink: str) -> Contender:
        def run(calls: int) -> Mapping[str, Nanoseconds]:
            source = open_source(clip, loop=0)
            output = open_sink(folder / "out.webm", fps=30.0) if sink == "webm" else NullSink()
            with _usage(calls) as used:
                running = translate(source, engine, [output], limit=max(2, calls))
                running.run()
            used["frame"] = np.array([1e9 / (running.timings.fps or 1)], np.int64)
            return used

        return run

    interleave({"bare": bare, "null": stream("null"), "webm": stream("webm")}, budget, into=into)


@contextlib.contextmanager
def _usage(frames: int) -> Iterator[dict[str, Nanoseconds]]:
    """Fill in the processor time and the context switches per frame of what happens inside."""
    used: dict[str, Nanoseconds] = {}
    before, cpu = resource.getrusage(resource.RUSAGE_SELF), time.process_time_ns()
    yield used
    after = resource.getrusage(resource.RUSAGE_SELF)
    switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw
    used["cpu"] = np.array([(time.process_time_ns() - cpu) // frames])
    used["switches"] = np.array([switches // frames])


def _read(clip: Path, count: int) -> list[Frame]:
    source = open_source(clip)
    frames = [frame for frame in (source.read() for _ in range(count)) if frame is not None]
    source.close()
    return frames


def engine_ns(engine: Engine, image: Images, seconds: float) -> float:
    """Return the median nanoseconds of a call, host to host. image: uint8 [1, S, S, 3]."""
    taken: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 10:
        start = time.perf_counter_ns()
        engine(image)
        taken.append(time.perf_counter_ns() - start)
    return float(np.median(taken))


def live(engine: Engine, fps: float, seconds: float) -> Ages:
    """Stream the test pattern at `fps` to null, under the freshest policy.

    Raises InputError when fewer than LEAST_FRAMES were delivered.
    """
    stream = translate(TestSource(WIDTH, HEIGHT, fps), engine, [NullSink()])
    timer = threading.Timer(seconds, stream.stop)
    timer.start()
    try:
        stream.run()
    finally:
        timer.cancel()
    delivered, age, taken = (stream.timings.column(name)[2:] for name in ("delivered_at", AGE, STAGES[2]))
    if len(delivered) < LEAST_FRAMES:
        raise InputError(
            f"the engine delivered too few frames ({len(delivered)}) in {seconds:.3g} s; give more --seconds, or a"
            " faster engine"
        )
    return Ages(fps, delivered - delivered[0], age, taken, dict(stream.dropped))


def long_run(engine: Engine, clip: Path, frames: int) -> LongRun:
    """Stream so many frames of the clip with every_frame."""
    before = open_files()
    stream = translate(open_source(clip, loop=0), engine, [sink := _Counting()], limit=frames)
    stream.run()
    return LongRun(
        frames=frames,
        lost=frames - sink.frames + sum(stream.dropped.values()),
        out_of_order=sink.out_of_order,
        growth_bytes=resident_bytes() - sink.early_bytes if sink.early_bytes else None,
        files_left=open_files() - before,
    )


class _Counting(Sink):
    """A sink that sees whether every frame comes, in order."""

    name = "count"

    def __init__(self) -> None:
        self.frames = self.out_of_order = self.early_bytes = 0

    def write(self, frame: Frame) -> None:
        self.out_of_order += frame.index != self.frames
        self.frames += 1
        if self.frames == EARLY_FRAMES:
            self.early_bytes = resident_bytes()

    def close(self) -> None:
        return


def resident_bytes() -> int:
    """Return the bytes of memory that this process has resident; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def open_files() -> int:
    """Return how many file descriptors this process holds; 0 where the system does not say."""
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 0
