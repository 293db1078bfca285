"""Where pictures are read and written: local paths, and any address that fsspec knows (s3://, gs://, …)."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pix2pix_edge.runtime.errors import InputError, require
from pix2pix_edge.runtime.files import natural_key, written_beside
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, decode_image, read_image

LIST_ENDING = ".txt"
"""A file with one path or address a line."""


def is_remote(address: str) -> bool:
    """Whether fsspec must open it, rather than the operating system."""
    return "://" in address


def plain(spec: str) -> str:
    """Return a local path in place of fsspec's address of it."""
    return spec.removeprefix("file://").removeprefix("local://")


def absolute(spec: str) -> str:
    """Return an address that means the same to a worker, which may have another working folder."""
    spec = plain(spec)
    return spec if is_remote(spec) else os.path.abspath(spec)  # noqa: PTH100 (resolve() would rename links)


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of a remote address, and its path there. Raises InputError where none serves it."""
    fsspec = require("fsspec", "batch", "a remote address")
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address} cannot be opened: {error}") from error
    return system, str(path)


def listed(address: str) -> list[str]:
    """Return every file below a remote folder, or of a glob. Raises InputError."""
    system, path = file_system(address)
    try:
        found = system.glob(path) if any(sign in path for sign in "*?[") else system.find(path)
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"cannot read {address}: {error}") from error
    return [f"{address.partition('://')[0]}://{name}" for name in found]


def join(folder: str, name: str) -> str:
    """Return the address of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder) / name)


def sources_of(spec: str) -> tuple[str, list[str]]:
    """Return the root that output names are relative to, and every picture: of a folder and the folders below it, of a
    glob, or of a list (a .txt file with one a line).

    Raises InputError when there is none.
    """
    spec = absolute(spec)
    if spec.endswith(LIST_ENDING):
        return _listed(spec)
    magic = None if os.path.lexists(spec) else next((spec.index(sign) for sign in spec if sign in "*?["), None)
    root = spec if magic is None else spec[:magic].rpartition("/")[0] or ("/" if spec.startswith("/") else ".")
    if is_remote(spec):
        found = listed(spec)
        root = f"{spec.partition('://')[0]}://{file_system(root)[1]}"
    elif magic is None:
        place = Path(spec)
        found = [spec] if place.is_file() else [str(p) for p in place.rglob("*") if p.is_file()]
    else:
        found = glob.glob(spec, recursive=True)  # noqa: PTH207 (absolute ones too)
    pictures = sorted((p for p in found if PurePosixPath(p).suffix.lower() in IMAGE_ENDINGS), key=_natural)
    if not pictures:
        lacks = (
            "does not exist"
            if magic is None and not is_remote(spec) and not Path(spec).exists()
            else "holds no pictures"
        )
        raise InputError(f"--source {spec} {lacks}; give a folder, 'glob*' or LIST.txt")
    return (root.rpartition("/")[0] if root in pictures else root), pictures


def _natural(address: str) -> list[tuple[int, int, str]]:
    return natural_key(Path(address))


def _listed(file: str) -> tuple[str, list[str]]:
    if (content := get(file)) is None:
        raise InputError(f"there is no list {file}; give one path a line")
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise InputError(f"the list {file} is no UTF-8 ({error.reason}); give one path a line") from error
    if b"\0" in content:
        raise InputError(f"the list {file} is no text, it holds a byte 0; give one path a line")
    pictures = list(dict.fromkeys(absolute(line) for line in lines if line))
    if not pictures:
        raise InputError(f"the list {file} is empty; give one path a line")
    root = "" if any(map(is_remote, pictures)) else os.path.commonpath([str(Path(p).parent) for p in pictures])
    return root, pictures


def outputs_of(root: str, pictures: Sequence[str], sink: str) -> list[str]:
    """Return where each picture's translation goes: its place below the root, ending in .png; where two would be one,
    as of pictures that differ in their ending alone, the ending stays in the name (a.jpg.png).

    Raises InputError where that does not help, as for one name in two buckets' stores.
    """
    inside = [str(_below(root, picture)) for picture in pictures]
    if same := next((name for name, count in Counter(inside).items() if count > 1), None):
        raise InputError(f"two pictures would be written to {join(sink, same)}; give them in two runs, each a --sink")
    outputs = [str(PurePosixPath(name).with_suffix(".png")) for name in inside]
    while twice := {output for output, count in Counter(outputs).items() if count > 1}:
        outputs = [f"{name}.png" if output in twice else output for name, output in zip(inside, outputs, strict=True)]
    return [join(sink, output) for output in outputs]


def _below(root: str, picture: str) -> PurePosixPath:
    path = PurePosixPath(picture)
    try:
        return path.relative_to(root) if root else _anywhere(path)
    except ValueError:
        return _anywhere(path)


def _anywhere(path: PurePosixPath) -> PurePosixPath:
    """Return a place inside the sink for a picture of a list that has no common root."""
    return PurePosixPath(*[part for part in path.parts if part not in ("/", "..") and not part.endswith(":")])


def read(address: str, channels: int = 3) -> Image:
    """Read a picture as runtime.images.read_image() does. Raises InputError when it is missing or not whole."""
    if not is_remote(address):
        return read_image(address, channels=channels)
    if (content := get(address)) is None:
        raise InputError(f"cannot read {address}: it is not there")
    return decode_image(content, address, channels=channels)


def put(address: str, content: bytes) -> None:
    """Write a file's bytes, whole or not at all. Raises InputError."""
    try:
        if is_remote(address):
            system, path = file_system(address)
            system.pipe_file(path, content)  # an object is there once it is complete
        else:
            with written_beside(address) as temporary:
                temporary.write_bytes(content)
    except InputError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"cannot write {address}: {error}; make room, or write elsewhere") from error


def get(address: str) -> bytes | None:
    """Return a file's bytes, or None where there is none. Raises InputError."""
    try:
        if is_remote(address):
            system, path = file_system(address)
            return bytes(system.cat_file(path))
        return Path(address).read_bytes()
    except FileNotFoundError:
        return None
    except Exception as error:
        raise InputError(f"cannot read {address}: {error}") from error
