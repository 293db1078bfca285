"""The parts of a live source's address: the options behind the question mark, and what of it may be shown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from pix2pix_edge.runtime.errors import InputError

EXAMPLES = {"size": "size=1280x720@30", "format": "format=MJPG", "flip": "flip=2"}
"""Option -> an example. size: WxH, with @FPS or without; format: the camera's FOURCC; flip: nvvidconv's flip-method."""

PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
"""Scheme of a network camera -> its port (RFC 9110, RFC 7826)."""

HARMLESS = ("ch", "channel", "chn", "camera", "profile", "resolution", "size", "stream", "streamtype", "subtype")
"""Parameters in the path of an address whose values may be shown: they tell one stream of a camera from another."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a camera; None leaves it the choice."""

    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None
    flip: int | None = None


def split_options(spec: str, allowed: tuple[str, ...]) -> tuple[str, Wanted]:
    """Split `0?size=1280x720@30&format=MJPG` into the address and what is wanted; `allowed` are keys of EXAMPLES.

    Raises InputError, with an example, for an option that is not allowed or has a wrong value.
    """
    base, _, query = spec.partition("?")
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in allowed:
            examples = "&".join(EXAMPLES[name] for name in allowed)
            raise InputError(f"{base} has no option {key!r}; for example: --source '{base}?{examples}'")
        found[key] = value
    size = _matching(found, base, "size", r"(\d{1,5})x(\d{1,5})(?:@(\d{1,4}(?:\.\d{1,6})?))?")
    code = _matching(found, base, "format", r"[A-Za-z0-9 ]{4}")
    flip = _matching(found, base, "flip", r"[0-7]")
    return base, Wanted(
        (int(size[1]), int(size[2])) if size else None,
        float(size[3]) if size and size[3] else None,
        code[0].upper() if code else None,
        int(flip[0]) if flip else None,
    )


def _matching(found: dict[str, str], base: str, key: str, pattern: str) -> re.Match[str] | None:
    if key not in found:
        return None
    match = re.fullmatch(pattern, found[key], re.ASCII)
    if match is None:
        raise InputError(f"{base}: {key}={found[key]} is not understood; write for example {EXAMPLES[key]}")
    return match


