"""The parts of a live source's address: the options behind the question mark, and what of it may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pix2pix_edge.runtime.errors import InputError

EXAMPLES = {"size": "size=1280x720@30", "format": "format=MJPG", "flip": "flip=2"}
"""Option -> an example. size: WxH, with @FPS or without; format: the camera's FOURCC; flip: nvvidconv's flip-method."""

FLIPS = range(8)
"""0 none, 1 left, 2 half a turn, 3 right, 4 mirrored, 5 and 7 the diagonals, 6 upside down."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a camera; None leaves it the choice."""

    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None
    flip: int | None = None


def split_options(spec: str, allowed: tuple[str, ...]) -> tuple[str, Wanted]:
    """Split `0?size=1280x720@30&format=MJPG` into the address and what is wanted; `allowed` are keys of EXAMPLES.

    Raises InputError, with an example, for an option that is not allowed or has a wrong value.
    """
    base, _, query = spec.partition("?")
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in allowed:
            examples = "&".join(EXAMPLES[name] for name in allowed)
            raise InputError(f"{base} has no option {key!r}; for example: --source '{base}?{examples}'")
        found[key] = value
    size = _matching(found, base, "size", r"(\d{1,5})x(\d{1,5})(?:@(\d+(?:\.\d+)?))?")
    code = _matching(found, base, "format", r"[A-Za-z0-9 ]{4}")
    flip = _matching(found, base, "flip", r"[0-7]")
    return base, Wanted(
        (int(size[1]), int(size[2])) if size else None,
        float(size[3]) if size and size[3] else None,
        code[0].upper() if code else None,
        int(flip[0]) if flip else None,
    )


def _matching(found: dict[str, str], base: str, key: str, pattern: str) -> re.Match[str] | None:
    if key not in found:
        return None
    match = re.fullmatch(pattern, found[key])
    if match is None:
        raise InputError(f"{base}: {key}={found[key]} is not understood; write for example {EXAMPLES[key]}")
    return match


def redacted(text: str) -> str:
    """Return an address, or a message that holds some, with user names, passwords and query values taken out."""
    text = re.sub(r"(\w+://)[^/?#\s'\"]*@", r"\1***@", text)
    text = re.sub(r"(\w+://[^?#\s'\"]*\?)[^\s'\"]+", r"\1***", text)
    # cheap cameras take them in the path: rtsp://host/user=admin&password=secret
    return re.sub(r"(?i)\b((?:user|usr|login|pass|pwd|token|key|auth|secret)\w*)[=:][^&/\s'\"]+", r"\1=***", text)


def host_of(url: str) -> str:
    """Return the host of an address, fit for a file name; "stream" where it names none."""
    try:
        host = urlsplit(url).hostname
    except ValueError:  # a bracket without its partner: whoever opens the address will say so
        host = None
    return re.sub(r"[^\w.-]", "_", host or "stream")
