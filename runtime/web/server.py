"""The http sink's server: a thread for each connection, in which its pictures are encoded and sent.

    /               the page                     /metrics   Prometheus' text format
    /stream.mjpg    the live picture, MJPEG      /health    200 while frames come, else 503; needs no token
    /snapshot.png   the newest picture           /events    the page's numbers, a server-sent event a second

/stream.mjpg and /snapshot.png take ?view=output or ?view=side-by-side.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import secrets
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from pix2pix_edge.runtime.cli import VIEW_MODES
from pix2pix_edge.runtime.errors import warn
from pix2pix_edge.runtime.web.broadcast import BOUNDARY, Broadcast
from pix2pix_edge.runtime.web.status import StatusBoard, as_prometheus

PAGE = Path(__file__).parent / "pages" / "live.html"

MOST_CONNECTIONS = 256
"""A hundred viewers and as many who ask for numbers; more are turned away."""

PATIENCE_S = 10
"""A browser that takes so long to send a request, or to take one picture, has gone."""

SEND_BUFFER = 64 << 10
"""Bytes the system keeps for a slow viewer: a picture or two, since more would be old ones."""

LEAVE_S = 0.5
"""What viewers get to take the last event when the sink closes."""


class WebServer(ThreadingHTTPServer):
    """A thread for each connection, all of which can be ended."""

    daemon_threads = True
    allow_reuse_port = False  # newer Pythons would let two streams share a port, unseen
    request_queue_size = 128

    def __init__(self, family: int, address: Any, broadcast: Broadcast, token: str | None, mode: str) -> None:
        self.address_family = family
        super().__init__(address, _Handler)
        self.broadcast, self.mode = broadcast, mode
        self.token = None if token is None else token.encode()
        host = str(address[0])
        self.loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        self.page = PAGE.read_text(encoding="utf-8")
        self.viewers = 0
        self.status = StatusBoard(broadcast, lambda: self.viewers)
        everywhere = ipaddress.ip_address(host.partition("%")[0]).is_unspecified
        shown = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}/"
        self._open: dict[socket.socket, None] = {}
        self._changed = threading.Condition()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the name server who we are, which may take long

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            full = len(self._open) >= MOST_CONNECTIONS
            self._open[request] = None
        if full:
            request.setblocking(False)
            with contextlib.suppress(OSError):
                request.send(b"HTTP/1.0 503 Service Unavailable\r\n\r\nToo many viewers; close some and try again.\n")
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # that is a viewer who went away, or was too slow
            warn(f"the web page could not answer: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer while inside."""
        with self._changed:
            self.viewers += 1
        try:
            yield
        finally:
            with self._changed:
                self.viewers -= 1

    def hang_up(self) -> None:
        """Wait for the connections to end by themselves, then end them."""
        with self._changed:
            for patience in (LEAVE_S, LEAVE_S):
                if self._changed.wait_for(lambda: not self._open, patience):
                    return
                for connection in self._open:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in send or recv


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; see the module's docstring."""

    server: WebServer
    server_version = "pix2pix-edge"
    timeout = PATIENCE_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            address = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        except ValueError:
            return self._say(400, "This is no address.")
        if not self._knows_us():
            return self._say(
                403, "Open the page as http://127.0.0.1 or http://localhost, or give the stream a --token."
            )
        if address.path == "/health":
            return self._health()
        if not self._may(query.get("token")):
            return self._say(401, "This stream asks for its token: add ?token=WORD to the address.")
        mode = query.get("view", self.server.mode)
        if mode not in VIEW_MODES:
            return self._say(400, f"There is no such view; use one of: {', '.join(VIEW_MODES)}.")
        if address.path == "/":
            self._page()
        elif address.path == "/stream.mjpg":
            self._stream(mode)
        elif address.path == "/snapshot.png":
            self._snapshot(mode)
        elif address.path == "/events":
            self._events()
        elif address.path == "/metrics":
            text = as_prometheus(self.server.status.read())
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", text.encode())
        else:
            self._say(404, "There is nothing here; the page is at /.")

    do_HEAD = do_GET

    def _knows_us(self) -> bool:
        """Whether the browser asked for us by our own name.

        A stream for this machine alone must not be readable by a web page from elsewhere whose host name was made to
        point here (DNS rebinding). With a token it could not read anything.
        """
        if not self.server.loopback or self.server.token:
            return True
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or "localhost"
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def _may(self, given: str | None) -> bool:
        if self.server.token is None:
            return True
        scheme, _, bearer = self.headers.get("Authorization", "").partition(" ")
        if given is None and scheme.lower() == "bearer":
            return hmac.compare_digest(bearer.strip().encode("latin-1", "replace"), self.server.token)
        return hmac.compare_digest((given or "").encode("utf-8", "replace"), self.server.token)

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        page = self.server.page.replace("{{nonce}}", nonce).replace("{{view}}", self.server.mode)
        policy = (
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src 'nonce-{nonce}';"
            f" style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._answer(200, "text/html; charset=utf-8", page.encode(), {"Content-Security-Policy": policy})

    def _health(self) -> None:
        state, age = self.server.status.state()
        body = json.dumps({"state": state, "frame_age_s": age}) + "\n"
        self._answer(200 if state == "streaming" else 503, "application/json", body.encode())

    def _snapshot(self, mode: str) -> None:
        picture = self.server.broadcast.next(mode, "png")
        if picture is None:
            return self._say(503, "There is no picture yet; try again in a moment.")
        name = f"attachment; filename=\"snapshot.png\"; filename*=UTF-8''{quote(picture.source, safe='')}.png"
        self._answer(200, "image/png", picture.data, {"Content-Disposition": name})

    def _stream(self, mode: str) -> None:
        self._begin(200, "multipart/x-mixed-replace; boundary=frame", {"X-Accel-Buffering": "no"})
        if self.command == "HEAD":
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.wfile.write(BOUNDARY)
        broadcast, number = self.server.broadcast, 0
        with self.server.viewer():
            while not self._gone():
                if picture := broadcast.next(mode, "part", after=number, seconds=0.5):
                    number = picture.number
                    self.wfile.write(picture.data)
                elif broadcast.ended.is_set():
                    return

    def _events(self) -> None:
        self._begin(200, "text/event-stream; charset=utf-8", {"X-Accel-Buffering": "no"})
        while self.command != "HEAD":
            begun = time.monotonic()
            status = self.server.status.read()
            self.wfile.write(f"data: {status.as_json()}\n\n".encode())
            if status.state == "ended":
                return
            self.server.broadcast.ended.wait(max(0.0, begun + 1.0 - time.monotonic()))

    def _gone(self) -> bool:
        """Whether the viewer has closed the connection, which a thread that sends nothing would not notice."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)

    def _say(self, status: int, sentence: str) -> None:
        more = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status, {})
        self._answer(status, "text/plain; charset=utf-8", f"{sentence}\n".encode(), more)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._say(code, f"{code} {self.responses.get(code, ('Error',))[0]}")  # never an echo of the request

    def _answer(self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self._begin(status, kind, {"Content-Length": str(len(body)), **(more or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # the address may hold the token
            "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        }
        for key, value in (headers | more).items():
            self.send_header(key, value)
        self.end_headers()

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the addresses hold the token, and the terminal belongs to the stream."""
