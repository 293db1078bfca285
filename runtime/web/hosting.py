"""A server that runs in a thread of its own, and says where, and who can see it."""

from __future__ import annotations

import errno
import socket
import sys
import threading
from urllib.parse import urlsplit

from pix2pix_edge.runtime.addresses import redacted
from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.web.guard import TOKEN_VARIABLE, check_token
from pix2pix_edge.runtime.web.server import WebServer
from pix2pix_edge.runtime.web.site import Site


class Hosting:
    """Serves a site at http://HOST:PORT until it is closed."""

    def __init__(self, site: Site, host: str, port: int, token: str | None, *, option: str, invitation: str) -> None:
        """host: where to listen; "" is 127.0.0.1, "0.0.0.0" or "::" every network. port: 0 takes a free one.

        token: what a browser must give, as ?token=… or `Authorization: Bearer …`; None lets everybody in. option: what
        the address was given with, for messages. invitation: printed before the page's address. Raises InputError when
        it cannot listen.
        """
        self.server = _listen(site, host or "127.0.0.1", port, check_token(token), option)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), name="web", daemon=True)
        self._thread.start()
        self._closed = False
        guard, port = self.server.guard, self.server.port
        print(f"{invitation} {self.server.url}{'?token=…' if token else ''}", file=sys.stderr, flush=True)
        if not guard.loopback and token is None:
            warn(f"whoever reaches port {port} of this machine can see it; to ask for a token: {TOKEN_VARIABLE}=WORD")
        if not guard.loopback:
            warn(
                "the page is not encrypted: whoever carries it can read pictures and token; where you do not trust the"
                " network, listen at 127.0.0.1, with a token, and put TLS in front, for example with:"
                f" caddy reverse-proxy --from NAME --to 127.0.0.1:{port}"
            )

    def close(self) -> None:
        """Let the answers that are under way end, and stop listening; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self.server.shutdown()
            self._thread.join()
            self.server.connections.end_all()
            self.server.server_close()


def _listen(site: Site, host: str, port: int, token: str | None, option: str) -> WebServer:
    where = f"http://{f'[{host}]' if ':' in host else host}"
    if not 0 <= port <= 65535:
        raise InputError(f"{option} {where}:{port} is no address; a port is a number from 1 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return WebServer(family, address, site, token, host)
    except (socket.gaierror, UnicodeError) as error:  # no such name; no name at all
        raise InputError(f"{option} {where}:{port}: there is no host {host}; use http://0.0.0.0:{port}") from error
    except OSError as error:
        mend = {
            errno.EADDRINUSE: f"the port is in use; choose another one, such as {option} {where}:{port % 65535 + 1}",
            errno.EACCES: f"ports below 1024 are for root; choose another one, such as {option} {where}:8080",
            errno.EADDRNOTAVAIL: f"this machine has not that address; {option} http://0.0.0.0:{port} takes all it has",
        }
        reason = mend.get(error.errno or 0, error.strerror or str(error))
        raise InputError(f"cannot serve at {where}:{port}: {reason}") from error


def address_of(text: str, option: str) -> tuple[str, int]:
    """Split http://HOST:PORT; without a host it is "". Raises InputError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if port is None or parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.username:
        raise InputError(
            f"{option} {redacted(text)} is no address to serve at; write for example http://127.0.0.1:8080"
        )
    return host, port
