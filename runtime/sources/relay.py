"""A relay between FFmpeg or GStreamer and one camera: they are given an address on this machine, and reach nobody else.

FFmpeg follows a camera's redirects wherever they lead, checks no certificate, and keeps the camera's answers to itself.
Here a redirect ends the connection, TLS is checked, and `trouble` says what the camera answered.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import threading
from collections.abc import Callable

from pix2pix_edge.runtime.addresses import Address, redacted
from pix2pix_edge.runtime.sources.connection import (
    LONGEST_HEAD,
    PIECE,
    Connection,
    NoVideoError,
    get,
    meaning_of,
    no_answer,
)


class Relay:
    """Listens on the loopback address until it is closed.

    trouble: what was wrong with the last answer, or "". The others are of RTSP. asked, answered, played: how far
    it came. transport_refused: the camera would not send as FFmpeg wished. codec: of its video, by its description.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._word = secrets.token_hex(16)  # other users of this machine do not know it
        self._open: list[socket.socket | Connection] = []
        self._lock = threading.Lock()
        self.trouble = self.codec = ""
        self.asked = self.answered = self.played = self.transport_refused = False
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    @property
    def url(self) -> str:
        """The address to give to FFmpeg."""
        host = f"127.0.0.1:{self._server.getsockname()[1]}"
        if self._address.scheme.startswith("http"):
            return f"http://{host}/{self._word}"
        return f"rtsp://{self._address.userinfo()}{host}{self._address.target}"

    def close(self) -> None:
        """End every connection; a second call does nothing."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            opened, self._open = self._open, []
        for one in opened:
            _end(one)

    def _accept(self) -> None:
        serve = self._serve_http if self._address.scheme.startswith("http") else self._serve_rtsp
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:  # closed
                return
            threading.Thread(target=self._guarded, args=(serve, client), name="relay client", daemon=True).start()

    def _guarded(self, serve: Callable[[socket.socket], None], client: socket.socket) -> None:
        self._keep(client)
        try:
            serve(client)
        except NoVideoError as error:
            self.trouble = error.reason
        except OSError:  # either side has hung up
            pass
        finally:
            _end(client)

    def _keep(self, one: socket.socket | Connection) -> None:
        with self._lock:
            self._open.append(one)

    # HTTP: a video file on a server

    def _serve_http(self, client: socket.socket) -> None:
        """Answer one request of FFmpeg's with what the server answers to ours."""
        client.settimeout(self._timeout_s)
        request = b""
        while b"\r\n\r\n" not in request and len(request) < LONGEST_HEAD:
            if not (more := client.recv(PIECE)):
                return
            request += more
        if not request.startswith(f"GET /{self._word} ".encode()):
            return
        client.settimeout(None)
        part = re.search(rb"(?i)\r\nrange:[^\r\n]*", request)
        response = get(self._address, self._timeout_s, part[0].decode("latin-1")[2:] + "\r\n" if part else "")
        self._keep(response.connection)
        kept = (
            "content-type",
            "content-range",
            "accept-ranges",
            *(() if response.length is None else ("content-length",)),
        )
        fields = "".join(f"{name}: {response.headers[name]}\r\n" for name in kept if name in response.headers)
        client.sendall(f"HTTP/1.1 {response.status} OK\r\n{fields}Connection: close\r\n\r\n".encode("latin-1"))
        try:
            while piece := response.receive(None):
                client.sendall(piece)
        finally:
            response.close()

    # RTSP: bytes both ways; the camera's messages are read until it plays

    def _serve_rtsp(self, client: socket.socket) -> None:
        camera = Connection(self._address, self._timeout_s)
        self._keep(camera)
        asked = _Asked()
        back = threading.Thread(target=self._answers, args=(camera, client, asked), name="relay camera", daemon=True)
        back.start()
        try:
            while request := client.recv(PIECE):
                self.asked = True
                asked.note(request)
                camera.send(request)
        finally:
            asked.ended = True
            camera.close()

    def _answers(self, camera: Connection, client: socket.socket, asked: _Asked) -> None:
        try:
            data = b""
            while not asked.played:
                message, data = _split_message(data)
                if message:
                    client.sendall(self._checked(message, camera, asked))
                    continue
                more = camera.receive() if len(data) < 2 * LONGEST_HEAD else b""
                if not more:
                    if not self.trouble and not asked.ended:
                        self.trouble = "it hung up before it played"
                    return
                data += more
                if not self.answered and data[:5] != b"RTSP/"[: len(data)]:
                    raise NoVideoError(self._address, no_answer(data, self._address))
            client.sendall(data)
            while data := camera.receive():
                client.sendall(data)
        except NoVideoError as error:
            self.trouble = error.reason
        except OSError:  # FFmpeg has hung up
            pass
        finally:
            _end(client)

    def _checked(self, message: bytes, camera: Connection, asked: _Asked) -> bytes:
        """Return a message of the camera as it may go on. Raises NoVideoError for one that leads away."""
        status = re.match(rb"RTSP/\d\.\d (\d{3})", message)
        if status is None:  # a packet of pictures, or a request of the camera's
            return message
        code, self.answered = int(status[1]), True
        if 300 <= code < 400:
            where = re.search(rb"(?i)\r\nlocation:\s*([^\r\n]*)", message)
            place = redacted(where[1].decode("latin-1")) if where else "another place"
            raise NoVideoError(self._address, f"it sends on to {place!r}; if you trust that, give it as --source")
        if code == 401 and self._address.user and not asked.authorized:  # FFmpeg asks again, if it can
            self.trouble = "it wants another login than FFmpeg knows (401); set the camera to Digest"
        elif code >= 400:
            self.trouble = meaning_of(code, self._address, authorized=asked.authorized)
            self.transport_refused |= asked.setup
        elif code == 200 and not asked.teardown:
            self.trouble = ""
            asked.played = self.played = asked.play
        if b"\nm=" in message:
            video = re.search(rb"\nm=video.*?(?=\nm=|\Z)", message, re.DOTALL)
            if video is None:
                raise NoVideoError(self._address, "it offers no video, only sound or data")
            codec = re.search(rb"\na=rtpmap:\d+ ([\w.-]{1,40})/", video[0])
            self.codec = (
                codec[1].decode() if codec else "JPEG" if re.match(rb"\nm=video \S+ \S+ 26\b", video[0]) else ""
            )
        # where FFmpeg sends its reports by UDP: to the camera, whoever it names
        return re.sub(rb";source=[^;\r\n]*", b";source=" + camera.peer.encode(), message)


