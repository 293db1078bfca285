#!/usr/bin/env python3
"""Translate pictures, videos or a camera with an exported generator.

runtime/run.py --engine facades.fp32.onnx --source photos/ --sink out/ --view side-by-side
runtime/run.py --engine facades.fp16.plan --source 0 --sink window
runtime/run.py --engine facades.int8.cpu.onnx --source clip.mp4 --sink translated.mp4
runtime/run.py doctor          what this machine has: the table that a defect report needs
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != ROOT:
    sys.path[0] = ROOT  # a script's own folder comes first there, and cuda.py must not hide the package cuda

from runtime.errors import CommandParser, InputError, run_command  # noqa: E402
from runtime.options import BACKENDS, FIT_MODES, VIEW_MODES  # noqa: E402

if TYPE_CHECKING:
    from runtime.engine import Engine
    from runtime.sinks import Sink
    from runtime.sources import Source
    from runtime.stream import Stream


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("--engine", required=True, metavar="FILE", help=".onnx (CPU) or .plan (TensorRT)")
    add("--source", required=True, metavar="SRC",
        help="image, folder, 'glob*', video file, camera index, /dev/videoN or test://WxH@FPS")  # fmt: skip
    add("--sink", action="append", metavar="SINK",
        help="folder/, video (.mp4 .avi .mkv .mov), image (.png .jpg), window or null; repeatable (null)")  # fmt: skip
    add("--view", choices=VIEW_MODES, default="output", help="what sinks show (default: %(default)s)")
    add("--fit", choices=FIT_MODES, default="stretch", help="how a frame meets the engine's square (%(default)s)")
    add("--limit", type=_at_least(1), metavar="N", help="end after N frames")
    add("--loop", type=_at_least(0), default=1, metavar="N", help="play a stored source N times, 0 for ever (1)")
    add("--backend", choices=BACKENDS, default="auto", help="what runs an .onnx (default: the faster that passed)")
    add("--threads", type=_at_least(1), metavar="N", help="CPU threads of an .onnx (default: one per core)")


def _at_least(lowest: int) -> type[int]:
    def number(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {value}")
        return value

    number.__name__ = "whole number"  # what argparse calls it in "invalid … value"
    return number  # type: ignore[return-value]


def run(args: argparse.Namespace) -> int:
    """Run the stream that the command line describes; returns the exit status."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # its findings reach the user as one sentence of ours
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from runtime.engine import open_engine
    from runtime.sinks import open_sink
    from runtime.sources import open_source
    from runtime.stream import translate

    sinks: list[Sink] = []
    with _stop_signals() as stopping, contextlib.ExitStack() as stack:
        source = open_source(args.source, loop=args.loop)
        stack.callback(source.close)
        frames = _frames(source, args.limit)
        specs = args.sink or ["null"]
        _protect(args.source, specs)
        engine = stack.enter_context(open_engine(args.engine, backend=args.backend, threads=args.threads))
        for spec in [] if stopping.is_set() else specs:
            sinks.append(open_sink(spec, mode=args.view, fps=source.fps, frames=frames))
            stack.callback(sinks[-1].close)
        stream = stack.enter_context(translate(source, engine, sinks, fit=args.fit, limit=args.limit))
        begun = time.monotonic()
        _consume(stream, frames, stopping)
        # closed before the summary: an error while a video is finished must not follow the good news
        stream.close()
        print(_summary(stream, engine, time.monotonic() - begun))
        if stream.exhausted:
            _warn_if_short(stream, frames)
    if stopping.is_set():
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _consume(stream: Stream, frames: int | None, stopping: threading.Event) -> None:
    """Run the stream to its end, with a progress bar for a stored source at a terminal."""
    from tqdm import tqdm

    hidden = True if stream.source.live else None  # None: hidden unless at a terminal
    with tqdm(total=frames, unit="frame", disable=hidden, dynamic_ncols=True) as bar:
        if stopping.is_set():
            return
        for _ in stream:
            bar.update()
            if stopping.is_set():
                return


def _frames(source: Source, limit: int | None) -> int | None:
    """Return how many frames will come, or None where nobody knows."""
    if source.frames is None or limit is None:
        return source.frames
    return min(source.frames, limit)


def _protect(source: str, sinks: Sequence[str]) -> None:
    """Raise InputError when a sink would write over the pictures or the video that are read."""
    inputs = Path(source)
    folder = inputs if inputs.is_dir() else inputs.parent
    if "://" in source or source.isdecimal() or source.startswith("/dev/"):
        return
    for spec in sinks:
        sink = Path(spec)
        writes_names = spec.endswith("/") or sink.is_dir() or not sink.suffix
        same = sink.resolve() == (folder.resolve() if writes_names else inputs.resolve())
        if spec not in ("null", "window") and same:
            raise InputError(f"--sink {spec} would write over --source {source}; choose another folder or file")


def _summary(stream: Stream, engine: Engine, seconds: float) -> str:
    """Return frames, rate and the percentiles of each stage, as text."""
    timings, about = stream.timings, engine.describe()
    fps = f", {timings.fps:.1f} fps" if timings.fps else ""
    unit = "frame" if timings.frames == 1 else "frames"
    what = ", ".join(f"{key} {value}" for key, value in about.items() if key not in ("engine", "version"))
    lines = [f"{timings.frames} {unit} in {seconds:.1f} s{fps}"]
    lines.append(f"{about.get('engine', 'engine')} {about.get('version', '')} ({what})")
    if lost := {cause: count for cause, count in stream.dropped.items() if count}:
        lines.append("dropped: " + ", ".join(f"{count} ({cause})" for cause, count in lost.items()))
    if timings.frames:
        lines.append(timings.table())
    return "\n".join(lines)


def _warn_if_short(stream: Stream, frames: int | None) -> None:
    """Say when a stored source gave clearly less than its header promises (a few frames may be its rounding)."""
    missing = (frames or 0) - stream.timings.frames
    if frames and missing > max(2, frames // 100):
        print(
            f"warning: {stream.source.name} ended after {stream.timings.frames} of its {frames} frames; it may be"
            " truncated",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that the frame in hand is finished; a second Ctrl-C breaks off."""
    stopping = threading.Event()

    def stop(number: int, _: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["doctor"]:
        from runtime import doctor

        return doctor.main(argv[1:])
    parser = CommandParser(prog="runtime/run.py", description=(__doc__ or "").strip())
    add_arguments(parser)
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