@dataclass(frozen=True)
class Address:
    """A network camera's address, taken apart.

    user, password: as they are, not percent-encoded; "" where there is none. target: path and query, percent-encoded.
    insecure: its certificate is not checked. shown: for messages.
    """

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    user: str = field(repr=False)
    password: str = field(repr=False)
    insecure: bool
    shown: str

    @property
    def encrypted(self) -> bool:
        return self.scheme in ("https", "rtsps")

    @property
    def authority(self) -> str:
        """host:port as a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def userinfo(self) -> str:
        """Return "user:password@", percent-encoded; "" where there is no user."""
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user or self.password else ""


def parse_address(text: str) -> Address:
    """Take a network camera's address apart.

    Its password may hold any sign, written as it is or percent-encoded. `$NAME` in place of a user, a password or a
    query's value is taken from the environment, so that it does not stand in the list of processes. `insecure=1`
    in the query switches the check of a certificate off, and is not sent. Raises InputError.
    """
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    userinfo, rest, _ = _split_userinfo(rest)
    found = re.match(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s/?#:@\[\]\\]+))(?::(\d{1,5}))?(?=[/?#]|$)", rest)
    port = int(found[3]) if found and found[3] else PORTS[scheme]
    if found is None or not 0 < port < 65536:
        raise InputError(
            f"{shown(text)} gives no video: it is no address; write {scheme}://HOST:PORT/PATH, or {scheme}://USER:PASSWORD@HOST:PORT/PATH,"
            " with the password between quotes for the shell"
        )
    user, _, password = userinfo.partition(":")
    path, mark, query = rest[found.end() :].partition("#")[0].partition("?")
    parts = [part for part in query.split("&") if part]
    kept = [_with_environment(part) for part in parts if part != "insecure=1"]
    target = (quote(path, safe="/%:=&~+!$,;'@()*[]") or "/") + (mark if kept or not parts else "")
    return Address(
        scheme,
        found[1] or found[2],
        port,
        target + "&".join(quote(part, safe="/%:=~+!$,;'@()*[]?") for part in kept),
        _from_environment(user) or unquote(user),
        _from_environment(password) or unquote(password),
        "insecure=1" in parts,
        shown(text),
    )


def _with_environment(part: str) -> str:
    """Fill in the value of "key=$NAME", percent-encoded."""
    key, equals, value = part.partition("=")
    filled = _from_environment(value)
    return f"{key}{equals}{quote(filled, safe='')}" if filled else part


def _from_environment(text: str) -> str:
    """Return what the environment has for "$NAME" or "${NAME}"; "" for any other text. Raises InputError."""
    name = re.fullmatch(r"\$(?:([A-Z_][A-Z0-9_]*)|\{([A-Z_][A-Z0-9_]*)\})", text)
    if name is None:
        return ""
    found = os.environ.get(name[1] or name[2])
    if not found:
        raise InputError(
            f"the environment has no {name[1] or name[2]}, which --source asks for; run: export"
            f" {name[1] or name[2]}=…, or write the sign $ as %24 where it belongs to a password"
        )
    return found


def _split_userinfo(rest: str) -> tuple[str, str, bool]:
    """Split what follows "://" into user and password, the remainder, and whether no other reading is possible.

    A password often holds signs that would end it by the rules, as in "admin:pa/ss#1@host/stream".
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, host = authority.rpartition("@")
    if at and re.fullmatch(r"(?:\[[^\]]*\]|[^:]*)(?::\d{0,5})?", host):  # else "@" and what ends it are of a password
        return userinfo, host + rest[len(authority) :], "@" not in rest[len(authority) :]
    if "@" not in rest:
        return "", rest, True
    port = authority.partition(":")[2]
    if ":" in authority and not authority.startswith("[") and not re.fullmatch(r"\d{0,5}", port):
        userinfo, _, remainder = rest.rpartition("@")  # what stands behind the colon is no port: a password's begin
        return userinfo, remainder, "?" not in userinfo.partition("@")[2]
    return "", rest, ":" not in rest.rpartition("@")[0]


_ADDRESS = re.compile(r"(?!test:|csi:)\b[A-Za-z][A-Za-z0-9+.-]*:/{1,2}(?=[^\s/])")

_BARE = re.compile(r"[^\s:@/'\"]+:(?!//)[^\s@].*@([^\s'\",]*)", re.DOTALL)
"""admin:secret@camera:554; behind test:// and in ?size=WxH@FPS the sign @ means a rate."""

_SECRET = r"[\w-]*(?:pass|pw|psw|tok|auth|key|secret|session|credential|sig|\bpin\b)[\w-]*"

_NAMED = re.compile(rf"([?&;,|\s]{_SECRET}\s*=\s*|--{_SECRET}\s+)[^\s&'\",]+", re.IGNORECASE)
"""0?password=secret, rtspsrc user-pw=secret, --password secret: no address, but the name says what it is."""

_ENCODED = re.compile(r"[^\s/]*%3A[^\s/]*%40", re.IGNORECASE)
"""rtsp%3A%2F%2Fme%3Asecret%40host."""


def redacted(text: str) -> str:
    """Return a message without the user names, passwords and query values of the addresses in it.

    Where it cannot be told what of an address is secret, nothing but its scheme is left.
    """
    text = _ENCODED.sub("***@", text)
    scheme, bare = _ADDRESS.search(text), _BARE.search(text)
    if scheme is None or (bare and bare.start() < scheme.start()):  # what looks like a scheme is of a password
        return _NAMED.sub(r"\1***", _BARE.sub(lambda found: f"***@{_without_values(found[1])}", text))
    rest = text[scheme.end() :]
    # a password may hold spaces and quotes; behind the last @ an address ends at the first of them
    address = re.match(r"(?:.*@)?(?:[^\s'\",]|,(?=[^\s'\"]))*", rest, re.DOTALL)
    assert address is not None
    return text[: scheme.end()] + _hidden(scheme[0], address[0]) + redacted(rest[address.end() :])


