"""An engine on another machine, in the open inference protocol of Triton, KServe, OpenVINO Model Server and MLServer.

--engine http://HOST:8000/v2/models/NAME. Version 2 of the protocol over HTTP, with its extension for binary tensors
where the server takes it, else in JSON:
https://github.com/kserve/open-inference-protocol and Triton's docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import re
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import quote

import numpy as np

from pix2pix_edge.runtime.addresses import redacted
from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME, Images, TensorSpec, check_contract
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import PATIENCE, EngineError, InputError, printable

ADDRESS = re.compile(
    r"(https?):/+([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?((?:/[^/?#\s]+)*?/v2)(/models/[^/?#\s]+(?:/versions/[^/?#\s]+)?)/?",
    re.ASCII | re.IGNORECASE,
)
"""One slash after the scheme is enough: a pathlib.Path, which files are, drops the second. A proxy may have a path."""

ANSWER_S = 10.0 * PATIENCE
"""A server that says nothing for so long does not answer."""
PATIENCE_S = 30.0 * PATIENCE
"""So long a server that was there may be away, as while it restarts, before the engine gives up."""
PAUSE_S = 0.25
HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_WORDS = 1 << 20
"""Bytes of an answer beside its picture."""


class _AwayError(Exception):
    """The server cannot be reached, hangs up, or says that it is not ready; with what to do, after a semicolon."""


class RemoteEngine(HostEngine):
    """A model of an inference server. One request is under way at a time; the next waits in this process."""

    kind = "remote"
    on_cpu = False  # not on this one

    def __init__(self, address: str, slots: int = 2) -> None:
        """Raises InputError for an address of another form, EngineError where no such model is served."""
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise InputError(
                f"--engine {redacted(address)} is no model of an inference server; give http://HOST:8000/v2/models/NAME"
            )
        self._secure, self._host = found[1].lower() == "https", found[2] + (found[3] or "")
        root = quote(found[4], safe="/%:@!$&'()*+,;=~")
        self._path = root + quote(found[5], safe="/%:@!$&'()*+,;=~")
        self.address = f"{found[1].lower()}://{self._host}{self._path}"
        self._closing = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._binary: bool | None = None  # nobody knows yet
        model, server = self._asked(self._path), {}
        with contextlib.suppress(EngineError):  # a proxy may serve the model alone
            server = self._asked(root)
        if isinstance(extensions := server.get("extensions"), list) and "binary_tensor_data" in extensions:
            self._binary = True
        inputs, outputs = (_specs(model.get(side)) for side in ("inputs", "outputs"))
        try:
            check_contract(self.address, inputs, outputs)
        except EngineError as error:
            raise EngineError(f"{error} (this server: python -m export triton FILE.onnx --out models)") from error
        super().__init__(slots)
        self.input, self.output = inputs[0], outputs[0]
        self._about = {
            "engine": "inference server",
            "version": f"{_word(server.get('name'))} {_word(server.get('version'))}".strip(),
            "file": self.address,
            "precision": "the server's",
            "device": self._host,
        }

    def describe(self) -> dict[str, str]:
        return dict(self._about)

    def _run(self, images: Images) -> Images:
        since = time.monotonic()
        for attempt in itertools.count():
            try:
                return self._translated(images)
            except _AwayError as error:
                if self._closing.is_set() or time.monotonic() - since > PATIENCE_S:
                    reason = str(error).partition(";")[0]
                    raise EngineError(
                        f"{self.address} went away and did not come back ({reason}); start it again"
                    ) from error
                if attempt:  # once at once: an idle connection may just have been closed
                    self._closing.wait(PAUSE_S)
        raise AssertionError

    def _translated(self, images: Images) -> Images:
        """Return the server's picture: binary, or in JSON where that is refused by a server that never promised it."""
        binary = self._binary is not False
        try:
            picture = self._picture(*self._request("POST", f"{self._path}/infer", *_question(images, binary=binary)))
        except EngineError:
            if self._binary is not None:
                raise
            self._binary = False
            return self._translated(images)
        self._binary = binary
        return picture

    def _picture(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> Images:
        """Return the picture of an answer. Raises EngineError, in the server's words, where there is none."""
        length = headers.get(HEADER_LENGTH, "")
        split = int(length) if re.fullmatch("[0-9]{1,9}", length) else len(body)
        outputs = self._read(status, headers, body[:split]).get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            if isinstance(output, dict) and output.get("name") == OUTPUT_NAME:
                return self._tensor(output, body[split:])
        raise EngineError(f"{self.address} answered without {OUTPUT_NAME}; is it the model that it was?")

    def _tensor(self, output: dict[str, Any], binary: bytes) -> Images:
        shape, dtype = self.output.shape, self.output.dtype
        if output.get("shape") != list(shape) or output.get("datatype") != dtype.upper():
            said = f"{_word(output.get('datatype'))}{_word(output.get('shape'))}"
            raise EngineError(
                f"{self.address} made {said} where {dtype.upper()}{list(shape)} was declared; is it the same model?"
            )
        if "data" in output:  # a server without the extension for binary tensors
            try:
                values = np.array(output["data"], dtype)
            except (ValueError, TypeError, OverflowError) as error:
                raise EngineError(f"{self.address} answered with what is no picture ({error})") from error
        else:
            values = np.frombuffer(binary[: len(binary) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize], dtype)
        if values.size != math.prod(shape):
            raise EngineError(
                f"{self.address} sent {values.size} values of {math.prod(shape)}; the picture is not whole"
            )
        images: Images = values.reshape(shape).copy()
        return images

    def _asked(self, path: str) -> dict[str, Any]:
        """Return what the server says of itself or a model."""
        try:
            return self._read(*self._request("GET", path))
        except _AwayError as error:
            raise EngineError(f"no inference server answers at {self._host}: {error}") from error

    def _read(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> dict[str, Any]:
        """Return an answer's JSON. Raises EngineError where it is none, or an error."""
        said = f"HTTP {status} {http.client.responses.get(status, '')}".rstrip()
        if status in (401, 403, 407):
            raise EngineError(
                f"{self.address}: the server wants a login ({said}), and none is sent; serve the model without one"
                " inside your network, or through a proxy that adds it"
            )
        if 300 <= status < 400:
            there = redacted(_word(headers.get("Location")))
            raise EngineError(f"{self.address} sends on to {there} ({said}); give the address where the model is")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(
                f"{self._host} answers, but not as an inference server does ({said}); give"
                " http://HOST:8000/v2/models/NAME, with its HTTP port"
            )
        if status != 200 or "error" in answer:
            raise EngineError(f"{self.address}: the server refuses ({said}: {_word(answer.get('error') or answer)})")
        return answer

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return (status, headers, body) of one request on the open connection. Raises _AwayError."""
        try:
            if self._connection is None:
                kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
                self._connection = kind(self._host, timeout=ANSWER_S)
            self._connection.request(method, path, body, headers or {})
            answer = self._connection.getresponse()
            most = MOST_WORDS + (math.prod(self.output.shape) * 5 if body else 0)  # as JSON, a value takes five
            content, deadline = b"", time.monotonic() + PATIENCE_S
            while len(content) < most and (piece := answer.read1(most - len(content))):
                content += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
            if answer.length and len(content) < most:
                raise http.client.IncompleteRead(content, answer.length)
            if not answer.isclosed() and answer.read(1):
                raise EngineError(
                    f"{self.address} answers with more than {most} bytes, which is no picture of its size"
                )
        except (OSError, http.client.HTTPException, OverflowError, UnicodeError) as error:
            self._disconnect()
            raise _AwayError(_why(error)) from error
        except BaseException:
            self._disconnect()
            raise
        if answer.status in (502, 503, 504):
            raise _AwayError(f"it is not ready (HTTP {answer.status}); wait until it is, or read its log")
        return answer.status, answer.headers, content

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def close(self) -> None:
        self._closing.set()
        if self._connection is not None and (waiting := self._connection.sock) is not None:
            with contextlib.suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)  # nobody waits for its answer any more
        super().close()

    def _close(self) -> None:
        self._disconnect()


def _question(images: Images, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Return the body that asks for the pictures of `images`, and its headers."""
    tensor: dict[str, Any] = {"name": INPUT_NAME, "datatype": "UINT8", "shape": list(images.shape)}
    wanted: dict[str, Any] = {"name": OUTPUT_NAME}
    if not binary:
        words = json.dumps({"inputs": [{**tensor, "data": images.reshape(-1).tolist()}], "outputs": [wanted]})
        return words.encode(), {"Content-Type": "application/json"}
    tensor["parameters"], wanted["parameters"] = {"binary_data_size": images.nbytes}, {"binary_data": True}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    return head + images.tobytes(), {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def _why(error: Exception) -> str:
    """Return why nothing answers, and after a semicolon what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate cannot be trusted ({error.verify_message}); name the file of whoever signed it:"
            " export SSL_CERT_FILE=CA.pem"
        )
    if isinstance(error, ssl.SSLError):
        return "there is no TLS at that port; try http://"
    if type(error) is http.client.BadStatusLine:
        return "what answers there is no HTTP; give its HTTP port, and https:// where it speaks TLS"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        reason = f"it is silent for {ANSWER_S:g} s"
    return f"{printable(reason)}; start one with: tritonserver --model-repository=models"


def _specs(tensors: Any) -> list[TensorSpec]:
    """Return the tensors of a model's metadata; a free batch as 1, which every server takes."""
    found = []
    for tensor in tensors if isinstance(tensors, list) else []:
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if isinstance(shape, list) and all(type(size) is int for size in shape):
            sizes = (1, *shape[1:]) if shape[:1] == [-1] else tuple(shape)
            found.append(TensorSpec(_word(tensor.get("name")), sizes, _word(tensor.get("datatype")).lower()))
    return found


def _word(value: Any) -> str:
    """Return a server's word for a terminal: printable, and not too long."""
    return printable(str(value if value is not None else ""))[:200]
