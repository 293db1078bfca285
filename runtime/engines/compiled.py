"""Small networks as OpenVINO has compiled them, kept in the user's cache folder: the next start takes half the time.

A name there is the hash of what was compiled and of all that it depends on. What is kept is trusted as everything in
the user's own folders is; it is looked at for damage, because OpenVINO does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside

LARGEST = 16 << 20
"""Bytes of a network that is kept: to read what was made of a larger one takes as long as to make it anew."""
MOST = 16
"""Networks kept; the one that was made first goes."""
DIGEST = hashlib.sha256().digest_size


def place(content: bytes, conditions: Iterable[str]) -> Path | None:
    """Return where the compiled form of a network is kept; None for a large one, and where nobody has a cache."""
    if len(content) > LARGEST:
        return None
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    key = hashlib.sha256("\n".join((hashlib.sha256(content).hexdigest(), *conditions)).encode())
    return cache / "pix2pix-edge" / "openvino" / f"{key.hexdigest()}.blob"


def kept(path: Path) -> bytes | None:
    """Return what is kept there; None where there is nothing whole of one's own."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
                return None
            content = file.read()
    except OSError:
        return None
    return content[DIGEST:] if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST] else None


def keep(path: Path, content: bytes) -> None:
    """Keep what was compiled, if its folder can be written; the oldest go."""
    with contextlib.suppress(OSError, InputError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with written_beside(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
        by_age = sorted(path.parent.glob("*.blob"), key=lambda file: file.stat().st_mtime)
        for old in by_age[:-MOST]:
            old.unlink()