class _Asked:
    """What FFmpeg has asked of the camera so far. played: the camera has answered PLAY. ended: FFmpeg has hung up."""

    def __init__(self) -> None:
        self.authorized = self.setup = self.play = self.teardown = self.played = self.ended = False

    def note(self, request: bytes) -> None:
        self.authorized |= b"\r\nAuthorization:" in request
        self.setup = request.startswith(b"SETUP")
        self.play = request.startswith(b"PLAY")
        self.teardown = request.startswith(b"TEARDOWN")


def _split_message(data: bytes) -> tuple[bytes, bytes]:
    """Split off the first RTSP message, or packet between them (RFC 2326, 10.12); b"" while it is not whole."""
    if data[:1] == b"$":
        length = 4 + int.from_bytes(data[2:4], "big") if len(data) >= 4 else 4
    else:
        head = data.find(b"\r\n\r\n")
        if head < 0:
            return b"", data
        body = re.search(rb"(?i)\r\ncontent-length:\s*(\d{1,6})\s*\r\n", data[: head + 2])
        length = head + 4 + (int(body[1]) if body else 0)
    return (data[:length], data[length:]) if len(data) >= length else (b"", data)


def _end(one: socket.socket | Connection) -> None:
    if isinstance(one, Connection):
        one.close()
        return
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
