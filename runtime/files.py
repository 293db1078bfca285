"""Files that are whole or absent: write beside, then rename."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError

BESIDE = ".writing-"
"""What the name of a file begins with that is still being written."""

# Asked once, on import: it can only be asked by setting it, and other threads may be making files later.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextlib.contextmanager
def written_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` only if the block ends without an error.

    The temporary name keeps the ending of `path`, because writers choose their format by it. Parent folders are made.
    Raises InputError when the folder cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=BESIDE, suffix=target.name, dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}; choose a folder you may write to") from error
    temporary = Path(name)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)  # held as long as this process lives: see leftovers()
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes private files
        os.replace(temporary, target)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Return what processes that were killed left half-written in a folder: no living one holds its lock."""
    found = []
    for path in Path(folder).glob(f"{BESIDE}*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                status = os.fstat(handle)
                # one that has just been made may not have been locked yet; nothing is written before
                if status.st_size or time.time() - status.st_ctime > 1:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found.append(path)
            finally:
                os.close(handle)
    return found


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Return the bytes free on the file system of `folder`."""
    return shutil.disk_usage(folder).free


def identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return what stays the same whatever a file is called: by a link, a hard link, in other case; None without one."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
