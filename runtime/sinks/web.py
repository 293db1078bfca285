"""The http sink: a page with the live picture and its numbers, for boards without a screen."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

from pix2pix_edge.runtime.frame import Frame, Sink, Watched
from pix2pix_edge.runtime.web.broadcast import Broadcast
from pix2pix_edge.runtime.web.grid import GridSite
from pix2pix_edge.runtime.web.hosting import Hosting
from pix2pix_edge.runtime.web.live import LiveSite
from pix2pix_edge.runtime.web.status import StatusBoard


class Pane(Sink):
    """One stream's picture on a page. `write` never waits for a viewer."""

    name = "web page"
    newest = True
    watched = True
    stays = True

    def __init__(self, live: LiveSite, port: int, left: Callable[[], None]) -> None:
        """port: where the page is. left: called once this pane shows nothing new any more."""
        self.broadcast, self.port = live.broadcast, port
        self._live, self._left, self._closed = live, left, False

    def attach(self, stream: Watched) -> None:
        """Show this stream's numbers."""
        self._live.status.attach(stream)

    def write(self, frame: Frame) -> None:
        """Show a translated frame; takes microseconds."""
        self.broadcast.put(frame)

    def rest(self) -> None:
        """Tell the viewers that the stream has ended; the page stays."""
        self.broadcast.end()

    def close(self) -> None:
        """Tell the viewers that the stream has ended; with the last pane the page ends. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.broadcast.end()
            self._left()


class WebSink(Pane):
    """Serves the newest frame at http://HOST:PORT."""

    def __init__(self, host: str, port: int, *, token: str | None = None, mode: str = "output") -> None:
        """host: where to listen; "" is 127.0.0.1, "0.0.0.0" or "::" every network. port: 0 takes a free one.

        token: what a browser must give, as ?token=… or `Authorization: Bearer …`; None lets everybody in. mode: what
        is shown until the viewer chooses, one of runtime.cli.VIEW_MODES. Raises InputError when it cannot listen.
        """
        live = _live(lambda: self._hosting.server.connections.viewers, mode)
        self._hosting = Hosting(live, host, port, token, option="--sink", invitation="watch at")
        super().__init__(live, self._hosting.server.port, self._hosting.close)


def open_grid(
    host: str, port: int, names: Sequence[str], *, token: str | None = None, mode: str = "output"
) -> list[Pane]:
    """Return a sink for each of several streams, which one page shows; the other arguments as of a WebSink.

    names: of the streams, different, of letters, digits, "-", "_" and ".". Raises InputError when it cannot listen.
    """
    lives = {name: _live(lambda: hosting.server.connections.viewers, mode, name, len(names)) for name in names}
    hosting = Hosting(GridSite(lives), host, port, token, option="--sink", invitation="watch at")
    lock, left = threading.Lock(), set(names)

    def leave(name: str) -> None:
        with lock:
            left.discard(name)
            last = not left
        if last:
            hosting.close()

    return [Pane(live, hosting.server.port, functools.partial(leave, name)) for name, live in lives.items()]


def _live(viewers: Callable[[], int], mode: str, name: str = "", among: int = 1) -> LiveSite:
    broadcast = Broadcast()
    return LiveSite(broadcast, StatusBoard(broadcast, viewers, mode, name, among), mode)
