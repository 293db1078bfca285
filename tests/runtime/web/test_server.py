"""The http sink, asked by a real HTTP client."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.sinks import open_sink
from pix2pix_edge.runtime.sinks.web import Pane, WebSink
from pix2pix_edge.runtime.stream import translate
from pix2pix_edge.runtime.streaming.timings import Timings
from pix2pix_edge.runtime.web import connections, status
from pix2pix_edge.runtime.web import server as web_server
from tests.conftest import eventually, in_threads, index_of, picture
from tests.runtime.doubles import frame, leaves_nothing, noise


@pytest.fixture
def sink() -> Iterator[WebSink]:
    with contextlib.closing(WebSink("127.0.0.1", 0)) as sink:
        yield sink


@pytest.fixture
def guarded() -> Iterator[WebSink]:
    with contextlib.closing(WebSink("127.0.0.1", 0, token="pässword&1-and-more")) as sink:
        yield sink


@contextlib.contextmanager
def asked(
    page: Any, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """An answer whose body is still to come. page: what has a port. headers: with _ for -."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", page.port, timeout=120)) as connection:
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        with connection.getresponse() as answer:
            yield answer


def ask(page: Any, path: str, *rest: Any, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body."""
    with asked(page, path, *rest, **headers) as answer:
        return answer.status, answer.headers, answer.read()


class Viewer(contextlib.ExitStack):
    """Watches /stream.mjpg; a context manager."""

    def __init__(self, sink: WebSink, query: str = "") -> None:
        super().__init__()
        self.answer = self.enter_context(asked(sink, f"/stream.mjpg{query}"))

    def next(self) -> NDArray[np.uint8] | None:
        """Return the next picture, RGB; None when the stream has ended."""
        assert self.answer.readline() == b"--frame\r\n"
        headers = {}
        while (line := self.answer.readline()) not in (b"\r\n", b""):
            key, _, value = line.decode().partition(":")
            headers[key] = value.strip()
        if not line:
            return None
        jpeg = self.answer.read(int(headers["Content-Length"]))
        assert self.answer.readline() == b"\r\n"
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def index_seen(image: NDArray[np.uint8] | None) -> int:
    assert image is not None
    return index_of(image, inverted=True)


def test_the_page_asks_nobody_else_for_anything(sink: WebSink) -> None:
    status, headers, body = ask(sink, "/")
    page = body.decode()
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    loaded = re.findall(r'(?:src|href)="([^"]+[.](?:css|js|svg))"', page)
    assert {"common.css", "live.js"} <= set(loaded)
    for name in loaded:
        status, headers, body = ask(sink, f"/{name}")
        kinds = ("text/css", "text/javascript", "image/svg+xml")
        assert status == 200 and headers["Content-Type"].split(";")[0] in kinds
        assert set(re.findall(rb"https?://[^'\" ]+", body)) <= {b"http://www.w3.org/2000/svg"}
    assert not re.search(r"https?://|<style|<script>| style=| on\w+=", page)
    assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "pix2pix-edge"


def test_a_viewer_sees_the_newest_picture_move_and_the_stream_end(sink: WebSink) -> None:
    sink.write(frame(1))
    with Viewer(sink) as viewer:
        assert viewer.answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
        shown = viewer.next()
        assert shown is not None and shown.shape == (64, 64, 3) and index_seen(shown) == 1
        for index in (2, 3):
            sink.write(frame(index))
            assert index_seen(viewer.next()) == index
        sink.close()
        assert viewer.next() is None


def test_side_by_side_is_the_viewers_choice_and_view_the_default(sink: WebSink) -> None:
    sink.write(frame(5))
    with Viewer(sink, "?view=side-by-side") as viewer:
        shown = viewer.next()
    assert shown is not None and shown.shape == (64, 128, 3)
    assert index_of(shown[:, :64]) == 5 and index_seen(shown[:, 64:]) == 5
    with contextlib.closing(WebSink("", 0, mode="side-by-side")) as other:
        other.write(frame(1))
        assert cv2.imdecode(np.frombuffer(ask(other, "/snapshot.png")[2], np.uint8), 1).shape == (64, 128, 3)


def test_nothing_is_encoded_while_nobody_watches(sink: WebSink) -> None:
    for index in range(20):
        sink.write(frame(index))
    ask(sink, "/")
    ask(sink, "/metrics")
    assert sink.broadcast.encodings == 0


def test_fifty_viewers_share_each_encoding(sink: WebSink) -> None:
    last: list[int] = []

    def watch() -> None:
        with Viewer(sink) as viewer:
            seen = -1
            while (image := viewer.next()) is not None:
                assert index_seen(image) > seen  # never one again, never an older one
                seen = index_seen(image)
            last.append(seen)

    with in_threads(*[watch] * 50):
        assert eventually(lambda: first_event(sink)["viewers"] == 50)
        for index in range(40):
            sink.write(frame(index))
            time.sleep(0.01)
        sink.close()
    assert last == [39] * 50
    assert 1 <= sink.broadcast.encodings <= 40


def first_event(sink: WebSink | Pane, path: str = "/events") -> dict[str, Any]:
    """Return what the page is told first."""
    with asked(sink, path) as answer:
        line = answer.readline().decode()
    found: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return found


def test_a_viewer_that_reads_nothing_holds_up_nobody(sink: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server.Handler, "timeout", 2.0)  # for the lazy one alone
    with contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_connection(("127.0.0.1", sink.port))).sendall(
            b"GET /stream.mjpg HTTP/1.0\r\n\r\n"
        )
        assert eventually(lambda: sink._hosting.server.connections.viewers == 1)
        monkeypatch.undo()
        viewer = stack.enter_context(Viewer(sink))
        assert eventually(lambda: first_event(sink)["viewers"] == 2)
        for index in range(200):  # some 100 kB each: far more than the system keeps for it
            sink.write(noise(index))
            assert viewer.next() is not None
            if index > 60 and first_event(sink)["viewers"] == 1:
                break
        assert eventually(lambda: first_event(sink)["viewers"] == 1)  # and it was given up


def test_a_viewer_who_leaves_in_the_middle_of_a_picture(sink: WebSink, capfd: pytest.CaptureFixture[str]) -> None:
    sink.write(noise(0))
    with socket.create_connection(("127.0.0.1", sink.port)) as leaver:
        leaver.sendall(b"GET /stream.mjpg HTTP/1.0\r\n\r\n")
        assert leaver.recv(1000)
        assert eventually(lambda: first_event(sink)["viewers"] == 1)
    for index in range(1, 4):
        sink.write(noise(index))
    assert eventually(lambda: first_event(sink)["viewers"] == 0)
    assert "warning" not in capfd.readouterr().err


def test_a_viewer_who_leaves_before_the_first_picture_is_noticed(sink: WebSink) -> None:
    with Viewer(sink):
        assert eventually(lambda: first_event(sink)["viewers"] == 1)
    assert eventually(lambda: first_event(sink)["viewers"] == 0)


def test_a_snapshot_is_the_newest_picture_without_loss(sink: WebSink) -> None:
    status, headers, body = ask(sink, "/snapshot.png")
    assert status == 503 and headers["Retry-After"] and b"no picture yet" in body
    sink.write(frame(9, name='Haus "ü"/1\r\nX: y'))
    status, headers, body = ask(sink, "/snapshot.png?view=side-by-side")
    assert status == 200 and headers["Content-Type"] == "image/png" and "X" not in headers
    assert headers["Content-Disposition"].endswith("filename*=UTF-8''Haus%20%22%C3%BC%22%2F1%0D%0AX%3A%20y.png")
    shown = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(shown, np.concatenate([picture(9, 64, 64), 255 - picture(9, 64, 64)], axis=1))


METRIC = re.compile(r'(?P<name>\w+)(?:\{(?P<labels>(?:\w+="(?:[^"\\\n]|\\.)*",?)+)\})? (?P<value>[-+.\de]+)')


def metrics(text: str) -> dict[str, float]:
    """Parse Prometheus' text format strictly: every sample has a type, and stands below it."""
    values: dict[str, float] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram")
            parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        elif not line.startswith("# HELP "):
            match = METRIC.fullmatch(line)
            assert match and match["name"] in [family + part for part in parts], line
            key = match["name"] + (f"{{{match['labels']}}}" if match["labels"] else "")
            assert key not in values
            values[key] = float(match["value"])
    return values


def test_metrics_are_those_of_the_stream(inverter: Path, clip: Path) -> None:
    during: dict[str, float] = {}
    sink = open_sink("http://127.0.0.1:0")
    assert isinstance(sink, WebSink)
    with open_engine(inverter, backend="onnxruntime") as engine, translate(str(clip), engine, [sink]) as stream:
        for done, _ in enumerate(stream, start=1):
            if done == 30:
                assert eventually(lambda: stream.timings.frames >= 30)
                status, headers, body = ask(sink, "/metrics")
                assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
                during = metrics(body.decode())
                assert ask(sink, "/")[0] == 200
    assert 30 <= during['pix2pix_frames_total{source="clip"}'] <= 40
    assert during['pix2pix_frames_per_second{source="clip"}'] > 0
    latency = {key: value for key, value in during.items() if key.startswith("pix2pix_latency_seconds")}
    count = latency.pop('pix2pix_latency_seconds_count{source="clip"}')
    assert 0 < latency.pop('pix2pix_latency_seconds_sum{source="clip"}') < 60 * count
    assert list(latency.values()) == sorted(latency.values()) and 30 <= count == list(latency.values())[-1]
    assert list(latency)[-1] == 'pix2pix_latency_seconds_bucket{source="clip",le="+Inf"}'
    for cause in ("stale", "queue full", "source gap", "rate limit"):
        assert during[f'pix2pix_frames_dropped_total{{source="clip",cause="{cause}"}}'] == 0
    info = next(key for key in during if key.startswith("pix2pix_info"))
    assert 'engine="ONNX Runtime' in info and 'source="clip' in info
    with pytest.raises(ConnectionRefusedError):
        ask(sink, "/")


def test_after_a_stored_source_the_page_stays_and_says_that_it_has_ended(inverter: Path, clip: Path) -> None:
    sink = WebSink("127.0.0.1", 0)
    with open_engine(inverter, backend="onnxruntime") as engine:
        stream = translate(str(clip), engine, [sink])
        with in_threads(stream.run):
            assert eventually(lambda: json.loads(ask(sink, "/health")[2])["state"] == "ended")
            first, later = (first_event(sink) for _ in range(2))
            assert first["frames"] == 40 and first["fps"] > 0  # the last numbers stay
            assert later["fps"] == first["fps"]
            assert later["uptime_s"] == pytest.approx(first["uptime_s"], abs=0.01)
            assert ask(sink, "/snapshot.png")[0] == 200
            stream.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(sink, "/")


class Watched:
    """What the page is told of a stream."""

    def __init__(self, outage: tuple[str, float, float | None] | None = None) -> None:
        self.timings, self.dropped, self.outage = Timings(), {"stale": 1}, outage
        self.source, self.engine = self, self
        self.name = "camera"

    def describe(self) -> dict[str, str]:
        return {"engine": "e"}


def test_the_page_is_told_why_there_is_no_picture(sink: WebSink) -> None:
    now = time.monotonic()
    sink.attach(Watched(("no route to the camera\x1b[2J", now - 3, now + 4)))
    told = first_event(sink)
    assert told["outage"]["why"] == r"no route to the camera\x1b[2J"
    assert told["outage"]["since_s"] >= 3 and 0 <= told["outage"]["next_try_s"] <= 4 and told["uptime_s"] >= 0
    sink.attach(Watched())
    assert first_event(sink)["outage"] is None


def test_history_is_of_the_last_ten_minutes(sink: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(json.loads(ask(sink, "/history.json")[2])["fps"]) == {None}
    stream, now = Watched(), 10**12
    clock = SimpleNamespace(monotonic=lambda: now / 1e9 - 95, monotonic_ns=lambda: now)  # when it began, and at the end
    monkeypatch.setattr(status, "time", clock)
    sink.attach(stream)
    for age in range(90, 0, -1):  # 1 frame a second for a minute, then none, then 2
        if age > 30 or age <= 10:
            for _ in range(1 if age > 30 else 2):
                at = now - round((age - 0.5) * 1e9)
                stream.timings.add(Frame(age, at - 20_000_000, "", picture(0, 8, 8), delivered_at=at))
    told = json.loads(ask(sink, "/history.json")[2])
    assert len(told["fps"]) == 60 and told["fps"][:51] == [None] * 51
    assert told["fps"][52:57] == [1.0] * 5 and told["fps"][-2:] == [0.0, 2.0] and told["latency_ms"][55] == 20


def test_label_values_are_escaped(sink: WebSink) -> None:
    numbers = status.StatusBoard(sink.broadcast, lambda: 3).read()
    text = status.as_prometheus([dataclasses.replace(numbers, source='a"b\\c\nd')])
    values = metrics(text)
    assert values[r'pix2pix_info{source="a\"b\\c\nd"}'] == 1 and values["pix2pix_viewers"] == 3


def test_health_tells_whether_frames_come(guarded: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    def health() -> tuple[int, str]:
        status, _, body = ask(guarded, "/health")
        return status, json.loads(body)["state"]

    assert health() == (503, "waiting")
    guarded.write(frame(0))
    assert health() == (200, "streaming")
    monkeypatch.setattr("pix2pix_edge.runtime.web.status.STALLED_S", 0.0)
    assert health() == (503, "stalled")


@pytest.mark.parametrize("path", ["/", "/stream.mjpg", "/snapshot.png", "/events", "/metrics", "/nothing"])
def test_without_the_token_there_is_one_sentence(guarded: WebSink, path: str) -> None:
    guarded.write(frame(0))
    for wrong in (path, f"{path}?token=", f"{path}?token=p%C3%A4ssword", f"{path}?token=%FF"):
        status, headers, body = ask(guarded, wrong)
        assert status == 401 and headers["WWW-Authenticate"] == "Bearer"
        assert body == b"This stream asks for its token: add ?token=WORD to the address.\n"
    assert ask(guarded, path, Authorization="Bearer wrong")[0] == 401
    assert ask(guarded, path, Authorization="Basic cMOkc3N3b3JkJjEtYW5kLW1vcmU=")[0] == 401


def test_with_the_token_all_is_open(guarded: WebSink) -> None:
    guarded.write(frame(0))
    for path in ("/", "/snapshot.png", "/metrics"):
        assert ask(guarded, f"{path}?token=p%C3%A4ssword%261-and-more")[0] == 200
        assert ask(guarded, path, Authorization="Bearer pässword&1-and-more".encode().decode("latin-1"))[0] == 200
    assert first_event(guarded, "/events?token=p%C3%A4ssword%261-and-more")["state"] == "streaming"


def test_the_token_is_never_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(WebSink("127.0.0.1", 0, token="secret-0123456789")) as sink:
        ask(sink, "/?token=secret-0123456789")
        ask(sink, "/nothing?token=secret-0123456789")
    out, err = capfd.readouterr()
    assert f"watch at http://127.0.0.1:{sink.port}/?token=" in err and "secret" not in out + err


def test_a_page_from_elsewhere_cannot_pose_as_us(sink: WebSink, guarded: WebSink) -> None:
    for name in ("evil.example", "127.0.0.1.evil.example:80", "[::1", "8.8.8.8"):
        assert ask(sink, "/health", Host=name)[0] in (400, 403)
    for name in ("localhost:9000", "127.0.0.1", "[::1]:80"):
        assert ask(sink, "/", Host=name)[0] == 200
    assert ask(guarded, "/?token=p%C3%A4ssword%261-and-more", Host="board.example")[0] == 200


def test_what_is_not_there_or_not_understood(sink: WebSink) -> None:
    assert ask(sink, "/", method="POST")[2] == b"This address takes GET only.\n"
    assert ask(sink, "/", method="HEAD")[2] == b"" and ask(sink, "/stream.mjpg", method="HEAD")[0] == 200


FOUND = {"/": 200, "/metrics": 200, "/history.json": 200, "/health": 503, "/snapshot.png": 503, "/x": 404, "/../x": 404}
ODD = {
    "OPTIONS / HTTP/1.1\r\nHost: localhost": 501,
    "BREW / HTTP/1.0": 501,
    "GET / HTTP/1.0": 200,
    "GET / HTTP/1.1": 200,
    "GET / HTTP/1.1\r\nHost: evil.example": 403,
    "GET /snapshot.png?view=x HTTP/1.0": 400,
    "GET /" + "x" * 70_000 + " HTTP/1.0": 414,
    "GET / HTTP/9.9": 505,
    "GET": 400,
    "GET //[ HTTP/1.0": 404,
}
RAW = ODD | {
    f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1": {"POST": 405, "PUT": 501, "DELETE": 501}.get(method, status)
    for path, status in FOUND.items()
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
}


@pytest.mark.parametrize("request_text", RAW, ids=lambda text: text[:40].replace("\r\n", " "))
def test_raw_requests_get_the_right_status(sink: WebSink, request_text: str) -> None:
    with socket.create_connection(("127.0.0.1", sink.port), timeout=120) as connection:
        connection.sendall(f"{request_text}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
    # Python's server answers with the bare status line where it could not read a version
    assert re.search(rb"\d{3} ", answer).group().split()[0] == str(RAW[request_text]).encode()  # type: ignore[union-attr]


WORDS = st.text(st.characters(codec="latin-1"), max_size=30)
LINES = st.lists(
    st.one_of(WORDS, st.tuples(st.sampled_from(("Host", "Content-Length", "Cookie", "Range")), WORDS).map(": ".join))
)
REQUESTS = st.builds(
    lambda method, target, version, lines: "\r\n".join([f"{method} {target} {version}", *lines, "", ""]).encode(
        "latin1"
    ),
    st.one_of(st.sampled_from(("GET", "HEAD", "POST")), WORDS),
    st.one_of(st.sampled_from(("/", "/stream.mjpg", "/health?a", "//[", "/%ff", "*")), WORDS),
    st.one_of(st.sampled_from(("HTTP/1.1", "HTTP/1.0", "HTTP/9.9")), WORDS),
    LINES,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(REQUESTS, st.binary(max_size=200)))
@example(b"\x16\x03\x01\x02\0\1\0\1\r\n\r\n")
@example(b"\r\n")
@example(b"GET\r\n\r\n")
@example(b"GET //[ HTTP/1.0\r\n\r\n")
def test_any_request_does_no_harm(sink: WebSink, capfd: Any, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", sink.port), timeout=120) as connection, contextlib.suppress(OSError):
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)
    assert "Traceback" not in capfd.readouterr().err
    assert ask(sink, "/")[0] == 200
    assert "warning" not in capfd.readouterr().err


def test_too_many_are_turned_away(sink: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    with Viewer(sink), Viewer(sink), Viewer(sink) as viewer:
        assert ask(sink, "/")[::2] == (503, b"Too many viewers; close some and try again.\n")
        sink.write(frame(7))
        assert index_seen(viewer.next()) == 7
    assert eventually(lambda: ask(sink, "/")[0] == 200)


def test_slow_connections_hold_no_place(sink: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", sink.port)))
            slow.sendall(b"GET / HTTP/1.1\r\nX")
        viewer = stack.enter_context(Viewer(sink))
        for path in ("/", "/metrics"):
            assert ask(sink, path)[0] == 200
        assert ask(sink, "/health")[0] == 503 and json.loads(ask(sink, "/health")[2])["state"] == "waiting"
        sink.write(frame(3))
        assert index_seen(viewer.next()) == 3


def test_a_request_that_trickles_is_ended(sink: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        viewer = stack.enter_context(Viewer(sink))
        monkeypatch.setattr(connections, "REQUEST_S", 0.5)
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", sink.port), timeout=120))
        slow.sendall(b"GET / HTTP/1.1\r\n")

        def ended() -> bool:
            try:
                slow.sendall(b"a")
            except OSError:
                return True
            return False

        assert eventually(ended)
        sink.write(frame(1))  # whose request has come whole may watch for longer
        assert index_seen(viewer.next()) == 1


def test_where_all_places_are_taken_a_watchdog_still_gets_its_answer(
    sink: WebSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    sink.write(frame(0))
    with Viewer(sink), Viewer(sink):
        assert ask(sink, "/")[0] == 503
        assert ask(sink, "/health")[0] == 200 and ask(sink, "/metrics")[0] == 200
        monkeypatch.setattr(connections, "KEPT_PLACES", 0)
        assert ask(sink, "/health")[::2] == (503, b"Too many viewers; close some and try again.\n")


def test_a_connection_is_kept_for_whoever_asks_for_it(sink: WebSink) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sink.port, timeout=120)) as connection:
        for path in ("/", "/common.css", "/nothing", "/metrics"):
            connection.request("GET", path, headers={"Connection": "keep-alive"})
            answer = connection.getresponse()
            assert answer.getheader("Connection") == "keep-alive" and answer.read()
            assert connection.sock is not None
    assert ask(sink, "/")[1]["Connection"] is None


@pytest.mark.parametrize("name", ["h\udcffaus", "\ud800", "a\x1b[31mb\r\nX: y", "ü/\0"])
def test_a_name_that_is_not_utf_8_or_not_printable_does_no_harm(sink: WebSink, name: str) -> None:
    stream = Watched()
    stream.name = name
    sink.attach(stream)
    sink.write(frame(0, name=name))
    status, headers, _ = ask(sink, "/snapshot.png")
    assert status == 200 and "X" not in headers
    status, _, body = ask(sink, "/metrics")
    assert status == 200 and not re.search(r"[\x00-\x09\x0b-\x1f]", body.decode())
    first_event(sink)["source"].encode()


def test_after_close_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LEAVE_S", 3.0)  # the lazy two never take what they are sent, the watcher must
    with leaves_nothing():
        sink = WebSink("127.0.0.1", 0)
        sink.write(noise(0))
        with (
            socket.create_connection(("127.0.0.1", sink.port)) as lazy,
            socket.create_connection(("127.0.0.1", sink.port)),
            asked(sink, "/events") as answer,
        ):
            lazy.sendall(b"GET /stream.mjpg HTTP/1.0\r\n\r\n")
            assert json.loads(answer.readline()[6:])["state"] == "streaming"
            sink.close()
            sink.close()
            events = [json.loads(line[6:]) for line in answer.read().decode().splitlines() if line]
            assert events[-1]["state"] == "ended" and events[-1]["frames"] == 1


def test_a_port_in_use_is_named(sink: WebSink) -> None:
    with pytest.raises(InputError, match=rf"{sink.port}: the port is in use; choose another one"):
        WebSink("127.0.0.1", sink.port)


def test_a_port_for_root_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(web_server.WebServer, "server_bind", refuse)  # some systems let anybody
    with pytest.raises(InputError, match="ports below 1024 are for root"):
        WebSink("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 65536, "is no address"),
        ("127.0.0.1", -1, "is no address"),
        ("192.0.2.1", 8080, "has not that address"),
        ("no host", 8080, "there is no host"),
        ("x" * 300, 8080, "there is no host"),
    ],
)
def test_where_nobody_can_serve(host: str, port: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        WebSink(host, port)


def test_only_this_machine_may_watch_unless_told_otherwise(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(WebSink("", 0)) as sink:
        assert sink._hosting.server.server_address[0] == "127.0.0.1"
    assert "warning" not in capfd.readouterr().err
    with contextlib.closing(WebSink("0.0.0.0", 0)) as sink:
        for own in (socket.gethostname(), f"{socket.gethostname()}:{sink.port}", "192.0.2.7"):
            assert ask(sink, "/", Host=own)[0] == 200
        for path in ("/", "/health", "/common.css", "/nothing", "/snapshot.png?view=x"):
            assert ask(sink, path, Host="board.example")[0] == 403
    said = capfd.readouterr().err
    assert f"warning: whoever reaches port {sink.port}" in said
    assert "not encrypted" in said and f"caddy reverse-proxy --from NAME --to 127.0.0.1:{sink.port}" in said
    with contextlib.closing(WebSink("0.0.0.0", 0, token="word-0123456789ab")) as sink:
        assert ask(sink, "/")[0] == 401
    said = capfd.readouterr().err
    assert "whoever reaches" not in said and "not encrypted" in said


def test_ipv6() -> None:
    try:
        sink = WebSink("::1", 0)
    except InputError:
        pytest.skip("this machine has no IPv6")
    with contextlib.closing(sink), contextlib.closing(http.client.HTTPConnection("::1", sink.port)) as connection:
        connection.request("GET", "/health")
        assert connection.getresponse().status == 503


def test_the_grammar_of_the_command_line() -> None:
    with contextlib.closing(open_sink("http://:0", mode="side-by-side", token="word-0123456789ab")) as sink:
        assert isinstance(sink, WebSink) and sink._hosting.server.server_address[0] == "127.0.0.1"
        assert sink._live.mode == "side-by-side" and ask(sink, "/?token=word-0123456789ab")[0] == 200
    for wrong in (
        "http://",
        "http://127.0.0.1",
        "http://:99999",
        "http://u:secret@:80",
        "http://:80/path",
        "http://[:80",
    ):
        with pytest.raises(InputError, match="is no address to serve at") as error:
            open_sink(wrong)
        assert "secret" not in str(error.value)
