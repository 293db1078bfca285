"""An RTSP camera on loopback, from sockets alone: JPEG by RTP (RFC 2435), over TCP or UDP, with real ones' quirks."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import struct
import threading

from pix2pix_edge.runtime.images import jpeg_segments
from tests.runtime.sources.ip_camera import Loopback, jpeg_of

WIDTH, HEIGHT, FPS = 96, 64, 25.0


def rtp_jpeg(jpeg: bytes, sequence: int, timestamp: int) -> bytes:
    """Pack a small baseline JPEG, 4:2:0 with the standard tables, into one RTP packet."""
    tables, scan = b"", b""
    for marker, at, end in jpeg_segments(jpeg):
        if marker == 0xDB:
            segment = jpeg[at + 4 : end]
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        elif marker == 0xDA:
            scan = jpeg[end:-2]
    head = struct.pack(">BBHII", 0x80, 0x80 | 26, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 7)
    return head + struct.pack(">IBBBBBBH", 0, 1, 255, WIDTH // 8, HEIGHT // 8, 0, 0, len(tables)) + tables + scan


class RtspCamera(Loopback):
    """Serves numbered pictures.

    udp_only: what SETUP by TCP is answered with, such as 461. answer: what DESCRIBE is answered with, instead of the
    stream. password: of the user "me", asked for by Digest. codec: what the description says of the pictures.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        udp_only: int = 0,
        answer: bytes = b"",
        password: str = "",
        codec: str = "",
        silent: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.udp_only, self.answer, self.password, self.codec, self.silent = udp_only, answer, password, codec, silent
        self.transports: list[str] = []
        self._jpegs = [jpeg_of(index, HEIGHT, WIDTH) for index in range(60)]
        self._lock = threading.Lock()
        super().__init__(context, port)

    def serve(self, client: socket.socket) -> None:
        data, send = b"", None
        client.settimeout(0.02)
        while not self.stopped.is_set() and (more := self._received(client)) != b"":
            data += b"" if self.silent else more or b""
            while b"\r\n\r\n" in data:
                request, _, data = data.partition(b"\r\n\r\n")
                text = request.decode("latin-1")
                answer, target = self._answered(text, client)
                send = target or send
                number = re.search(r"CSeq: (\d+)", text)
                client.sendall(
                    answer.replace(b"\r\n", b"\r\nCSeq: %b\r\n" % (number[1] if number else "0").encode(), 1)
                )
                if text.startswith("PLAY") and send:
                    threading.Thread(target=self._play, args=(send,), daemon=True).start()

    def _received(self, client: socket.socket) -> bytes | None:
        """Return what has come, b"" at the end, or None where nothing has."""
        try:
            with self._lock:  # OpenSSL allows one thread at a time
                return client.recv(4096)
        except TimeoutError:
            self.stopped.wait(0.002)  # let one who sends have the lock
            return None

    def _authorized(self, text: str) -> bool:
        found = dict(re.findall(r'(\w+)="([^"]*)"', text.partition("Authorization: Digest ")[2]))

        def md5(*words: str) -> str:
            return hashlib.md5(":".join(words).encode()).hexdigest()

        secret, asked = md5("me", "camera", self.password), md5(text.split(" ")[0], found.get("uri", ""))
        return found.get("response") == md5(secret, "n0nce", asked)

    def _answered(self, text: str, client: socket.socket) -> tuple[bytes, object]:
        method = text.split(" ")[0]
        if self.password and method != "OPTIONS" and not self._authorized(text):
            return b'RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm="camera", nonce="n0nce"\r\n\r\n', None
        if method == "DESCRIBE":
            if self.answer:
                return self.answer, None
            kind = "m=video 0 RTP/AVP 26\r\n"
            if self.codec:
                kind = f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 {self.codec}/90000\r\n"
            body = f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{kind}a=control:track1\r\n".encode()
            head = f"RTSP/1.0 200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
            return head.encode() + body, None
        if method == "SETUP":
            transport = text.partition("Transport: ")[2].partition("\r\n")[0]
            self.transports.append(transport)
            if "interleaved" in transport:
                if self.udp_only:
                    return f"RTSP/1.0 {self.udp_only} No\r\n\r\n".encode(), None

                def by_tcp(packet: bytes) -> None:
                    with self._lock:
                        client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)

                return b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\nSession: 1\r\n\r\n", by_tcp
            port = int(transport.partition("client_port=")[2].partition("-")[0])
            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            out.bind(("127.0.0.1", 0))
            mine = out.getsockname()[1]
            answer = f"RTSP/1.0 200 OK\r\nTransport: RTP/AVP/UDP;unicast;client_port={port}-{port + 1}"
            answer += f";server_port={mine}-{mine + 1};source=192.0.2.9\r\nSession: 1\r\n\r\n"
            return answer.encode(), lambda packet: out.sendto(packet, ("127.0.0.1", port))
        return b"RTSP/1.0 200 OK\r\nPublic: DESCRIBE, SETUP, PLAY, TEARDOWN\r\nSession: 1\r\n\r\n", None

    def _play(self, send: object) -> None:
        assert callable(send)
        with contextlib.suppress(OSError):
            for index in range(10**6):
                send(rtp_jpeg(self._jpegs[index % 60], index, int(index * 90_000 / FPS)))
                if self.stopped.wait(1 / FPS):
                    return
