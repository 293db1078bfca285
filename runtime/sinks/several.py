"""The sinks of each of several sources, from one set of --sink: {source} in it stands for the source's name."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pix2pix_edge.runtime.addresses import redacted
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Sink, Source
from pix2pix_edge.runtime.sinks import open_sink, refuse_overwriting

MARK = "{source}"
"""What stands for the source's name."""

EACH = ("null",)
"""Sinks that any number of sources may have as they are; a page shows them all."""


def names_of(sources: Sequence[Source]) -> list[str]:
    """Return a name for each source, all different, that files and addresses may hold: camera0, 10.0.0.7-2, clip …"""
    plain = [re.sub(r"[^\w.-]+", "-", source.name, flags=re.ASCII).strip(".-") or "source" for source in sources]
    counts, seen = Counter(name.casefold() for name in plain), Counter[str]()
    names: list[str] = []
    for name in plain:
        if counts[name.casefold()] > 1:
            seen[name.casefold()] += 1
            name = f"{name}-{seen[name.casefold()]}"
        while name.casefold() in (other.casefold() for other in names):  # as where one is called like another's number
            name += "-"
        names.append(name)
    return names


def frames_of(source: Source, limit: int | None) -> int | None:
    """Return how many frames will come, or None where nobody knows."""
    return source.frames if source.frames is None or limit is None else min(source.frames, limit)


def open_sinks(
    specs: Sequence[str], sources: Sequence[Source], *, mode: str, limit: int | None, token: str | None
) -> list[list[Sink]]:
    """Open what --sink names for each source; an http:// address is one page for all. The arguments as of open_sink().

    limit: frames of each source at most. Raises InputError, also where two sources would write to the same place.
    """
    names = names_of(sources)
    with contextlib.ExitStack() as opened:
        sinks: list[list[Sink]] = [[] for _ in sources]
        for spec in specs:
            for place, sink in enumerate(_open(spec, sources, names, mode, limit, token)):
                opened.callback(sink.close)
                sinks[place].append(sink)
        refuse_overwriting([file for source in sources for file in source.files], [s for each in sinks for s in each])
        opened.pop_all()
        return sinks


def _open(
    spec: str, sources: Sequence[Source], names: Sequence[str], mode: str, limit: int | None, token: str | None
) -> list[Sink]:
    if len(sources) > 1:
        if spec.startswith("http://"):
            from pix2pix_edge.runtime.sinks.web import open_grid
            from pix2pix_edge.runtime.web.hosting import address_of

            return list(open_grid(*address_of(spec, "--sink"), names, token=token, mode=mode))
        if spec == "window":
            raise InputError("a window shows one source; for several take a page: --sink http://127.0.0.1:8080")
        if spec not in EACH and MARK not in spec:
            raise InputError(
                f"--sink {redacted(spec)} would get {len(sources)} sources; say where each goes:"
                f" --sink {shlex.quote(_marked(spec))}"
            )
    with contextlib.ExitStack() as opened:
        sinks = []
        for source, name in zip(sources, names, strict=True):
            path, frames = spec.replace(MARK, name), frames_of(source, limit)
            sinks.append(open_sink(path, mode=mode, fps=source.fps, frames=frames, live=source.live, token=token))
            opened.callback(sinks[-1].close)
        opened.pop_all()
        return sinks


def _marked(spec: str) -> str:
    """Return a sink's path with the mark in it: out/{source}/ or film-{source}.mp4."""
    path = Path(spec)
    return f"{spec.rstrip('/')}/{MARK}/" if not path.suffix else str(path.with_stem(f"{path.stem}-{MARK}"))
