"""A real tritonserver, from NVIDIA's wheel, serves what `export triton` wrote, and a stream goes through it.

Run by `make test-triton`, which makes the server's own environment: TRITON_ENV is its folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.export.triton import write_repository
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.stream import translate
from tests.conftest import REPOSITORY, eventually, in_threads
from tests.runtime.doubles import Camera, Recorder

ENVIRONMENT = Path(os.environ.get("TRITON_ENV", "")).resolve()
BUNDLED = REPOSITORY / "models" / "facades.int8.cpu.onnx"

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(not os.environ.get("TRITON_ENV"), reason="TRITON_ENV names no environment: make test-triton"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """tritonserver on a port of its own, with a stand-in for its ONNX Runtime backend."""

    def __init__(self, repository: Path, folder: Path, port: int) -> None:
        (site,) = (ENVIRONMENT / "lib").glob("python3.*/site-packages")
        triton = site / "pytriton" / "tritonserver"
        backends = folder / "backends"
        shutil.copytree(triton / "backends" / "python", backends / "python", dirs_exist_ok=True)
        stub = triton / "python_backend_stubs" / site.parent.name.removeprefix("python") / "triton_python_backend_stub"
        shutil.copy2(stub, backends / "python")
        (backends / "onnxruntime").mkdir(exist_ok=True)
        shutil.copy2(Path(__file__).with_name("onnxruntime_backend.py"), backends / "onnxruntime" / "model.py")
        libraries = os.pathsep.join(map(str, (site / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib")))
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": libraries,
            "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{site}{os.pathsep}{REPOSITORY}",
        }
        command = [
            triton / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={backends}",
            f"--http-port={port}", "--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false",
        ]  # fmt: skip
        self.port, self.log = port, folder / "server.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log)

    def asked(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    def wait(self) -> None:
        for _ in range(600):
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            try:
                self.asked("/v2/health/ready")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def address(self, model: str) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/{model}"

    def stop(self, how: int = signal.SIGTERM) -> None:
        self._process.send_signal(how)
        self._process.wait(60)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models: one picture at a time, up to eight joined, and two instances in our own package."""
    folder = tmp_path_factory.mktemp("models")
    write_repository(BUNDLED, folder, name="single")
    write_repository(BUNDLED, folder, name="joined", max_batch=8)
    write_repository(BUNDLED, folder, name="ours", python=True, instances=2)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(repository, tmp_path_factory.mktemp("server"), free_port())
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """The samples, and what the engine here makes of them."""
    labels = [read_image(path)[None] for path in sorted((REPOSITORY / "samples").glob("*.png"))]
    with open_engine(BUNDLED, backend="onnxruntime") as engine:
        return [(label, engine(label)) for label in labels]


@pytest.mark.parametrize("model", ["single", "joined", "ours"])
def test_the_server_makes_the_same_pictures(server: Server, pairs: list[Any], model: str) -> None:
    with open_engine(server.address(model)) as engine:
        assert engine.input.shape == (1, 256, 256, 3)
        for label, picture in pairs:
            assert np.abs(engine(label).astype(int) - picture).max() <= 1


def test_requests_of_many_clients_are_joined(server: Server, pairs: list[Any]) -> None:
    def ask(number: int) -> None:
        label, picture = pairs[number % len(pairs)]
        with open_engine(server.address("joined")) as engine:
            for _ in range(6):
                assert np.abs(engine(label).astype(int) - picture).max() <= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    (found,) = server.asked("/v2/models/joined/stats")["model_stats"]
    assert found["execution_count"] < found["inference_count"]


def test_a_model_that_is_not_there(server: Server) -> None:
    with pytest.raises(EngineError, match=r"the server refuses .*unknown model"):
        open_engine(server.address("other"))


def test_a_stream_survives_the_server_s_death(repository: Path, tmp_path: Path, pairs: list[Any]) -> None:
    port = free_port()
    server = Server(repository, tmp_path / "first", port)
    server.wait()
    recorder = Recorder()
    with open_engine(server.address("single")) as engine:
        stream = translate(Camera(None, live=True, period_s=0.02), engine, [recorder], limit=60)
        servers = [server]

        def kill() -> None:
            assert eventually(lambda: len(recorder.indices) >= 20)
            server.stop(signal.SIGKILL)
            servers.append(Server(repository, tmp_path / "second", port))

        try:
            with in_threads(kill), stream:
                for _ in stream:
                    pass
        finally:
            servers[-1].stop()
        assert len(recorder.indices) == 60 and sum(stream.dropped.values()) > 0
