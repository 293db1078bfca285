"""A small server of the open inference protocol, which inverts pictures and misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = "Inference-Header-Content-Length"
SHAPE = [-1, 32, 32, 3]
ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "web page": (200, b"<html>", {}),
    "login": (401, b'{"detail": "Not authenticated"}', {}),
    "elsewhere": (302, b"", {"Location": "https://user:secret@other/v2/models/facades"}),
    "loading": (503, b"", {}),
}


class InferenceServer:
    """Serves the model "facades". fault: what is wrong with its answers; asked: requests for pictures so far.

    certificate: its file and its key's, for TLS.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        fault: str = "",
        shape: list[int] | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.fault, self.asked = fault, 0
        self.metadata = {"name": "facades", "versions": ["1"], "platform": "onnxruntime_onnx",
                         **{side: [{"name": name, "datatype": "UINT8", "shape": shape or SHAPE}]
                            for side, name in (("inputs", "image"), ("outputs", "translated"))}}  # fmt: skip
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: Any) -> None:
                pass

            def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if outer.fault in ANSWERS:
                    self.send(*ANSWERS[outer.fault])
                elif self.path == "/v2":
                    known = [] if outer.fault == "json alone" else ["binary_tensor_data"]
                    about = {"name": "triton\x1b[31m", "version": "2.51.0", "extensions": known}
                    self.send(200, json.dumps(about).encode())
                elif re.fullmatch(r"(/a/proxy)?/v2/models/facades(/versions/1)?", self.path):
                    self.send(200, json.dumps(outer.metadata).encode())
                else:
                    self.send(400, json.dumps({"error": "Request for unknown model: 'x'\n is not found"}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                split = int(self.headers.get(LENGTH, len(body)))
                asked = json.loads(body[:split])
                if outer.fault == "json alone":  # as MLServer: it says 500 to what is not text, and hangs up
                    if split < len(body):
                        self.close_connection = True
                        return self.send(500, b"Internal Server Error", {"Content-Type": "text/plain"})
                    return self.answer(255 - np.array(asked["inputs"][0]["data"]).reshape(asked["inputs"][0]["shape"]))
                (tensor,) = asked["inputs"]
                assert tensor["parameters"]["binary_data_size"] == len(body) - split
                images = np.frombuffer(body[split:], np.uint8).reshape(tensor["shape"])
                self.answer(255 - images)

            def answer(self, pictures: np.ndarray[Any, Any]) -> None:
                fault = outer.fault
                if fault == "hang up once" and outer.asked == 1:
                    self.close_connection = True
                    return
                if fault == "silent":
                    outer.released.wait(60)
                if fault == "refuse":
                    return self.send(400, json.dumps({"error": "out of memory"}).encode())
                output = {"name": "translated", "datatype": "UINT8", "shape": list(pictures.shape)}
                binary = {"short": pictures.tobytes()[:100], "huge": bytes(1 << 23)}.get(fault, pictures.tobytes())
                if "json" in fault:
                    output["data"] = [300, "x", None] if fault == "json lies" else pictures.reshape(-1).tolist()
                    binary = b""
                output |= {"other shape": {"shape": [1, 3, 32, 32]}, "other name": {"name": "picture"}}.get(fault, {})
                if fault == "no list":
                    return self.send(200, json.dumps({"outputs": None}).encode())
                if fault == "slow":
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(binary)))
                    self.end_headers()
                    while not outer.released.wait(0.02):
                        self.wfile.write(b"{")
                    return None
                words = json.dumps({"model_name": "facades", "outputs": [output]}).encode()
                self.send(200, words + binary, {LENGTH: str(len(words))})

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._connections: list[Any] = []
        original = self._server.process_request

        def process_request(request: Any, client: Any) -> None:
            self._connections.append(request)
            original(request, client)

        self._server.process_request = process_request  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/facades"

    def stop(self) -> None:
        """End as a killed server does: nobody listens, and every connection is cut."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def __enter__(self) -> InferenceServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
