"""A connection to one camera, and HTTP over it: every wait has an end, and no answer leads to another host or port."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from pix2pix_edge.runtime.addresses import PORTS, Address, redacted
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sources.authorization import authorization_for

MOST_REDIRECTS = 5
LONGEST_HEAD = PIECE = 1 << 16

T = TypeVar("T")

STATUS = {
    401: "it wants a user and a password (401); write them into the address: {scheme}://USER:PASSWORD@{authority}/…",
    403: "it forbids this user to look (403); give the user that right in the camera's settings",
    404: "it has no such path (404); look up the path of its stream in the camera's manual",
    461: "it takes none of the transports that FFmpeg offers (461)",
    503: "it has no room for another viewer (503); close one",
}
"""Status -> what it means of a camera; RTSP has those of HTTP, and 461 besides (RFC 7826)."""


INTERIM = re.compile(rb"HTTP/\d\.\d 1\d\d\b")


class NoVideoError(InputError):
    """A camera gives no video, for a reason that the message has."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(f"{address.shown} gives no video: {reason}")
        self.reason = reason


def meaning_of(status: int, address: Address, *, authorized: bool) -> str:
    """Return what an answer's status says of a camera, and what to do."""
    if status == 401 and authorized:
        return "it refuses this user and password (401); signs of the password may be written percent-encoded"
    text = STATUS.get(status, "it answers with an error ({status})")
    return text.format(scheme=address.scheme, authority=address.authority, status=status)


def no_answer(head: bytes, address: Address) -> str:
    """Return what an answer says that is of another protocol than was asked in."""
    others = {b"RTSP/": "rtsp", b"HTTP/": "http", b"\x15\x03": f"{address.scheme}s"}  # the last: an alert of TLS
    other = next((f"; try {scheme}://" for start, scheme in others.items() if head.startswith(start)), "")
    return f"what answers there is no {address.scheme[:4].upper()}{other}"


