"""Network cameras on loopback, over HTTP: any answer to a request, and an MJPEG camera that can be cut off."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import cv2

from tests.conftest import picture

OK = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"

Answer = Callable[[bytes], Iterator[bytes]]


def jpeg_of(index: int, height: int = 64, width: int = 96) -> bytes:
    return cv2.imencode(".jpg", picture(index, height, width)[..., ::-1])[1].tobytes()


def part(jpeg: bytes, line: bytes = b"--frame\r\n", *, length: bool = True) -> bytes:
    size = b"Content-Length: %d\r\n" % len(jpeg) if length else b""
    return line + b"Content-Type: image/jpeg\r\n" + size + b"\r\n" + jpeg + b"\r\n"


class Loopback:
    """Serves each viewer in a thread of its own until it is stopped; a context manager."""

    def __init__(self, context: ssl.SSLContext | None, port: int) -> None:
        self._context = context
        self.stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._meet, args=(self._listener.accept()[0],), daemon=True).start()

    def _meet(self, client: socket.socket) -> None:
        wrapped = self._context.wrap_socket if self._context else lambda client, **_: client
        with contextlib.suppress(OSError, ValueError), wrapped(client, server_side=True) as viewer:
            self.serve(viewer)

    def serve(self, client: socket.socket) -> None:
        """Serve one viewer until it is done with, or all are stopped."""
        raise NotImplementedError

    def stop(self) -> None:
        """Cut every viewer off and refuse new ones, as a camera without power does."""
        if not self.stopped.is_set():
            self.stopped.set()
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class HttpServer(Loopback):
    """`answer` yields what is sent for a request, with a pause after each piece."""

    def __init__(
        self, answer: Answer, *, period_s: float = 0.02, context: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self._answer, self._period_s = answer, period_s
        super().__init__(context, port)

    def serve(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(4096) or b"\r\n\r\n"
        for piece in self._answer(request):
            client.sendall(piece)
            if self.stopped.wait(self._period_s):
                break


class IpCamera(HttpServer):
    """Gives numbered pictures to any number of viewers."""

    def __init__(self, fps: float = 25.0, port: int = 0, sizes: tuple[tuple[int, int], ...] = ((64, 96),)) -> None:
        """sizes: (height, width) of the pictures, one after the other, over and over."""
        self._jpegs = [jpeg_of(index, *size) for index, size in zip(range(60), itertools.cycle(sizes), strict=False)]
        self._silenced = threading.Event()
        super().__init__(self._pictures, period_s=1 / fps, port=port)

    def _pictures(self, _: bytes) -> Iterator[bytes]:
        self._silenced.clear()
        yield OK
        for jpeg in itertools.cycle(self._jpegs):
            yield part(jpeg)
            if self._silenced.is_set():
                self.stopped.wait()

    def silence(self) -> None:
        """Send the present viewers nothing more, without hanging up; the next one is served again."""
        self._silenced.set()
