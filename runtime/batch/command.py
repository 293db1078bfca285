"""Translate any number of pictures, on all cores of this machine or of a Ray cluster; run it again to go on.

  pix2pix-edge batch --engine facades.int8.cpu.onnx --source photos/ --sink translated/
  pix2pix-edge batch --engine facades.int8.cpu.onnx --source 's3://bucket/*.jpg' --sink s3://bucket/out --address auto
  pix2pix-edge batch --engine facades.fp16.plan --source LIST.txt --sink out/ --workers 4 --gpus 1

What has been translated is skipped. Bad pictures are named in SINK/manifest (Parquet) and at the end, and make the exit
status 1.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from pix2pix_edge.runtime.batch.manifest import FOLDER, Entry, Manifest
from pix2pix_edge.runtime.batch.places import is_remote, outputs_of, plain, sources_of
from pix2pix_edge.runtime.cli import FIT_MODES, add_backend, add_engine, at_least
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import (
    PATIENCE,
    EngineError,
    InputError,
    ToolkitError,
    native_stderr,
    printable,
    require,
    warn,
)
from pix2pix_edge.runtime.files import identity, leftovers, sha256_of

BLOCK = 64
"""Pictures in a task: what is done again where a node dies, and how many the others wait for at the end."""

PART = 2000
"""Rows in a part of the manifest: what must be looked at again after a kill."""

NAMED = 10
"""Bad pictures named on the screen; the manifest has them all."""

ANSWER_S = 10.0 * PATIENCE
"""A cluster that takes no connection for so long is not there."""

FIRST_RAY = (2, 40)
"""The oldest Ray whose Data has what is used here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    add = parser.add_argument
    add(
        "--source",
        required=True,
        metavar="SRC",
        help="folder (with those below), 'glob*', LIST.txt; paths or s3://, gs://, …",
    )
    add("--sink", required=True, metavar="DIR", help="folder for the pictures and the manifest; a path or an address")
    add("--fit", choices=FIT_MODES, default="stretch", help="how a picture meets the engine's size (%(default)s)")
    add("--workers", type=at_least(1), metavar="N", help="engines that run at once (default: a CPU each)")
    add(
        "--address",
        metavar="ADDRESS",
        help="of a Ray cluster: HOST:PORT, or auto on one of its nodes (default: this machine)",
    )
    add("--gpus", type=float, default=0, metavar="N", help="GPUs of each worker, or a part of one, for a .plan (0)")
    add_backend(parser)


def run(args: argparse.Namespace) -> int:
    """Return 0, or 1 where pictures could not be translated."""
    _end_at_sigterm()
    root, pictures = sources_of(args.source)
    sink = plain(args.sink)
    sink = sink if is_remote(sink) else str(Path(sink).resolve())
    pairs = list(zip(pictures, outputs_of(root, pictures, sink), strict=True))
    _protect(pairs)
    with open_engine(args.engine, backend=args.backend, threads=args.threads) as engine:
        if engine.input.shape[0] != 1:
            raise EngineError(
                f"{args.engine} takes a batch of {engine.input.shape[0]}; convert its model again, which gives it a"
                " batch of 1"
            )
    manifest = Manifest(sink, sha256_of(args.engine))
    folders = {Path(output).parent for _, output in pairs if not is_remote(output)}
    for folder in {*folders, Path(sink) / FOLDER}:
        for path in leftovers(folder):  # of workers that were killed while they wrote
            path.unlink(missing_ok=True)
    manifest.begin([output for _, output in pairs])
    left = [pair for pair in pairs if pair[1] not in manifest.done]
    print(f"{len(pairs)} pictures, {len(pairs) - len(left)} of them done before", flush=True)
    try:
        return _translate(args, left, manifest) if left else 0
    except KeyboardInterrupt:
        atexit.register(_leave)
        raise


def _protect(pairs: list[tuple[str, str]]) -> None:
    """Raise InputError where a translation would be written over a picture that is read."""
    read = {_identity(source) for source, _ in pairs} - {None}
    if over := next((output for _, output in pairs if _identity(output) in read), None):
        raise InputError(f"--sink would write over {over}, which is read; choose another folder")


def _identity(address: str) -> object:
    """Return one thing for a picture, whatever it is called; s3:// and s3a:// are one place."""
    return address.partition("://")[2] if is_remote(address) else identity(address)


def _translate(args: argparse.Namespace, left: list[tuple[str, str]], manifest: Manifest) -> int:
    from tqdm import tqdm

    bad: list[Entry] = []
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),  # where Ray prints the tracebacks of its workers; the bar is on stderr
        tqdm(total=len(left), unit="picture", dynamic_ncols=True, disable=None) as bar,
    ):
        try:
            for number, row in enumerate(_rows(args, left), 1):
                entry = Entry(**row)
                manifest.add(entry)
                if entry.error:
                    bad.append(entry)
                bar.update()
                if number % PART == 0:
                    _note(manifest)
        finally:
            noted = _note(manifest)
    print(f"{len(left) - len(bad)} translated, {len(bad)} could not be" + (":" if bad else ""))
    for entry in bad[:NAMED]:
        print(f"  {entry.source}: {entry.error}")
    if len(bad) > NAMED:
        print(f"  and {len(bad) - NAMED} more, in the manifest")
    return 1 if bad or not noted else 0