class Connection:
    """A TCP or TLS connection to a camera. close() may come from any thread, and wakes one that waits."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Raises NoVideoError with the reason."""
        self._address, self.timeout_s = address, timeout_s
        host, port, connected = address.host, address.port, False
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
            connected = True
            if address.encrypted:
                context = ssl.create_default_context()
                if address.insecure:
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except socket.gaierror as error:
            raise NoVideoError(address, f"there is no host {host}; check its name, or give its number") from error
        except ConnectionRefusedError as error:
            raise NoVideoError(
                address, f"{host} refuses the connection at port {port}; is the camera on, and is that its port?"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise NoVideoError(
                address,
                f"its certificate cannot be trusted ({error.verify_message}); if it is the camera's own, append"
                " insecure=1 to the query: ?insecure=1",
            ) from error
        except (ssl.SSLError, TimeoutError) as error:
            if connected:
                raise NoVideoError(
                    address, f"there is no TLS at port {port}; try {address.scheme.removesuffix('s')}://"
                ) from error
            raise NoVideoError(
                address, f"{host} does not answer at port {port} within {timeout_s:g} s; is it on, and in this network?"
            ) from error
        except (OSError, UnicodeError) as error:
            raise NoVideoError(address, f"{host} cannot be reached ({getattr(error, 'strerror', error)})") from error
        self._socket.setblocking(False)
        self._lock = threading.Lock()

    @property
    def peer(self) -> str:
        """The number of the host it is connected to."""
        return str(self._socket.getpeername()[0])

    def send(self, data: bytes) -> None:
        """Send all of it; another thread may receive meanwhile. Raises OSError."""
        left, deadline = memoryview(data), time.monotonic() + self.timeout_s
        while left:
            left = left[self._when_ready(partial(self._socket.send, left), select.POLLOUT, deadline) :]

    def receive(self, deadline: float | None = None) -> bytes:
        """Return what comes next, b"" when the other side has hung up or this one was closed.

        deadline: a time.monotonic(); without one it waits as long as it takes. Raises TimeoutError.
        """
        try:
            return self._when_ready(partial(self._socket.recv, PIECE), select.POLLIN, deadline)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def _when_ready(self, attempt: Callable[[], T], event: int, deadline: float | None) -> T:
        """Try until the socket is ready, and wait outside the lock: OpenSSL allows one thread at a time."""
        while deadline is None or time.monotonic() < deadline:
            with self._lock, contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return attempt()
            if (number := self._socket.fileno()) < 0:
                raise OSError("closed")
            poll = select.poll()
            poll.register(number, event)
            poll.poll(None if deadline is None else max(0, deadline - time.monotonic()) * 1000)
        raise TimeoutError

    def close(self) -> None:
        """A second call does nothing."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._socket.close()


@dataclass
class Response:
    """An HTTP answer, and the body that follows. trouble: why that ended too early, where it is not as it says."""

    status: int
    headers: dict[str, str]
    challenges: list[str]
    connection: Connection
    _buffer: bytes
    trouble: str = field(default="", init=False)
    _left: int | None = field(init=False)
    _chunked: bool = field(init=False)

    def __post_init__(self) -> None:
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        self._left = 0 if self._chunked else self.length

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the header says so."""
        text = self.headers.get("content-length", "").strip()
        return int(text) if re.fullmatch(r"\d{1,18}", text) else None

    @property
    def stale(self) -> bool:
        """Whether a login was refused for its age alone (RFC 7616, 3.3)."""
        return any(re.search(r"(?i)\bstale=\"?true", text) for text in self.challenges)

    @property
    def kind(self) -> str:
        """The media type, such as "image/jpeg"; "" where the header has none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def receive(self, deadline: float | None) -> bytes:
        """Return the next piece of the body, b"" at its end. Raises TimeoutError."""
        if self._chunked and self._left == 0 and not self._next_chunk(deadline):
            return b""
        if self._left == 0:
            return b""
        data = self._buffer or self.connection.receive(deadline)
        taken = data if self._left is None else data[: self._left]
        self._buffer = data[len(taken) :]
        if self._left is not None:
            self._left -= len(taken)
        return taken

    def _next_chunk(self, deadline: float | None) -> bool:
        """Read the size of the next chunk (RFC 9112, 7.1); False for the last one."""
        while not (found := re.match(rb"(?:\r?\n)?([0-9A-Fa-f]{1,8})[^\n]{0,200}\n", self._buffer)):
            more = self.connection.receive(deadline) if len(self._buffer) < 300 else b""
            if not more:
                self.trouble = "its answer says that it comes in chunks, and does not" if self._buffer else ""
                return False
            self._buffer += more
        self._buffer = self._buffer[found.end() :]
        self._left = int(found[1], 16)
        return self._left > 0

    def put_back(self, data: bytes) -> None:
        """Have receive() return `data` again first."""
        if self._left is not None:
            self._left += len(data)
        self._buffer = data + self._buffer

    def close(self) -> None:
        self.connection.close()


def get(address: Address, timeout_s: float, headers: str = "") -> Response:
    """Ask an http:// or https:// address. headers: further ones, each with its line's end.

    Redirects are followed to the same scheme, host and port only. Raises NoVideoError unless the answer is 2xx.
    """
    target, authorization = address.target, ""
    for _ in range(MOST_REDIRECTS + 2):
        response = _ask(address, timeout_s, target, headers + authorization)
        if 200 <= response.status < 300:
            packed = response.headers.get("content-encoding", "identity")
            if packed.lower() == "identity":
                return response
            response.close()
            raise NoVideoError(
                address, f"it packs its answer ({packed[:20]}) unasked; switch that off where it is served"
            )
        response.close()
        if response.status in (301, 302, 303, 307, 308):
            target = _redirected(address, target, response.headers.get("location", ""))
            authorization = ""
        elif response.status == 401 and (address.user or address.password) and (not authorization or response.stale):
            authorization = authorization_for(response.challenges, address, target)
            if not authorization:
                asked = response.challenges[0].split()[0][:20]
                raise NoVideoError(address, f"it wants a login by {asked} (401), not by a password; set it to Digest")
        else:
            break
    if response.status < 400:
        raise NoVideoError(address, f"it sends on from one path to the next ({response.status}) without an end")
    raise NoVideoError(address, meaning_of(response.status, address, authorized=bool(authorization)))


def _redirected(address: Address, target: str, location: str) -> str:
    """Return the path that a redirect leads to. Raises NoVideoError where it leads away."""
    here = f"{address.scheme}://{address.authority}"
    there = urljoin(here + target, location)
    try:
        parts = urlsplit(there)
        port = parts.port or PORTS.get(parts.scheme)
        same = (parts.scheme, parts.hostname, port) == (address.scheme, address.host.lower(), address.port)
    except ValueError:
        same = False
    if not same or not location:
        raise NoVideoError(
            address, f"it sends on to {redacted(there)!r}, another place; if you trust that, give it as --source"
        )
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _ask(address: Address, timeout_s: float, target: str, headers: str) -> Response:
    deadline = time.monotonic() + timeout_s
    connection = Connection(address, timeout_s)
    try:
        connection.send(
            f"GET {target} HTTP/1.1\r\nHost: {address.authority}\r\nUser-Agent: pix2pix-edge\r\nAccept: */*\r\n"
            f"Accept-Encoding: identity\r\nConnection: close\r\n{headers}\r\n".encode("latin-1", "replace")
        )
        head = b""
        while not (found := re.match(rb"(.*?)\r?\n\r?\n", head, re.DOTALL)) or INTERIM.match(head):
            if found:  # 100 Continue and its like: the answer is still to come
                head = head[found.end() :]
                continue
            more = connection.receive(deadline) if len(head) < LONGEST_HEAD else b""
            if not more:
                break
            head += more
    except TimeoutError as error:
        connection.close()
        raise NoVideoError(
            address, f"it is silent: it took the connection, and has not answered within {timeout_s:g} s"
        ) from error
    except OSError as error:
        connection.close()
        raise NoVideoError(address, f"it hung up ({error.strerror or error})") from error
    status = re.match(rb"(?:HTTP/\d\.\d|ICY) (\d{3})\b", head)
    if found is None or status is None:
        connection.close()
        raise NoVideoError(address, no_answer(head, address) if head else "it hung up before it answered")
    lines = [line.decode("latin-1").partition(":") for line in re.split(rb"\r?\n", found[1])[1:]]
    fields = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}
    challenges = [value.strip() for name, _, value in lines if name.strip().lower() == "www-authenticate"]
    return Response(int(status[1]), fields, challenges, connection, head[found.end() :])
