"""Who may ask, and how often: host names, the token and wrong guesses of it, floods."""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import os
import secrets
import shlex
import socket
import stat
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from pix2pix_edge.runtime.errors import InputError

SHORTEST_TOKEN = 16
"""Characters. Whoever can reach the port can try words; so many cannot be guessed unless they are words."""

TOKEN_VARIABLE = "PIX2PIX_EDGE_TOKEN"

LONGEST_TOKEN_FILE = 4096

GUESSES, GUESSES_PER_S = 10, 0.1
"""Wrong tokens that an address may send at once, and from then on."""

REQUESTS, REQUESTS_PER_S = 2000, 300.0
"""Requests of one address, likewise: two hundred browsers behind one address may open the page together."""

MOST_KEYS = 4096
"""Addresses remembered; beyond that the one not seen for longest is forgotten."""


def add_token_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --token and --token-file."""
    parser.add_argument(
        "--token",
        metavar="WORD",
        help=f"what a browser must give to see the page, {SHORTEST_TOKEN} characters or more (nothing); others on this"
        f" machine can read it in `ps`: better {TOKEN_VARIABLE}=WORD in the environment, or --token-file",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file whose first line is the token")


def token_from(args: argparse.Namespace) -> str | None:
    """Return the token that --token, --token-file or the environment gives, None where none does; see check_token."""
    token: str | None = args.token
    file: Path | None = args.token_file
    if token is not None and file is not None:
        raise InputError("--token and --token-file both give a token; give one of them")
    if file is not None:
        token = _first_line(file)
    elif token is None:
        token = os.environ.get(TOKEN_VARIABLE)
    return check_token(token)


def _first_line(file: Path) -> str:
    try:
        with open(file, "rb", opener=_without_waiting) as opened:
            lines = opened.read(LONGEST_TOKEN_FILE).decode().splitlines()
    except OSError as error:
        raise InputError(f"cannot read --token-file {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--token-file {file} is no text; {_offer_file(file)}") from error
    if not lines or not lines[0].strip():
        raise InputError(f"--token-file {file} is empty; {_offer_file(file)}")
    return lines[0].strip()


def _without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe that nobody writes to."""
    handle = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISFIFO(os.fstat(handle).st_mode) and not path.startswith("/dev/fd/"):
        os.close(handle)
        raise OSError(None, "it is a pipe; write the token into a file")
    os.set_blocking(handle, True)
    return handle


def _offer_file(file: Path) -> str:
    return f"make one with: (umask 077; echo {secrets.token_urlsafe(24)} > {shlex.quote(str(file))})"


def check_token(token: str | None) -> str | None:
    """Return the token. Raises InputError, which offers a generated one, where it could be guessed."""
    if token is not None and not token.strip():
        raise InputError("--token is empty; give it a word, or leave it out to let everybody in")
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise InputError(
            f"the token has {len(token)} characters and could be guessed; give {SHORTEST_TOKEN} or more, for example:"
            f" {TOKEN_VARIABLE}={secrets.token_urlsafe(24)}"
        )
    return token


class Buckets:
    """For each key a bucket of tokens: so many at once, then so many a second. Usable from any thread."""

    def __init__(self, at_once: float, per_s: float) -> None:
        self._at_once, self._per_s = at_once, per_s
        self._left: dict[str, tuple[float, float]] = {}  # key -> what was left, and when
        self._lock = threading.Lock()

    def wait(self, key: str, *, take: bool = True) -> float:
        """Take one of the key's tokens and return 0, or return the seconds until there is one.

        take: False only looks.
        """
        now = time.monotonic()
        with self._lock:
            left, at = self._left.pop(key, (self._at_once, now))
            left = min(self._at_once, left + (now - at) * self._per_s)
            if left < 1:
                self._left[key] = left, now
                return (1 - left) / self._per_s
            self._left[key] = left - 1 if take else left, now
            while len(self._left) > MOST_KEYS:
                del self._left[next(iter(self._left))]
        return 0.0


class Guard:
    """Says whose requests are answered.

    cookie: what a browser that has given the token is known by from then on, also to the next server with that token.
    """

    def __init__(self, host: str, token: str | None, name: str = "") -> None:
        """host: where the server listens, as an address. name: what it is called there, where it was given a name."""
        own = ipaddress.ip_address(host.partition("%")[0])
        self.loopback, self.everywhere = own.is_loopback, own.is_unspecified
        self.token = None if token is None else token.encode()
        self.cookie = hmac.new(self.token or secrets.token_bytes(32), b"pix2pix-edge cookie", "sha256").hexdigest()
        self._guesses = Buckets(GUESSES, GUESSES_PER_S)
        self._requests = Buckets(REQUESTS, REQUESTS_PER_S)
        own_name = socket.gethostname().lower()
        short = own_name.partition(".")[0]
        self._names = {"", "localhost", own_name, short, f"{short}.local", name.lower()}

    def flood(self, address: str) -> float:
        """Count a request; return 0, or the seconds that this address must wait."""
        return self._requests.wait(network_of(address))

    def knows(self, host: str) -> bool:
        """Whether a Host header names this machine: an address, localhost, or its own name.

        A web page from elsewhere whose name was made to point here (DNS rebinding) comes with a name of its own.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
            urlsplit(f"//{host}").port  # noqa: B018 - raises where it is no number
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            own = ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return own.is_loopback or not self.loopback

    def locked(self, address: str) -> float:
        """Return the seconds until this address may try another token; 0 for at once."""
        return self._guesses.wait(network_of(address), take=False)

    def opens(self, word: bytes, address: str) -> bool:
        """Whether this is the token; a wrong one is counted against the address."""
        right = self.token is not None and hmac.compare_digest(word, self.token)
        if not right:
            self._guesses.wait(network_of(address))
        return right

    def recognises(self, cookie: str) -> bool:
        """Whether this is our cookie."""
        return hmac.compare_digest(cookie.encode("latin-1", "replace"), self.cookie.encode())


def network_of(address: str) -> str:
    """Return whom an address belongs to: itself, or its /64 in IPv6, where everybody has that many."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
