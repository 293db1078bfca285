"""What a server serves: the files of a page, and the addresses that a site answers itself.

The files lie below pages/; they hold no secret, and need no token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Route:
    """One address of a site: what answers a server.Handler, to which method, and whether it does without the token."""

    answer: Callable[[Any], None]
    method: str = "GET"
    is_open: bool = False


class Site:
    """What a server serves. pages: where a page lies, "/" or "/NAME/" -> its folder below pages/.

    routes: path -> Route, beside the pages' files.
    """

    pages: Mapping[str, str]
    routes: dict[str, Route]


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
