"""What a server serves: the files of a page, and the addresses that a site answers itself.

The files lie below pages/; they hold no secret, and need no token.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.message import Message
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol

PAGES = Path(__file__).parent / "pages"

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What a file in pages/ is sent as."""

POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; media-src blob:; connect-src 'self'; script-src 'self';"
    " style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A page loads nothing from elsewhere, runs no script that is not a file of ours, and lies in nobody's frame."""


class RefusedError(Exception):
    """A request that is answered with a status and one sentence."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})


def slow_down(what: str, seconds: float) -> RefusedError:
    """Return the refusal of whoever came too often, and may come again after so many seconds."""
    wait = math.ceil(seconds)
    return RefusedError(429, f"{what}; try again in {wait} s.", {"Retry-After": str(wait)})


class Request(Protocol):
    """What a site is asked, and how it answers.

    command: GET, HEAD or POST. query: the address's last value for each key. client: the asker's address.
    """

    command: str
    query: dict[str, str]
    client: str
    headers: Message
    connection: socket.socket
    wfile: BufferedIOBase

    def body(self, most: int) -> bytes:
        """Return the request's body. Raises RefusedError where it has more than `most` bytes or does not come."""
        ...

    def answer(self, status: int, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        """Answer with a whole body."""
        ...

    def begin(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        """Send status and headers; what is then written to wfile is the body, of a length that nobody need know."""
        ...

    def gone(self) -> bool:
        """Whether the asker has closed the connection."""
        ...

    def viewer(self) -> AbstractContextManager[None]:
        """While inside, the asker counts as a viewer."""
        ...


@dataclass(frozen=True)
class Route:
    """One address of a site: what answers it, to which method, and whether it does without the token."""

    answer: Callable[[Request], None]
    method: str = "GET"
    is_open: bool = False


class Site(Protocol):
    """What a server serves. pages: where a page lies, "/" or "/NAME/" -> its folder below pages/.

    routes: path -> Route, beside the pages' files.
    """

    @property
    def pages(self) -> Mapping[str, str]: ...

    @property
    def routes(self) -> Mapping[str, Route]: ...


@dataclass(frozen=True)
class Asset:
    """A file below pages/ as it is sent."""

    kind: str
    body: bytes


def page_files(folder: str) -> list[Path]:
    """Return the files of a page: those that all pages share, and those of its own folder; all names differ."""
    return [file for part in ("common", folder) for file in sorted((PAGES / part).iterdir()) if file.suffix in KINDS]


def files_of(pages: Mapping[str, str]) -> dict[str, Asset]:
    """Return the files of pages (Site.pages) by their addresses; an index.html is its place itself."""
    return {
        place + file.name.replace("index.html", ""): Asset(KINDS[file.suffix], file.read_bytes())
        for place, folder in pages.items()
        for file in page_files(folder)
    }
