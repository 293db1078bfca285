"""The http sink: a page with the live picture and its numbers, for boards without a screen."""

from __future__ import annotations

from pix2pix_edge.runtime.frame import Frame, Sink, Watched
from pix2pix_edge.runtime.web.broadcast import Broadcast
from pix2pix_edge.runtime.web.hosting import Hosting
from pix2pix_edge.runtime.web.live import LiveSite
from pix2pix_edge.runtime.web.status import StatusBoard


class WebSink(Sink):
    """Serves the newest frame at http://HOST:PORT. `write` never waits for a viewer."""

    name = "web page"
    newest = True
    watched = True
    stays = True

    def __init__(self, host: str, port: int, *, token: str | None = None, mode: str = "output") -> None:
        """host: where to listen; "" is 127.0.0.1, "0.0.0.0" or "::" every network. port: 0 takes a free one.

        token: what a browser must give, as ?token=… or `Authorization: Bearer …`; None lets everybody in. mode: what
        is shown until the viewer chooses, one of runtime.cli.VIEW_MODES. Raises InputError when it cannot listen.
        """
        self.broadcast = Broadcast()
        self._status = StatusBoard(self.broadcast, lambda: self._hosting.server.connections.viewers, mode)
        site = LiveSite(self.broadcast, self._status, mode)
        self._hosting = Hosting(site, host, port, token, option="--sink", invitation="watch at")
        self.port = self._hosting.server.port

    def attach(self, stream: Watched) -> None:
        """Show this stream's numbers."""
        self._status.attach(stream)

    def write(self, frame: Frame) -> None:
        """Show a translated frame; takes microseconds."""
        self.broadcast.put(frame)

    def close(self) -> None:
        """Tell the viewers that the stream has ended, and stop listening; a second call does nothing."""
        self.broadcast.end()
        self._hosting.close()
