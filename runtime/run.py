#!/usr/bin/env python3
"""Translate pictures, videos or a camera with an exported generator.

runtime/run.py --engine facades.fp32.onnx --source photos/ --sink out/ --view side-by-side
runtime/run.py --engine facades.fp16.plan --source 0 --sink window
runtime/run.py --engine facades.int8.cpu.onnx --source clip.mp4 --sink translated.mp4
runtime/run.py --engine http://HOST:8000/v2/models/facades --source 0 --sink window      on an inference server
runtime/run.py --engine facades.fp16.plan --source 0 --source 2 --sink http://127.0.0.1:8080 --sink '{source}.webm'
runtime/run.py doctor          what this machine has: the table that a defect report needs
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != ROOT:
    sys.path[0] = ROOT  # a script's own folder comes first there, and cuda.py must not hide the package cuda

from pix2pix_edge.runtime.addresses import redacted, shown  # noqa: E402
from pix2pix_edge.runtime.cli import (  # noqa: E402
    FIT_MODES,
    VIEW_MODES,
    CommandParser,
    add_backend,
    at_least,
    run_command,
)
from pix2pix_edge.runtime.errors import InputError, printable, warn  # noqa: E402
from pix2pix_edge.runtime.streaming.interrupt import Interrupt  # noqa: E402
from pix2pix_edge.runtime.streaming.policy import POLICIES  # noqa: E402
from pix2pix_edge.runtime.web.guard import add_token_arguments, token_from  # noqa: E402

if TYPE_CHECKING:
    from pix2pix_edge.runtime.engines.base import Engine
    from pix2pix_edge.runtime.frame import Source
    from pix2pix_edge.runtime.stream import Stream


NAMED = 10
"""Pictures that could not be read and are named in the summary."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("--engine", required=True, metavar="FILE",
        help=".onnx (CPU), .plan (TensorRT), or http://HOST:8000/v2/models/NAME (a server)")  # fmt: skip
    add("--source", required=True, action="append", metavar="SRC",
        help="image, folder, 'glob*', video file, camera (N, /dev/videoN, csi://N), rtsp://…, http://…, test://WxH@FPS;"
        " a camera takes '?size=1280x720@30&format=MJPG', a csi camera '?size=…&flip=2';"
        " repeatable: all at once")  # fmt: skip
    add("--sink", action="append", metavar="SINK",
        help="folder/, video (.webm .mp4 .mkv .avi .mov), image (.png .jpg .tif .webp),"
        " http://HOST:PORT (a page), window or null; repeatable (null); {source}: the source's name,"
        " for several")  # fmt: skip
    add("--view", choices=VIEW_MODES, default="output", help="what sinks show (default: %(default)s)")
    add("--fit", choices=(*FIT_MODES, "tile"), default="stretch",
        help="how a frame meets the engine's size; tile: larger pictures whole (%(default)s)")  # fmt: skip
    add("--limit", type=at_least(1), metavar="N", help="end after N frames")
    add("--loop", type=at_least(0), default=1, metavar="N", help="play a stored source N times, 0 for ever (1)")
    add("--policy", choices=POLICIES, default="auto",
        help="freshest drops frames that are no longer the newest, every_frame none (auto: by the source)")  # fmt: skip
    add("--max-pixels", type=at_least(1), metavar="N", help="refuse larger image files (178956970)")
    add("--max-staleness", type=float, metavar="S", help="of a live source, drop what is older than S seconds")
    add("--max-fps", type=float, metavar="N", help="frames per second at most (no limit)")
    add("--slots", type=at_least(1), metavar="N", help="frames in the engine at once (1 for freshest, else 2)")
    add("--strict", action="store_true", help="end at the first picture that cannot be read (name it, and go on)")
    add_token_arguments(parser)
    add_backend(parser)
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto",
        help="of an .onnx where it is not INT8 (auto: BF16 where it passed and the CPU has it)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the stream that the command line describes; returns the exit status."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # its findings reach the user as one sentence of ours
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from pix2pix_edge.runtime.streaming.together import Together

    with Interrupt() as interrupt, contextlib.ExitStack() as stack:
        engine, streams = _open(args, interrupt, stack)
        begun = time.monotonic()
        together = Together(streams)
        with interrupt.stopping(together):
            together.run()
        # closed before the summary: an error while a video is finished must not follow the good news
        seconds = time.monotonic() - begun
        for name, stream in streams.items():
            print(f"{name}: {_summary(stream, seconds)}" if len(streams) > 1 else _summary(stream, seconds))
        print(_engine_line(engine))
        if not args.sink:
            print("no picture was kept or shown: add --sink out/, --sink window, … (or null, to mean that)")
        if any(stream.left_behind for stream in streams.values()):
            stack.pop_all()  # closing an engine that hangs would never return; main() ends the process
    for error in list(together.failed.values())[:1]:
        raise error
    # what ends a page after its last frame interrupts nothing
    if interrupt.received and not all(stream.finished for stream in streams.values()):
        print("interrupted", file=sys.stderr)
        return 130
    return 1 if any(stream.unreadable for stream in streams.values()) else 0


