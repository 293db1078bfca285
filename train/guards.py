"""What a run is guarded by: one run in a folder, requests to stop, and what mends a full disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError, ToolkitError
from pix2pix_edge.train.distribution import Place
from pix2pix_edge.train.settings import settings_path


def resume_command(run: Path) -> str:
    return f"python -m train --out {shlex.quote(str(run))} --resume"


@contextlib.contextmanager
def locked(run: Path, place: Place) -> Iterator[None]:
    """Keep every other run out of the folder; the lock goes with the process. Raises InputError."""
    if not place.chief:
        yield
        return
    made = not run.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"cannot write {run}: {error.strerror}; choose a folder you may write to") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        raise InputError(
            f"{run} is being trained in by another process; wait for it, stop it, or choose another --out"
        ) from error
    try:
        yield
    finally:
        if made and not any(run.iterdir()):
            run.rmdir()
        os.close(folder)


@contextlib.contextmanager
def disk_full(run: Path) -> Iterator[None]:
    """Say what mends a full disk."""
    try:
        yield
    except (OSError, InputError) as error:
        full = errno.ENOSPC in (getattr(error, "errno", None), getattr(error.__cause__, "errno", None))
        if not full and "errno = 28" not in str(error):  # as HDF5 tells it
            raise
        go_on = f"go on with: {resume_command(run)}" if settings_path(run).exists() else "start again"
        raise ToolkitError(
            f"the disk of {run} is full; what was saved before is whole: make room and {go_on}"
        ) from error


@contextlib.contextmanager
def stop_requests(place: Place) -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into an event, so that a step is never torn; a second one stops at once.

    Of several workers each is stopped at once, because the others would not wait for its last save.
    """
    stop = threading.Event()
    if place.workers > 1:
        yield stop
        return

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