def shown(spec: str) -> str:
    """Return what --source or --sink was given as redacted() would, where all of it is one address."""
    spec = _ENCODED.sub("***@", spec)
    scheme = _ADDRESS.match(spec)
    return scheme[0] + _hidden(scheme[0], spec[scheme.end() :]) if scheme else redacted(spec)


def _hidden(scheme: str, rest: str) -> str:
    userinfo, remainder, certain = _split_userinfo(rest)
    host = r"\[[\w:.%]*\]?|[^:/?#]*"  # behind it nothing but a port
    certain = certain and re.match(rf"(?:{host})(:\d{{0,5}})?(?=[/?#;&,\s]|\W?$)", remainder) is not None
    if not certain:
        return "***"
    hidden = _without_values(remainder)
    if scheme.lower().startswith("rtmp"):  # what stands behind the application is the key
        hidden = re.sub(r"^([^/]*/+[^/]*/).+", r"\1***", hidden)
    elif re.match(r"(?:https?|rtsps?):", scheme, re.IGNORECASE):
        host, slash, path = hidden.partition("/")
        hidden = host + slash + _KEY.sub(_hidden_key, path)
    return ("***@" if userinfo else "") + hidden


_KEY = re.compile(r"(?<![A-Za-z0-9])(?:(?:[A-Za-z0-9]{4}-){3,}[A-Za-z0-9]{4}|[A-Za-z0-9]{12,})(?![A-Za-z0-9])")
"""What may be a stream's key in a path, as in rtsps://nvr:7441/5Qm1YxWqXKrKbWnT."""


def _hidden_key(found: re.Match[str]) -> str:
    """Return "***" for what changes between words and numbers as no name does; else what was found."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", found[0])
    return "***" if "-" in found[0] or len(parts) > 5 else found[0]


def _without_values(remainder: str) -> str:
    """Take the query's values, and those of parameters in the path, out of what follows user and password."""
    path, mark, _ = re.match(r"([^?#]*)([?#]?)(.*)", remainder, re.DOTALL).groups()  # type: ignore[union-attr]
    host, slash, path = path.partition("/")

    # cheap cameras take them in the path: rtsp://host/user=admin_password=secret_channel=1, or behind a semicolon
    def value(found: re.Match[str]) -> str:
        open_to_all = found[1].lower() in HARMLESS and re.fullmatch(r"[\w.]{1,12}", found[3])
        return f"{found[1]}{found[2]}{found[3] if open_to_all else '***'}"

    parameter = r"([A-Za-z][A-Za-z0-9-]*)(SIGN)(.*?)(?=[&;_,/|][A-Za-z][A-Za-z0-9-]*(?:SIGN)|$)"
    host = re.sub(parameter.replace("SIGN", "="), value, host, flags=re.DOTALL)  # "camera:554" has a port
    path = re.sub(parameter.replace("SIGN", "[=:]|%3[Dd]"), value, path, flags=re.DOTALL)
    path = re.sub(rf"((?:^|/){_SECRET}/)[^/]+", r"\1***", path, flags=re.IGNORECASE)
    return host + slash + path + (f"{mark}***" if mark else "")


def host_of(url: str) -> str:
    """Return the host of an address, fit for a file name; "stream" where it names none."""
    rest = _ENCODED.sub("@", url.partition("://")[2])
    found = re.match(r"\[([^\]]*)\]|[^/?#:\[;&=,\s]*", _split_userinfo(rest)[1])
    return re.sub(r"[^\w.-]", "_", (found[1] or found[0]) if found else "") or "stream"