def _open(
    args: argparse.Namespace, interrupt: Interrupt, stack: contextlib.ExitStack
) -> tuple[Engine, dict[str, Stream]]:
    """Open sources, engine and sinks, which `stack` closes; return the engine and, by name, a stream for each source.

    What is being opened is said to `interrupt`, which names it where it hangs.
    """
    from pix2pix_edge.runtime.engine import open_engine
    from pix2pix_edge.runtime.engines.shared import SharedEngine
    from pix2pix_edge.runtime.sinks.files import ProgressBar
    from pix2pix_edge.runtime.sinks.several import frames_of, names_of, open_sinks
    from pix2pix_edge.runtime.sources import open_source
    from pix2pix_edge.runtime.stream import translate

    sources: list[Source] = []
    for spec in args.source:
        interrupt.opening = f"--source {printable(shown(spec))}"
        sources.append(open_source(spec, loop=args.loop, max_pixels=args.max_pixels))
        stack.callback(sources[-1].close)
        _say_skipped(sources[-1])
    specs, token = _sinks_asked_for(args)
    interrupt.opening = f"--engine {printable(redacted(str(args.engine)))}"
    engine = open_engine(
        args.engine, backend=args.backend, precision=args.precision, threads=args.threads, slots=max(2, args.slots or 0)
    )
    stack.enter_context(engine)
    if engine.on_cpu:  # an engine on the CPU wants every core
        import cv2

        cv2.setNumThreads(1)
    interrupt.opening = "a --sink"
    wanted = [] if interrupt.received else specs
    sinks = open_sinks(wanted, sources, mode=args.view, limit=args.limit, token=token)
    for sink in (sink for each in sinks for sink in each):
        stack.callback(sink.close)
    if len(sources) == 1 and not sources[0].live and sys.stderr.isatty():
        sinks[0].append(ProgressBar(frames_of(sources[0], args.limit)))
    engines: Sequence[Engine] = [engine]
    if len(sources) > 1:
        engines = stack.enter_context(SharedEngine(engine, len(sources))).shares
    return engine, {
        name: translate(
            source,
            its_engine,
            its_sinks,
            fit=args.fit,
            limit=args.limit,
            policy=args.policy,
            max_staleness=args.max_staleness,
            max_fps=args.max_fps,
            slots=args.slots,
            strict=args.strict or source.frames == 1,
        )
        for name, source, its_engine, its_sinks in zip(names_of(sources), sources, engines, sinks, strict=True)
    }


def _sinks_asked_for(args: argparse.Namespace) -> tuple[list[str], str | None]:
    """Return what --sink names, null where it is not given, and the token of a page. Raises InputError."""
    specs = args.sink or ["null"]
    if twice := next((spec for spec in specs if specs.count(spec) > 1), None):
        raise InputError(f"--sink {redacted(twice)} is given twice; give each sink once")
    has_page = any(spec.startswith("http://") for spec in specs)
    if (args.token or args.token_file) and not has_page:
        raise InputError("--token is for a page, and there is none; add: --sink http://127.0.0.1:8080")
    return specs, token_from(args) if has_page else None


def _say_skipped(source: Source) -> None:
    """Name what the source was pointed at and does not read: files, by kind, and sound."""
    from pix2pix_edge.runtime.sources.containers import has_sound

    if source.skipped:
        kinds = Counter(path.suffix.lower() for path in source.skipped)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        warn(f"skipped, because it reads no such files from a folder: {counts} (the first: {source.skipped[0]})")
    if source.fps and source.files and has_sound(source.files[0]):
        warn(f"{source.files[0]} has sound, which is left out")


def _engine_line(engine: Engine) -> str:
    about = engine.describe()
    what = ", ".join(f"{key} {value}" for key, value in about.items() if key not in ("engine", "version"))
    return f"{about.get('engine', 'engine')} {about.get('version', '')} ({what})"


def _summary(stream: Stream, seconds: float) -> str:
    """Return frames, rate and the percentiles of each stage, as text."""
    timings = stream.timings
    fps = f", {timings.fps:.1f} fps" if timings.fps else ""
    unit = "frame" if timings.frames == 1 else "frames"
    lines = [f"{timings.frames} {unit} in {seconds:.1f} s{fps}"]
    if stream.dropped:
        lines.append("dropped: " + ", ".join(f"{count} ({cause})" for cause, count in stream.dropped.items()))
    if stream.unreadable:
        lines.append(f"{sum(stream.unreadable.values())} could not be read:")
        lines += [f"  {printable(reason)}" for reason in list(stream.unreadable)[:NAMED]]
        lines += [f"  and {len(stream.unreadable) - NAMED} more"] if len(stream.unreadable) > NAMED else []
    for outlet in stream.outlets:
        if outlet.dropped:
            lines.append(f"{printable(outlet.name)} was too slow for {outlet.dropped} frames, and got {outlet.written}")
    if timings.frames:
        lines.append(timings.table())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, program: str = "runtime/run.py") -> int:
    """Run the command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["doctor"]:
        from pix2pix_edge.runtime import doctor

        return doctor.main(argv[1:])
    parser = CommandParser(program, (__doc__ or "").strip())
    add_arguments(parser)
    code = run_command(run, parser, argv)
    if any(thread.name.startswith("stream ") for thread in threading.enumerate()):
        # it hangs in a camera, a disk or a GPU, and would hold up the end of the process
        sys.stdout.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
