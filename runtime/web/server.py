"""The web server of both pages: a thread for each connection, in which its pictures are encoded and sent.

What it answers is a Site's: runtime/web/live.py, runtime/web/drawing.py.
"""

from __future__ import annotations

import contextlib
import http.cookies
import select
import socket
import socketserver
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pix2pix_edge.runtime.errors import PATIENCE, warn
from pix2pix_edge.runtime.web.connections import Connections
from pix2pix_edge.runtime.web.guard import Guard
from pix2pix_edge.runtime.web.site import POLICY, RefusedError, Site, files_of, slow_down

PATIENCE_S = 10 * PATIENCE
"""A browser that takes so long to take one picture has gone."""

LINGER_S = 1.0 * PATIENCE
"""After an answer to a request that was not read whole: closing at once would take the answer away with it."""

TOO_MANY = "Too many viewers; close some and try again."
ASKS_FOR_TOKEN = "This stream asks for its token: add ?token=WORD to the address."


class WebServer(ThreadingHTTPServer):
    """A thread for each connection, all of which can be ended."""

    daemon_threads = True
    allow_reuse_port = False  # newer Pythons would let two streams share a port, unseen
    request_queue_size = 128

    def __init__(self, family: int, address: Any, site: Site, token: str | None, name: str = "") -> None:
        """address: where to listen, as getaddrinfo gives it. name: the host's name, where one was asked for."""
        self.address_family = family
        super().__init__(address, Handler)
        host = str(address[0])
        self.site = site
        self.assets = files_of(site.pages)
        self.guard = Guard(host, token, name)
        self.connections = Connections()
        shown = socket.gethostname() if self.guard.everywhere else f"[{host}]" if ":" in host else host
        self.port: int = self.server_address[1]
        self.url = f"http://{shown}:{self.port}/"

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the name server who we are, which may take long

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections.enter(request):
            super().process_request(request, client_address)
        else:
            request.setblocking(False)
            with contextlib.suppress(OSError):
                request.send(f"HTTP/1.0 503 Service Unavailable\r\n\r\n{TOO_MANY}\n".encode())
            self.shutdown_request(request)

    def service_actions(self) -> None:
        self.connections.end_overdue()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.connections.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # that is a viewer who went away, or was too slow
            warn(f"the web page could not answer: {type(error).__name__}: {error}")


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other, as the site's routes say.

    path: of the address, without the query. query: the last value for each key. client: the asker's address.
    """

    server: WebServer
    server_version = "pix2pix-edge"
    timeout = PATIENCE_S
    disable_nagle_algorithm = True

    path: str
    query: dict[str, str]
    client: str

    _keeps = _unread = _was_given = False  # as long as no request has been read: a bad one is answered, too

    def handle_one_request(self) -> None:
        self.server.connections.awaited(self.connection)
        self._unread = False
        super().handle_one_request()

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        # ours is HTTP/1.0, in which a connection is kept only for those who ask for it by name, as browsers do
        self._keeps = parsed and self.headers.get("Connection", "").lower() == "keep-alive"
        if parsed:
            self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
            if not self._unread:
                self.server.connections.answered(self.connection)
        return parsed

    def do_GET(self) -> None:
        try:
            self._dispatch()
        except RefusedError as refused:
            self.say(refused.status, refused.sentence, refused.headers)
        if self._unread:
            self._linger()

    do_HEAD = do_POST = do_GET

    def _dispatch(self) -> None:
        guard, self.client = self.server.guard, str(self.client_address[0])
        if seconds := guard.flood(self.client):
            raise slow_down("Too many requests", seconds)
        try:
            address = urlsplit(self.path)
            query = parse_qs(address.query)
        except ValueError:
            address, query = urlsplit(""), {}
        self.query = {key: values[-1] for key, values in query.items()}
        if not guard.knows(self.headers.get("Host", "")) and not self._has_token():
            raise RefusedError(
                403,
                "This machine does not go by that name: open the page by its address, such as http://127.0.0.1 or"
                " http://192.168.1.2, or give the stream a --token.",
            )
        if not address.path:
            raise RefusedError(400, "This is no address.")
        self.path = address.path
        route = self.server.site.routes.get(self.path)
        asset = self.server.assets.get(self.path)
        if self.server.connections.full() and self.path not in ("/health", "/metrics"):
            raise RefusedError(503, TOO_MANY, {"Retry-After": "1"})
        if self._is_foreign():
            raise RefusedError(403, "Another page may not use this one.")
        is_open = route.is_open if route else asset and not self.path.endswith("/")  # a page's files hold no secret
        if not is_open and not self._has_token():
            return self._ask_for_token()
        allowed = route.method if route else "GET"
        if self.command != allowed and (self.command, allowed) != ("HEAD", "GET"):
            raise RefusedError(405, f"This address takes {allowed} only.", {"Allow": allowed})
        if route:
            route.answer(self)
        elif asset:
            self.answer(200, asset.kind, asset.body)
        elif self.path.endswith("/sign-in") and guard.token:
            self.answer(204, "text/plain", b"")
        else:
            raise RefusedError(404, "There is nothing here; the page is at /.")

    def _is_foreign(self) -> bool:
        """Whether a page of another site asks, by way of our viewer's browser."""
        origin = self.headers.get("Origin")
        return origin is not None and origin.partition("://")[2] != self.headers.get("Host", "")

    def _has_token(self) -> bool:
        """Whether the request needs no token, or brings it: in the address, as a bearer, or as our cookie.

        Raises RefusedError where its sender has guessed too often.
        """
        guard = self.server.guard
        if guard.token is None:
            return guard.knows(self.headers.get("Host", ""))
        if guard.recognises(self._cookie()):
            return True
        scheme, _, bearer = self.headers.get("Authorization", "").partition(" ")
        given = self.query.get("token", "").encode("utf-8", "replace")
        if not given and scheme.lower() == "bearer":
            given = bearer.strip().encode("latin-1", "replace")
        if not given:
            return False
        if seconds := guard.locked(self.client):
            raise slow_down("Too many wrong tokens", seconds)
        self._was_given = guard.opens(given, self.client)
        return self._was_given

    @property
    def _cookie_name(self) -> str:
        return f"pix2pix-edge-{self.server.port}"  # browsers do not tell the ports of a host apart

    def _cookie(self) -> str:
        try:
            found = http.cookies.SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie_name)
        except http.cookies.CookieError:
            return ""
        return found.value if found else ""

    def _ask_for_token(self) -> None:
        bearer = {"WWW-Authenticate": "Bearer"}
        if self.path.endswith("/") and "text/html" in self.headers.get("Accept", ""):
            form = self.server.assets["/sign-in.html"]
            self.answer(401, form.kind, form.body, bearer)
        else:
            raise RefusedError(401, ASKS_FOR_TOKEN, bearer)

    def body(self, most: int) -> bytes:
        """Return the request's body. Raises RefusedError where it has more than `most` bytes or does not come."""
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or not lengths:
            raise RefusedError(411, "Say how long it is: Content-Length is missing.")
        if len(lengths) > 1 or not lengths[0].isascii() or not lengths[0].isdecimal() or len(lengths[0]) > 18:
            raise RefusedError(400, "Content-Length is no number.")
        if int(lengths[0]) > most:
            raise RefusedError(413, f"That is {int(lengths[0]):,} bytes; it may have {most:,} at most.")
        body = self.rfile.read(int(lengths[0]))
        if len(body) < int(lengths[0]):
            raise RefusedError(400, "The request ended before its end.")
        self._unread = False
        self.server.connections.answered(self.connection)
        return body

    def gone(self) -> bool:
        """Whether the viewer has closed the connection, which a thread that sends nothing would not notice."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)

    def viewer(self) -> AbstractContextManager[None]:
        """While inside, the asker counts as a viewer."""
        return self.server.connections.viewer()

    def _linger(self) -> None:
        """Take what is left of a request that was refused, for a moment: else the refusal is lost with it."""
        self.close_connection = True
        until = time.monotonic() + LINGER_S
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(1 << 16):
                    return

    def say(self, status: int, sentence: str, more: Mapping[str, str] | None = None) -> None:
        """Answer with one sentence."""
        self.answer(status, "text/plain; charset=utf-8", f"{sentence}\n".encode(), more)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.say(code, f"{code} {self.responses.get(code, ('Error',))[0]}")  # never an echo of the request

    def answer(self, status: int, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        """Answer with a whole body."""
        self.close_connection = not self._keeps or self._unread
        kept = {} if self.close_connection else {"Connection": "keep-alive"}
        self.begin(status, kind, {"Content-Length": str(len(body)), **kept, **(more or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        """Send status and headers; what is then written to wfile is the body, of a length that nobody need know."""
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",  # the address may hold the token
            "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": POLICY if kind.startswith("text/html") else "default-src 'none'",
        }
        if self._was_given:
            headers["Set-Cookie"] = f"{self._cookie_name}={self.server.guard.cookie}; HttpOnly; SameSite=Strict; Path=/"
        for key, value in (headers | dict(more)).items():
            self.send_header(key, value)
        self.end_headers()

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the addresses hold the token, and the terminal belongs to the stream."""
