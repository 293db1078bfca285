"""The http sink: a page with the live picture and its numbers, for boards without a screen."""

from __future__ import annotations

import errno
import socket
import sys
import threading
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.web.broadcast import Broadcast
from pix2pix_edge.runtime.web.server import WebServer

if TYPE_CHECKING:
    from pix2pix_edge.runtime.stream import Stream


class WebSink:
    """Serves the newest frame at http://HOST:PORT. `write` never waits for a viewer."""

    name = "web page"
    newest = True

    def __init__(self, host: str, port: int, *, token: str | None = None, mode: str = "output") -> None:
        """host: where to listen; "" is 127.0.0.1, "0.0.0.0" or "::" every network. port: 0 takes a free one.

        token: what a browser must give, as ?token=… or `Authorization: Bearer …`; None lets everybody in. mode: what
        is shown until the viewer chooses, one of runtime.cli.VIEW_MODES. Raises InputError when it cannot listen.
        """
        self.broadcast = Broadcast()
        self._server = _listen(host or "127.0.0.1", port, self.broadcast, token, mode)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="web", daemon=True)
        self._thread.start()
        self._closed = False
        print(f"watch at {self._server.url}{'?token=…' if token else ''}", file=sys.stderr, flush=True)
        if not self._server.loopback and token is None:
            warn(f"whoever reaches port {self.port} of this machine can watch; to ask for a word, add: --token WORD")

    def attach(self, stream: Stream) -> None:
        """Show this stream's numbers."""
        self._server.status.attach(stream)

    def write(self, frame: Frame) -> None:
        """Show a translated frame; takes microseconds."""
        self.broadcast.put(frame)

    def close(self) -> None:
        """Tell the viewers that the stream has ended, and stop listening; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self.broadcast.end()
            self._server.shutdown()
            self._thread.join()
            self._server.hang_up()
            self._server.server_close()


def _listen(host: str, port: int, broadcast: Broadcast, token: str | None, mode: str) -> WebServer:
    if token is not None and not token.strip():
        raise InputError("--token is empty; give it a word, or leave it out to let everybody in")
    where = f"http://{f'[{host}]' if ':' in host else host}"
    if not 0 <= port <= 65535:
        raise InputError(f"--sink {where}:{port} is no address; a port is a number from 1 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return WebServer(family, address, broadcast, token, mode)
    except (socket.gaierror, UnicodeError) as error:  # no such name; no name at all
        raise InputError(f"--sink {where}:{port}: there is no host {host}; use http://0.0.0.0:{port}") from error
    except OSError as error:
        mend = {
            errno.EADDRINUSE: f"the port is in use; choose another one, such as --sink {where}:{port % 65535 + 1}",
            errno.EACCES: f"ports below 1024 are for root; choose another one, such as --sink {where}:8080",
            errno.EADDRNOTAVAIL: f"this machine has not that address; --sink http://0.0.0.0:{port} takes all it has",
        }
        reason = mend.get(error.errno or 0, error.strerror or str(error))
        raise InputError(f"cannot serve at {where}:{port}: {reason}") from error
