"""The page of several streams: all their pictures in a grid, and of each its live page at /NAME/.

/               the grid                     /metrics   of all, with the label source
/pictures       the pictures of all, MJPEG   /health    200 while frames come from all, else 503; needs no token
/status         the numbers of all, a server-sent event a second

A part of /pictures says in X-Source of which stream it is. What a live page has lies at /NAME/ too: /NAME/stream.mjpg …
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict

from pix2pix_edge.runtime.web.broadcast import BOUNDARY
from pix2pix_edge.runtime.web.live import SEND_BUFFER, LiveSite, answer_metrics, send_events
from pix2pix_edge.runtime.web.server import Handler
from pix2pix_edge.runtime.web.site import Route, Site

PERIOD_S = 1 / 30
"""No picture of the grid is shown more often; a browser gets them all over one connection, of which it opens few."""


class GridSite(Site):
    """Serves several LiveSites. lives: by their names, which are what an address may hold."""

    def __init__(self, lives: Mapping[str, LiveSite]) -> None:
        self._lives = lives
        self.pages = {"/": "grid"} | {f"/{name}/": "live" for name in lives}
        self.routes = {
            "/health": Route(self._health, is_open=True),
            "/metrics": Route(lambda request: answer_metrics(request, [live.status.read() for live in lives.values()])),
            "/pictures": Route(self._pictures),
            "/status": Route(self._status),
        }
        for name, live in lives.items():
            self.routes |= {f"/{name}{path}": route for path, route in live.routes.items()}

    def _health(self, request: Handler) -> None:
        states = {name: live.status.state()[0] for name, live in self._lives.items()}
        well = all(state == "streaming" for state in states.values())
        request.answer(200 if well else 503, "application/json", json.dumps({"sources": states}).encode() + b"\n")

    def _pictures(self, request: Handler) -> None:
        request.begin(200, "multipart/x-mixed-replace; boundary=frame", {"X-Accel-Buffering": "no"})
        if request.command == "HEAD":
            return
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        request.wfile.write(BOUNDARY)
        shown = dict.fromkeys(self._lives, 0)
        with request.viewer():
            while not request.gone():
                begun = time.monotonic()
                ended = all(live.broadcast.ended.is_set() for live in self._lives.values())
                for name, live in self._lives.items():
                    if picture := live.broadcast.next(live.mode, "part", after=shown[name]):
                        shown[name] = picture.number
                        request.wfile.write(f"X-Source: {name}\r\n".encode() + picture.data)
                if ended:
                    return
                time.sleep(max(0.0, begun + PERIOD_S - time.monotonic()))

    def _status(self, request: Handler) -> None:
        lives = self._lives
        broadcasts = [live.broadcast for live in lives.values()]
        send_events(request, lambda: {name: asdict(live.status.read()) for name, live in lives.items()}, broadcasts)
