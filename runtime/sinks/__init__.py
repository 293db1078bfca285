"""Frame sinks: the grammar of --sink, and any Python object that has write() and close()."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import identity
from pix2pix_edge.runtime.frame import Frame, Sink, check_methods
from pix2pix_edge.runtime.images import WRITTEN_ENDINGS
from pix2pix_edge.runtime.sinks.files import FolderSink, ImageSink, NullSink
from pix2pix_edge.runtime.sinks.video import VIDEO_CODECS, VideoSink
from pix2pix_edge.runtime.sinks.window import WindowSink

GRAMMAR = (
    "a folder/, a video (.webm .mp4 .mkv .avi .mov), an image (.png .jpg .tif .webp), http://HOST:PORT, window or null"
)


class Writer(Protocol):
    """What an object must offer to be a sink; derive from runtime.frame.Sink to choose more."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


class ObjectSink(Sink):
    """A Writer as a sink, named by its own attribute name, or by its class."""

    def __init__(self, writer: Writer) -> None:
        """Raises InputError when it is none."""
        check_methods(writer, "sink", "write", "close")
        self.name = str(getattr(writer, "name", "") or type(writer).__name__)
        self._writer: Writer | None = writer

    def write(self, frame: Frame) -> None:
        if self._writer is not None:
            self._writer.write(frame)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def open_sink(
    spec: str | Any,
    *,
    mode: str = "output",
    fps: float | None = None,
    frames: int | None = None,
    live: bool = False,
    token: str | None = None,
) -> Sink:
    """Open what --sink names (see GRAMMAR); a Sink is returned as it is, another object is given write() and close().

    mode: what it shows, one of runtime.cli.VIEW_MODES. fps, frames, live: of the source, where known; fps None with
    a known count means still pictures. token: what a browser must give to an http:// sink. Raises InputError when the
    sink cannot be used.
    """
    if not isinstance(spec, str | Path):
        return spec if isinstance(spec, Sink) else ObjectSink(spec)
    text = str(spec)
    path = Path(text)
    ending = path.suffix.lower()
    if not text.strip():  # as from a shell variable that is not set
        raise InputError(f"--sink is empty; it takes {GRAMMAR}")
    if text == "null":
        return NullSink()
    if text == "window":
        return WindowSink(mode, still=fps is None and frames is not None)
    if text.startswith("http://"):
        from pix2pix_edge.runtime.sinks.web import WebSink
        from pix2pix_edge.runtime.web.hosting import address_of

        host, port = address_of(text, "--sink")
        return WebSink(host, port, token=token, mode=mode)
    if "://" in text:
        raise InputError(f"--sink does not know {text.partition('://')[0]}://; it takes {GRAMMAR}")
    if text.endswith("/") or path.is_dir() or not ending:
        return FolderSink(path, mode)
    if ending in VIDEO_CODECS:
        return VideoSink(path, mode, fps, live=live)
    if ending in WRITTEN_ENDINGS:
        if frames and frames > 1:
            raise InputError(f"{frames} frames do not fit into the image {text}; use --sink {path.with_suffix('')}/")
        return ImageSink(path, mode)
    raise InputError(f"--sink {text} is nothing it can write; it takes {GRAMMAR}")


def refuse_overwriting(files: Sequence[Path], sinks: Sequence[Sink]) -> None:
    """Raise InputError when a sink would write over a file that is read, or two write the same, however spelled.

    A folder that holds a file that is read is refused as a whole. files: what the source reads.
    """
    places = [sink.writes for sink in sinks if sink.writes is not None]
    real = [str(place.resolve()).casefold() for place in places]
    if twice := next((place for place, name in zip(places, real, strict=True) if real.count(name) > 1), None):
        raise InputError(f"two sinks write to {twice}; give each its own")
    read = {identity(file) for file in files} - {None}
    for place in places:
        held = [identity(entry) for entry in place.iterdir()] if place.is_dir() else [identity(place)]
        if not read.isdisjoint(held):
            raise InputError(f"--sink {place} would write over what is read; choose another folder or file")
