"""The live page: what a stream shows, and its numbers.

/               the page                     /metrics   Prometheus' text format
/stream.mjpg    the live picture, MJPEG      /health    200 while frames come, else 503; needs no token
/snapshot.png   the newest picture           /events    the page's numbers, a server-sent event a second
/history.json   rate and latency of the last ten minutes

/stream.mjpg and /snapshot.png take ?view=output or ?view=side-by-side.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from pix2pix_edge.runtime.cli import VIEW_MODES
from pix2pix_edge.runtime.web.broadcast import BOUNDARY, Broadcast
from pix2pix_edge.runtime.web.server import Handler
from pix2pix_edge.runtime.web.site import RefusedError, Route, Site
from pix2pix_edge.runtime.web.status import Status, StatusBoard, as_prometheus

SEND_BUFFER = 64 << 10
"""Bytes the system keeps for a slow viewer: a picture or two, since more would be old ones."""


def answer_metrics(request: Handler, statuses: Sequence[Status]) -> None:
    """Answer with the metrics of one stream or more."""
    request.answer(200, "text/plain; version=0.0.4; charset=utf-8", as_prometheus(statuses).encode())


def send_events(request: Handler, read: Callable[[], dict[str, Any]], broadcasts: Sequence[Broadcast]) -> None:
    """Send what read() gives, a server-sent event a second, until all these streams have ended, and once then."""
    request.begin(200, "text/event-stream; charset=utf-8", {"X-Accel-Buffering": "no"})
    while request.command != "HEAD":
        begun, running = time.monotonic(), [broadcast for broadcast in broadcasts if not broadcast.ended.is_set()]
        request.wfile.write(f"data: {json.dumps(read())}\n\n".encode())
        if not running:
            return
        running[0].ended.wait(max(0.0, begun + 1.0 - time.monotonic()))


class LiveSite(Site):
    """Serves the newest frame of a Broadcast, and the numbers of its stream."""

    def __init__(self, broadcast: Broadcast, status: StatusBoard, mode: str) -> None:
        """mode: what is shown until the viewer chooses, one of runtime.cli.VIEW_MODES."""
        self.mode, self.pages = mode, {"/": "live"}
        self.broadcast, self.status = broadcast, status
        self.routes = {
            "/health": Route(self._health, is_open=True),
            "/metrics": Route(self._metrics),
            "/stream.mjpg": Route(self._stream),
            "/snapshot.png": Route(self._snapshot),
            "/events": Route(self._events),
            "/history.json": Route(self._history),
        }

    def _mode(self, request: Handler) -> str:
        mode = request.query.get("view", self.mode)
        if mode not in VIEW_MODES:
            raise RefusedError(400, f"There is no such view; use one of: {', '.join(VIEW_MODES)}.")
        return mode

    def _health(self, request: Handler) -> None:
        state, age = self.status.state()
        body = json.dumps({"state": state, "frame_age_s": age}) + "\n"
        request.answer(200 if state == "streaming" else 503, "application/json", body.encode())

    def _metrics(self, request: Handler) -> None:
        answer_metrics(request, [self.status.read()])

    def _history(self, request: Handler) -> None:
        request.answer(200, "application/json", json.dumps(asdict(self.status.history())).encode())

    def _snapshot(self, request: Handler) -> None:
        picture = self.broadcast.next(self._mode(request), "png")
        if picture is None:
            raise RefusedError(503, "There is no picture yet; try again in a moment.", {"Retry-After": "1"})
        # a name from a disk need not be UTF-8, and this header must be
        name = quote(picture.source.encode("utf-8", "replace"), safe="")
        disposition = f"attachment; filename=\"snapshot.png\"; filename*=UTF-8''{name}.png"
        request.answer(200, "image/png", picture.data, {"Content-Disposition": disposition})

    def _stream(self, request: Handler) -> None:
        mode = self._mode(request)
        request.begin(200, "multipart/x-mixed-replace; boundary=frame", {"X-Accel-Buffering": "no"})
        if request.command == "HEAD":
            return
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        request.wfile.write(BOUNDARY)
        number = 0
        with request.viewer():
            while not request.gone():
                if picture := self.broadcast.next(mode, "part", after=number, seconds=0.5):
                    number = picture.number
                    request.wfile.write(picture.data)
                elif self.broadcast.ended.is_set():
                    return

    def _events(self, request: Handler) -> None:
        send_events(request, lambda: asdict(self.status.read()), [self.broadcast])
