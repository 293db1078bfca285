"""Files that are whole or absent: write beside, then rename. And folders: what they hold, in natural order."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
    Raises InputError when the folder cannot be written, or its disk is full.
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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) and error.filename != name:
            raise  # of something else
        remedy = "choose another name" if target.is_dir() else "make room, or write elsewhere"
        raise InputError(f"cannot write {target}: {error.strerror}; {remedy}") from error
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


def keep_inputs(inputs: Iterable[Path], *outputs: Path) -> None:
    """Raise InputError when one of `outputs` would be written over a file that is read, however it is spelled."""
    read = {identity(path) for path in inputs} - {None}
    if over := next((path for path in outputs if identity(path) in read), None):
        raise InputError(f"{over} is read, and would be written over; choose another name")


def files_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the files of a folder in natural order, hidden ones apart; none where there is no folder.

    recursive: those of the folders below it too, each folder once however many links lead to it.
    """
    folders = folders_below(folder) if recursive else [folder]
    found = [path for below in folders for path in _entries(below) if path.is_file() and path.name[0] != "."]
    return sorted(found, key=natural_key)


def folders_below(folder: Path) -> Iterator[Path]:
    """Yield a folder and all below it, hidden ones apart, linked ones too, but none twice."""
    waiting, seen = [folder], set()
    while waiting:
        folder = waiting.pop()
        if not folder.is_dir() or (place := identity(folder)) in seen:
            continue
        seen.add(place)
        yield folder
        waiting += [path for path in _entries(folder) if path.name[0] != "." and path.is_dir()]


def is_lost(path: Path) -> bool:
    """Whether a path is a link to nothing: to be named among what cannot be read, and not passed over."""
    return path.is_symlink() and not path.exists()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (NotADirectoryError, FileNotFoundError):
        return []


def text_of(path: Path) -> str:
    """Return what a small file of the system says, stripped, or "" where it is absent or cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # a thermal zone whose unit is switched off
        return ""


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of a path with the numbers in it by value: 2.png before 10.png."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", str(path)) if part]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path: its stem, with its folders and then its ending too where it needs them to differ.

    a.jpg and a.png become "a.jpg" and "a.png", 1/a.png and 2/a.png "1_a" and "2_a". Names that differ only in case
    count as alike, because file systems may.
    """
    above = os.path.commonpath([path.parent for path in paths]) if len(paths) > 1 else ""
    longer = ["_".join(Path(os.path.relpath(path, above)).parts) if above else path.name for path in paths]
    names = [path.stem for path in paths]
    for candidates in ([name.removesuffix(path.suffix) for name, path in zip(longer, paths, strict=True)], longer):
        counts = Counter(name.casefold() for name in names)
        names = [
            candidate if counts[name.casefold()] > 1 else name
            for name, candidate in zip(names, candidates, strict=True)
        ]
    taken: set[str] = set()
    for place, name in enumerate(names):  # a_b/c.png beside a/b_c.png
        count = 1
        while names[place].casefold() in taken:
            count += 1
            names[place] = f"{name}_{count}"
        taken.add(names[place].casefold())
    return names
