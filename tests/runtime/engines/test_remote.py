"""The engine on an inference server: the contract, and servers that fail, lie, go away and come back."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines import remote
from pix2pix_edge.runtime.engines.base import Images, TensorSpec
from pix2pix_edge.runtime.errors import EngineError, InputError, ToolkitError
from pix2pix_edge.runtime.stream import translate
from tests.conftest import eventually, in_threads, kept_ports
from tests.runtime.doubles import Camera, Recorder
from tests.runtime.engines.inference_server import InferenceServer

RANDOM = np.random.default_rng(5)


def images() -> Images:
    return RANDOM.integers(0, 256, (1, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("fault", ["", "json", "json alone", "hang up once"])
def test_it_translates_as_any_engine_does(fault: str) -> None:
    with InferenceServer(fault=fault) as server, open_engine(Path(server.address), slots=2) as engine:
        assert (engine.kind, engine.on_cpu, engine.threads) == ("remote", False, None)
        assert engine.input == TensorSpec("image", (1, 32, 32, 3), "uint8")
        batches = [images() for _ in range(5)]
        tickets = [engine.submit(batch) for batch in batches[:2]]
        assert np.array_equal(tickets[0].result(), 255 - batches[0]) and tickets[0].compute_ns > 0
        assert np.array_equal(tickets[1].result(), 255 - batches[1])
        for batch in batches[2:]:
            assert np.array_equal(engine(batch), 255 - batch)
        about = engine.describe()
        assert about["engine"] == "inference server" and about["version"] == "triton\\x1b[31m 2.51.0"
    with pytest.raises(EngineError, match="closed"):
        engine(images())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refuse", r"the server refuses \(HTTP 400 Bad Request: out of memory\)"),
        ("other shape", r"made UINT8\[1, 3, 32, 32\] where UINT8\[1, 32, 32, 3\] was declared"),
        ("short", "sent 100 values of 3072"),
        ("huge", "more than .* bytes"),
        ("other name", "answered without translated"),
        ("json lies", "answered with what is no picture"),
        ("no list", "answered without translated"),
    ],
)
def test_an_answer_that_is_none_is_one_sentence_and_asked_for_once(fault: str, said: str) -> None:
    with InferenceServer(fault=fault) as server, open_engine(server.address) as engine:
        with pytest.raises(EngineError, match=said) as caught:
            engine(images())
        assert "\n" not in str(caught.value) and server.asked == 1
        server.fault = ""
        batch = images()
        assert np.array_equal(engine(batch), 255 - batch), "the engine goes on"


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("http://127.0.0.1:9/v2/models/facades", EngineError, "no inference server answers at 127.0.0.1:9"),
        ("http://user:secret@host/v2/models/m", InputError, "is no model of an inference server"),
        ("http://host:8000/facades", InputError, "give http://HOST:8000/v2/models/NAME"),
        ("https:/host", InputError, "give http://HOST:8000/v2/models/NAME"),
        (f"http://{'a' * 70}.org/v2/models/m", EngineError, "no inference server answers at aaa"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, kind: type[ToolkitError], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        open_engine(address)
    assert "secret" not in str(caught.value)


def test_servers_that_have_no_such_model(monkeypatch: pytest.MonkeyPatch) -> None:
    with InferenceServer() as server:
        with pytest.raises(EngineError, match="unknown model: 'x' is not found"):
            open_engine(server.address.replace("facades", "other"))
        with pytest.raises(InputError, match="leave them out"):
            open_engine(server.address, threads=1)
        open_engine(f"{server.address}/versions/1").close()
        behind = server.address.replace("/v2", "/a/proxy/v2").replace("http", "HTTP")
        with open_engine(behind) as engine:
            assert engine.describe()["file"].endswith("/a/proxy/v2/models/facades")
    for fault, said in (
        ("web page", r"not as an inference server does \(HTTP 200 OK\)"),
        ("login", r"wants a login \(HTTP 401 Unauthorized\)"),
        ("elsewhere", r"sends on to https://\*\*\*@other/v2/models/facades \(HTTP 302 Found\)"),
        ("loading", r"it is not ready \(HTTP 503\)"),
    ):
        with InferenceServer(fault=fault) as server, pytest.raises(EngineError, match=said):
            open_engine(server.address)
    for shape in ([-1, 32, 32, 7], [3, 32, 32], [1, "x", 32, 3], None, {}):
        with InferenceServer() as server:
            server.metadata["inputs"][0]["shape"] = shape  # type: ignore[index]
            with pytest.raises(EngineError, match="is not an exported generator: it takes"):
                open_engine(server.address)


def test_a_silent_server_is_given_up_and_a_close_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with InferenceServer(fault="silent") as server, open_engine(server.address) as engine:
        monkeypatch.setattr(remote, "PATIENCE_S", 0.3)
        engine._connection.sock.settimeout(0.3)
        monkeypatch.setattr(remote, "ANSWER_S", 0.3)
        with pytest.raises(EngineError, match="went away and did not come back"):
            engine(images())
    monkeypatch.setattr(remote, "ANSWER_S", 600.0)
    monkeypatch.setattr(remote, "PATIENCE_S", 600.0)
    with InferenceServer(fault="silent") as server:
        engine = open_engine(server.address)
        ticket = engine.submit(images())
        assert eventually(lambda: server.asked)
        engine.close()  # a test that hangs here fails by its own timeout
        with pytest.raises(EngineError):
            ticket.result()


def test_an_answer_that_drips_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with InferenceServer(fault="slow") as server, open_engine(server.address) as engine:
        monkeypatch.setattr(remote, "PATIENCE_S", 0.1)
        with pytest.raises(EngineError, match="did not come back"):
            engine(images())


def test_a_certificate_that_nobody_here_signed_and_the_wrong_scheme(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with InferenceServer(certificate=certificate) as server:
        address = server.address.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(EngineError, match=r"certificate cannot be trusted .*export SSL_CERT_FILE="):
            open_engine(address)
        with pytest.raises(EngineError, match="no inference server answers"):
            open_engine(server.address)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        with open_engine(address) as engine:
            batch = images()
            assert np.array_equal(engine(batch), 255 - batch)
    with InferenceServer() as server, pytest.raises(EngineError, match="there is no TLS at that port; try http://"):
        open_engine(server.address.replace("http", "https"))


def test_a_stream_goes_on_when_its_server_was_killed_and_is_back() -> None:
    recorder = Recorder()
    with kept_ports() as (port,), open_engine((server := InferenceServer(port)).address) as engine:
        stream = translate(Camera(None, live=True, period_s=0.005), engine, [recorder], limit=60)
        restarted: list[InferenceServer] = []

        def restart() -> None:
            assert eventually(lambda: len(recorder.indices) >= 20)
            server.stop()
            time.sleep(0.5)
            restarted.append(InferenceServer(port))

        with in_threads(restart), stream:
            for _ in stream:
                pass
        assert len(recorder.indices) == 60 and sum(stream.dropped.values()) > 0
        assert restarted[0].asked > 0
        restarted[0].stop()
