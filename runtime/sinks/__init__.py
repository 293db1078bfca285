"""Frame sinks: the grammar of --sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Sink
from pix2pix_edge.runtime.sinks.files import FolderSink, ImageSink, NullSink
from pix2pix_edge.runtime.sinks.video import VIDEO_CODECS, VideoSink
from pix2pix_edge.runtime.sinks.window import WindowSink

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")
GRAMMAR = "a folder/, a video (.mp4 .avi .mkv .mov), an image (.png .jpg), http://HOST:PORT, window or null"


def open_sink(
    spec: str | Any,
    *,
    mode: str = "output",
    fps: float | None = None,
    frames: int | None = None,
    live: bool = False,
    token: str | None = None,
) -> Sink:
    """Open what --sink names (see GRAMMAR); an object with write() and close() is returned as it is.

    mode: what it shows, one of runtime.cli.VIEW_MODES. fps, frames, live: of the source, where known; fps None with
    a known count means still pictures. token: what a browser must give to an http:// sink. Raises InputError when the
    sink cannot be used.
    """
    if not isinstance(spec, str | Path):
        return spec
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
    if ending in IMAGE_ENDINGS:
        if frames and frames > 1:
            raise InputError(f"{frames} frames do not fit into the image {text}; use --sink {path.with_suffix('')}/")
        return ImageSink(path, mode)
    raise InputError(f"--sink {text} is nothing it can write; it takes {GRAMMAR}")