def _note(manifest: Manifest) -> bool:
    """Write what the manifest waits with; False, and a warning, where it cannot be: the pictures are worth more."""
    try:
        manifest.flush()
    except InputError as error:
        warn(f"{error} (the next run finds again what this one translated)")
        return False
    return True


def _rows(args: argparse.Namespace, left: list[tuple[str, str]]) -> Any:
    """Yield what becomes of each pair, as the workers finish them. Raises InputError and EngineError."""
    for source, output in left:
        if not _is_text(source):
            yield asdict(Entry(printable(source), printable(output), "", None, "its name is no UTF-8; rename it"))
    if not (left := [pair for pair in left if _is_text(pair[0])]):
        return
    ray = _connected(args.address)
    try:
        yield from _by_workers(args, left, ray)
    except (KeyboardInterrupt, ToolkitError):
        raise
    except Exception as error:  # Ray wraps what a worker raised in errors of its own
        raise EngineError(
            f"the workers gave up: {_first_line(error)}; what was done is kept, run it again to go on"
        ) from error
    finally:
        ray.shutdown()


def _connected(address: str | None) -> ModuleType:
    """Return Ray, connected to the cluster at `address`; None: to one of this machine. Raises InputError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters reaches the user as one sentence of ours
    ray = require("ray", "batch", "a batch")
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < FIRST_RAY:
        first = ".".join(map(str, FIRST_RAY))
        raise InputError(
            f"Ray {ray.__version__} is too old, {first} is needed; run: pip install --upgrade 'pix2pix-edge[batch]'"
        )
    _probe(address or "")
    try:
        with native_stderr():  # where Ray speaks of its log level, and prints a stack at SIGTERM
            ray.init(address, include_dashboard=False if address is None else None, log_to_driver=False,
                     logging_level="ERROR", ignore_reinit_error=True)  # fmt: skip
    except SystemExit:  # of Ray's own handler of SIGTERM
        raise KeyboardInterrupt from None
    except Exception as error:  # nobody there, another version of Ray or Python, a wrong word
        token = "; where it has a token: export RAY_AUTH_MODE=token" if isinstance(error, ConnectionError) else ""
        raise InputError(
            f"no Ray cluster can be used at {address or 'this machine'}: {_first_line(error)}{token}"
        ) from error
    finally:
        signal.alarm(0)  # by which that handler aborts the process, three seconds later
        _end_at_sigterm()
    return ray


def _by_workers(args: argparse.Namespace, left: list[tuple[str, str]], ray: Any) -> Any:
    """Yield what becomes of each pair, in whatever order the workers finish them."""
    data = require("ray.data", "batch", "a batch")
    import pyarrow

    from pix2pix_edge.runtime.batch.worker import Worker

    data.DataContext.get_current().enable_progress_bars = False  # the bar is ours
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    threads = args.threads or 1
    if (gpus := ray.cluster_resources().get("GPU", 0)) < args.gpus:
        raise InputError(
            f"--gpus {args.gpus:g}: Ray sees {gpus:g}; leave it out for an .onnx, or start a node with them:"
            " ray start --num-gpus N"
        )
    workers = args.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    sources, outputs = zip(*left, strict=True)
    table = pyarrow.table({"source": sources, "output": outputs})
    # blocks made here: a repartition would wait for a CPU, and the workers hold them all
    size = max(1, min(BLOCK, len(left) // workers))
    rows = data.from_arrow([table.slice(start, size) for start in range(0, len(left), size)])
    translated = rows.map_batches(
        Worker,
        batch_size=size if args.gpus else None,  # a block as it is; with GPUs Ray wants a number
        batch_format="pyarrow",
        fn_constructor_args=(str(Path(args.engine).resolve()), args.backend, threads, args.fit),
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=threads,
        num_gpus=args.gpus or None,
    )
    yield from translated.iter_rows()


def _end_at_sigterm() -> None:
    """Take SIGTERM as Ctrl-C: what is done is noted, and Ray shut down."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _probe(address: str) -> None:
    """Raise InputError for Ray's client, and where nobody listens at HOST:PORT: Ray would wait for minutes."""
    if address.startswith("ray://"):
        raise InputError(
            f"Ray Data does not run through Ray's client ({address}); give the cluster's own HOST:PORT, as 6379, or"
            " --address auto on one of its nodes"
        )
    if found := re.fullmatch(r"\[?([^/\[\]]+?)\]?:(\d{1,5})", address):
        try:
            socket.create_connection((found[1], int(found[2])), ANSWER_S).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise InputError(
                f"no Ray cluster can be used at {address}: {getattr(error, 'strerror', None) or error}; start one with:"
                " ray start --head"
            ) from error


def _is_text(name: str) -> bool:
    """Whether a name can be written down: a file's may be any bytes."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _leave() -> None:
    """End the process here: interrupted while they start, Ray's threads may crash it while it unloads libraries."""
    sys.stdout.flush()
    os._exit(130)


def _first_line(error: BaseException) -> str:
    """Return the sentence that a worker's own error says, out of all that Ray puts around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("No module named 'pix2pix_edge'" in line for line in lines):
        return "a node has no pix2pix-edge; run there: pip install 'pix2pix-edge[batch]'"
    ours = [
        line.partition("Error: ")[2]
        for line in lines
        if line.startswith(("pix2pix_edge.", "InputError", "EngineError"))
    ]
    if not ours and lines and lines[0].endswith(":"):  # a list follows, as of the versions that differ
        return " ".join(lines)[:300]
    return (ours or lines or [type(error).__name__])[-1 if ours else 0][:300]
