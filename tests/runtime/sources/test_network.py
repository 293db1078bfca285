"""Network cameras with the quirks of real ones: read where they can be, and told apart by their true reason."""

from __future__ import annotations

import contextlib
import itertools
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Source
from pix2pix_edge.runtime.sources import capture as capture_module
from pix2pix_edge.runtime.sources import live as live_module
from pix2pix_edge.runtime.sources import motion_jpeg, open_source
from pix2pix_edge.runtime.sources.network import PictureSource
from tests.conftest import index_of, kept_ports, write_video
from tests.runtime.sources.ip_camera import OK, Answer, HttpServer, jpeg_of, part
from tests.runtime.sources.rtsp_camera import RtspCamera

JPEGS = [jpeg_of(index) for index in range(60)]


@contextlib.contextmanager
def server(answer: Answer, **options: Any) -> Iterator[int]:
    with HttpServer(answer, **options) as serving:
        yield serving.port


def chunked(data: bytes, size: int = 700) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(data[i : i + size]), data[i : i + size]) for i in range(0, len(data), size))


QUIRKS: dict[str, Answer] = {
    "as it should be": lambda _: iter([OK, *map(part, JPEGS)]),
    "no first boundary": lambda _: iter([OK, part(JPEGS[0], b""), *map(part, JPEGS[1:])]),
    "no lengths": lambda _: iter([OK, *(part(jpeg, length=False) for jpeg in JPEGS)]),
    "another boundary than it says": lambda _: iter([OK, *(part(jpeg, b"--other\r\n") for jpeg in JPEGS)]),
    "no dashes": lambda _: iter([OK, *(part(jpeg, b"frame\r\n") for jpeg in JPEGS)]),
    "no type": lambda _: iter([b"HTTP/1.0 200 OK\r\n\r\n", *map(part, JPEGS)]),
    "pictures alone": lambda _: iter([b"HTTP/1.0 200 OK\r\nContent-Type: video/x-motion-jpeg\r\n\r\n", *JPEGS]),
    "chunks": lambda _: iter(
        [OK.replace(b"\r\n", b"\r\nTransfer-Encoding: chunked\r\n", 1), *(chunked(part(jpeg)) for jpeg in JPEGS)]
    ),
    "damaged ones between": lambda _: iter([OK, *(part(jpeg) + part(jpeg[:400]) for jpeg in JPEGS)]),
    "an answer before the answer": lambda _: iter(
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, *map(part, JPEGS)]
    ),
    "pictures under a wrong type": lambda _: iter(
        [b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n\r\n", *map(part, JPEGS)]
    ),
    "pictures cut inside their tables": lambda _: iter([OK, *(part(jpeg[:500]) + part(jpeg) for jpeg in JPEGS)]),
    "a redirect on the same host": lambda request: iter(
        [b"HTTP/1.0 302 Found\r\nLocation: /live\r\n\r\n"] if b"GET /x " in request else [OK, *map(part, JPEGS)]
    ),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_camera_with_a_quirk_works_by_itself(quirk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = itertools.count()
    clock = SimpleNamespace(monotonic=time.monotonic, monotonic_ns=lambda: next(pictures) * 20_000_000)
    monkeypatch.setattr(motion_jpeg, "time", clock)
    monkeypatch.setattr(motion_jpeg, "MEASURED_S", 600.0)
    with server(QUIRKS[quirk]) as port:
        source = open_source(f"http://127.0.0.1:{port}/x")
        frames = [source.read() for _ in range(6)]
        numbers = [index_of(frame.image) for frame in frames if frame]
        assert source.live and numbers == list(range(numbers[0], numbers[0] + 6))
        assert source.fps == 50, "measured, for the camera does not say it"
        source.close()


def reply(status: str, *fields: str, body: bytes = b"") -> Answer:
    head = f"HTTP/1.0 {status}\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"
    return lambda _: iter([head.encode() + body])


ELSEWHERE = "http://127.0.0.1:1/internal"

FAILURES: dict[str, tuple[Answer, str]] = {
    "401": (reply("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'), r"wants a user and a password \(401\)"),
    "403": (reply("403 Forbidden"), r"forbids .* \(403\)"),
    "404": (reply("404 Not Found"), r"no such path \(404\)"),
    "busy": (reply("503 Service Unavailable"), r"no room for another viewer \(503\)"),
    "web page": (reply("200 OK", "Content-Type: text/html", body=b"<html>login</html>"), "is a web page"),
    "playlist": (reply("200 OK", body=f"#EXTM3U\n{ELSEWHERE}\n".encode()), "answers with a playlist"),
    "redirect": (reply("302 Found", f"Location: {ELSEWHERE}"), "sends on to 'http://127.0.0.1:1/internal', another"),
    "redirect to a file": (reply("302 Found", "Location: file:///etc/passwd"), "sends on to 'file:///etc/passwd'"),
    "redirect for ever": (reply("302 Found", "Location: /x"), "without an end"),
    "no HTTP": (lambda _: iter([b"SSH-2.0-OpenSSH\r\n\r\n"]), "is no HTTP"),
    "hangs up": (lambda _: iter([]), "hung up before it answered"),
    "packed": (reply("200 OK", "Content-Encoding: gzip", body=b"\x1f\x8b"), r"packs its answer \(gzip\)"),
    "RTSP": (lambda _: iter([b"RTSP/1.0 400 Bad Request\r\n\r\n"]), "is no HTTP; try rtsp://"),
    "TLS": (lambda _: iter([b"\x15\x03\x01\0\2\2F"]), "is no HTTP; try https://"),
    "hangs up after its head": (reply("200 OK"), "answered, and hung up without a picture"),
    "chunks in name alone": (
        reply("200 OK", "Transfer-Encoding: chunked", body=part(JPEGS[0])),
        "in chunks, and does not",
    ),
    "noise": (reply("200 OK", "Content-Type: video/mp4", body=b"\0noise" * 999), "no video that OpenCV can decode"),
    "silent": (lambda _: iter([b""] * 10**6), "is silent: it took the connection"),
    "silent later": (lambda _: iter([OK, *([b""] * 10**6)]), "is silent: it answered, and sent nothing"),
    "slow head": (lambda _: iter([b"HTTP/1.0 200 OK\r\nX-Pad: ", *([b"a"] * 10**6)]), "is silent: it took"),
    "one picture, slowly": (lambda _: iter([OK, *(bytes([b]) for b in part(JPEGS[0]))]), "sent no whole picture"),
    "no end of a picture": (
        lambda _: iter([OK, b"\xff\xd8\xff\xda\0\2", *([b"A" * 65536] * 10**6)]),
        "more than 32 MiB",
    ),
}


SILENCE = {"silent": 700, "slow head": 700, "silent later": 4000, "one picture, slowly": 4000}
"""What only time can tell, and after how many milliseconds: more where a camera must have answered by then."""


@pytest.mark.parametrize("failure", FAILURES)
def test_a_camera_that_gives_no_video_has_its_true_reason(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, reason = FAILURES[failure]
    if failure in SILENCE:
        monkeypatch.setattr(capture_module, "TIMEOUT_MS", SILENCE[failure])
    period = 0.0 if failure == "no end of a picture" else 0.01
    with server(answer, period_s=period) as port, pytest.raises(InputError, match=rf"gives no video: .*{reason}"):
        open_source(f"http://127.0.0.1:{port}/x")


def test_a_playlist_or_a_redirect_makes_nobody_ask_another_port() -> None:
    asked: list[bytes] = []
    with server(lambda request: asked.append(request) or iter([b"HTTP/1.0 404 No\r\n\r\n"])) as inside:
        there = f"http://127.0.0.1:{inside}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{there}\n#EXT-X-ENDLIST\n".encode()
        as_video = reply("200 OK", "Content-Type: video/mp4", body=b"\n" * 40 + playlist)
        concat = reply(
            "200 OK", "Content-Type: video/mp4", body=b"ffconcat version 1.0\nfile " + there.encode() + b"\n"
        )
        moved = reply("307 Temporary Redirect", f"Location: {there}")
        for answer in (reply("200 OK", body=playlist), as_video, concat, moved):
            with server(answer) as port, pytest.raises(InputError, match="gives no video"):
                open_source(f"http://127.0.0.1:{port}/x")
        turned = f"RTSP/1.0 302 Moved\r\nLocation: rtsp://127.0.0.1:{inside}/a\r\n\r\n".encode()
        with RtspCamera(answer=turned) as camera, pytest.raises(InputError, match=r"sends on to 'rtsp://127\.0\.0\.1:"):
            open_source(f"rtsp://127.0.0.1:{camera.port}/x")
    assert asked == []


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_any_password_opens_its_camera_and_a_wrong_one_is_said(scheme: str) -> None:
    asked = {"basic": 'Basic realm="x"', "digest": 'Digest realm="x", nonce="n", qop="auth", algorithm=SHA-256'}[scheme]
    seen: list[str] = []

    def answer(request: bytes) -> Iterator[bytes]:
        words = request.decode("latin-1").partition("\r\nAuthorization: ")[2].partition("\r\n")[0]
        seen.append(words)
        good = words == "Basic bWU6cGEvc3MjIHdAcmQ=" if scheme == "basic" else 'username="me"' in words
        return iter(
            [OK, *map(part, JPEGS)] if good else [f"HTTP/1.0 401 No\r\nWWW-Authenticate: {asked}\r\n\r\n".encode()]
        )

    with server(answer) as port:
        source = open_source(f"http://me:pa/ss# w@rd@127.0.0.1:{port}/x")
        assert source.read() and seen[0] == "" and source.name == "127.0.0.1"
        source.close()
        with pytest.raises(InputError, match=r"refuses this user and password \(401\)") as caught:
            open_source(f"http://you:secret@127.0.0.1:{port}/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (['Basic realm="x", Digest realm="a, b", nonce="n", qop="auth,auth-int", algorithm=SHA-512-256'], ""),
        (
            ['Digest realm="a, b", nonce="old", qop="auth"', 'Digest realm="a, b", nonce="n", stale=true, qop="auth"'],
            "",
        ),
        (["Negotiate"], "a login by Negotiate"),
    ],
)
def test_a_login_of_another_kind_works_or_is_named(asked: list[str], reason: str) -> None:
    calls: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        calls.append(request)
        if b'realm="a, b", nonce="n"' in request:
            return iter([OK, *map(part, JPEGS)])
        challenge = asked[min(len(calls), len(asked)) - 1]
        return iter([f"HTTP/1.0 401 No\r\nWWW-Authenticate: {challenge}\r\n\r\n".encode()])

    with server(answer) as port:
        address = f"http://me:p@ss:w/rd@127.0.0.1:{port}/x"
        if reason:
            with pytest.raises(InputError, match=reason):
                open_source(address)
        else:
            open_source(address).close()


@pytest.mark.parametrize("length", [True, False])
def test_one_picture_on_a_server_is_one_frame(length: bool) -> None:
    fields = ["Content-Type: image/jpeg", *([f"Content-Length: {len(JPEGS[7])}"] if length else [])]
    with server(reply("200 OK", *fields, body=JPEGS[7])) as port:
        source = open_source(f"http://127.0.0.1:{port}/snapshot")
    assert isinstance(source, PictureSource) and isinstance(source, Source) and not source.live
    frame = source.read()
    assert frame and index_of(frame.image) == 7 and source.read() is None


def test_a_stream_in_a_container_is_live(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.ts", 500).read_bytes()
    head = b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n"
    with server(lambda _: itertools.chain([head], (whole[i : i + 1880] for i in range(0, len(whole), 1880)))) as port:
        source = open_source(f"http://127.0.0.1:{port}/x")
        frame = source.read()
        assert source.live and frame and frame.image.shape == (64, 96, 3)
        source.close()


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """What a camera with its own certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_a_certificate_is_checked_unless_told_otherwise(
    secure: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(QUIRKS["as it should be"], context=secure) as port:
        with pytest.raises(InputError, match=r"certificate cannot be trusted .*insecure=1"):
            open_source(f"https://127.0.0.1:{port}/x")
        source = open_source(f"https://127.0.0.1:{port}/x?insecure=1")
        assert source.read()
        source.close()
    monkeypatch.setattr(capture_module, "TIMEOUT_MS", 700)  # who speaks no TLS waits for us to go on
    with server(QUIRKS["as it should be"]) as port, pytest.raises(InputError, match="no TLS at port"):
        open_source(f"https://127.0.0.1:{port}/x")


def test_rtsp_over_tls_is_checked_too(secure: ssl.SSLContext) -> None:
    with RtspCamera(context=secure) as camera:
        with pytest.raises(InputError, match="certificate cannot be trusted"):
            open_source(f"rtsps://127.0.0.1:{camera.port}/x")
        source = open_source(f"rtsps://127.0.0.1:{camera.port}/x?insecure=1")
        assert source.read()
        source.close()


def test_a_gap_counts_from_the_last_frame(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A camera falls silent until it is given up: the frames of that time are lost too, not only of the reopening."""
    monkeypatch.setattr(live_module, "FIRST_DELAY_S", 0.05)
    calls: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        calls.append(request)
        yield OK
        yield from map(part, JPEGS[:40] if len(calls) == 1 else itertools.cycle(JPEGS))
        while True:
            yield b""

    with server(answer) as port:
        with monkeypatch.context() as patched:  # until it is opened, and not when it is opened again
            patched.setattr(capture_module, "TIMEOUT_MS", 2000)
            source = open_source(f"http://127.0.0.1:{port}/x")
        frames = [source.read() for _ in range(45)]
        source.close()
    pairs = itertools.pairwise(frames)
    before, after = next((a, b) for a, b in pairs if a and b and b.index > a.index + 1)
    gone_s, lost = (after.captured_at - before.captured_at) / 1e9, after.index - before.index - 1
    rate = before.index / ((before.captured_at - frames[0].captured_at) / 1e9) if frames[0] else 0.0
    assert gone_s > 2 and lost == max(1, round(gone_s * rate) - 1), "not counted from the reopening"
    assert "is back after 2." in capfd.readouterr().err or gone_s > 3


RTSP_FAILURES: dict[str, tuple[dict[str, object], str]] = {
    "password": ({"password": "other"}, r"refuses this user and password \(401\)"),
    "404": ({"answer": b"RTSP/1.0 404 Not Found\r\n\r\n"}, r"no such path \(404\)"),
    "busy": ({"answer": b"RTSP/1.0 503 Service Unavailable\r\n\r\n"}, r"no room for another viewer \(503\)"),
    "another login": ({"answer": b"RTSP/1.0 401 No\r\nWWW-Authenticate: NTLM\r\n\r\n"}, r"another login .* \(401\)"),
    "silent": ({"silent": True}, "is silent: it took the connection"),
    "codec": ({"codec": "X-UNHEARD-OF"}, "of its X-UNHEARD-OF video no picture could be decoded.*H.264"),
    "sound": (
        {"answer": b"RTSP/1.0 200 OK\r\nContent-Length: 31\r\n\r\nv=0\r\ns=-\r\nm=audio 0 RTP/AVP 0\r\n"},
        "offers no video",
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", RTSP_FAILURES)
def test_an_rtsp_camera_that_gives_no_video_has_its_true_reason(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, reason = RTSP_FAILURES[failure]
    if failure in ("silent", "codec"):
        monkeypatch.setattr(capture_module, "TIMEOUT_MS", 1500 if failure == "silent" else 6000)
    with RtspCamera(**options) as camera, pytest.raises(InputError, match=rf"gives no video: .*{reason}") as caught:  # type: ignore[arg-type]
        open_source(f"rtsp://me:sec/ret@127.0.0.1:{camera.port}/live")
    assert "ret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"HTTP/1.1 400 No\r\n\r\n", "; try http://"), (b"\x15\x03\1\0\2\2F", "; try rtsps://"), (b"SSH-2", "")],
)
def test_what_is_no_rtsp_is_said(answer: bytes, said: str) -> None:
    with server(lambda _: iter([answer])) as port, pytest.raises(InputError, match=f"there is no RTSP{said}$"):
        open_source(f"rtsp://127.0.0.1:{port}/x")


@pytest.mark.parametrize("options", [{}, {"udp_only": 461}, {"udp_only": 400}, {"password": "pa/ss# w@rd"}])
def test_an_rtsp_camera_works_by_itself(options: dict[str, object]) -> None:
    with RtspCamera(**options) as camera:  # type: ignore[arg-type]
        source = open_source(f"rtsp://me:pa/ss# w@rd@127.0.0.1:{camera.port}/live")
        numbers = [index_of(frame.image) for frame in (source.read() for _ in range(8)) if frame]
        assert source.live and numbers == [(numbers[0] + i) % 60 for i in range(8)]
        assert ("UDP" in camera.transports[-1] or "client_port" in camera.transports[-1]) == ("udp_only" in options)
        source.close()


@pytest.mark.parametrize("scheme", ["http", "rtsp", "https"])
def test_where_nobody_listens_it_is_said(scheme: str) -> None:
    said = rf"^{scheme}://\*\*\*@127\.0\.0\.1:\d+/x\?\*\*\* gives no video: .* refuses"
    with kept_ports() as (port,), pytest.raises(InputError, match=said) as caught:
        open_source(f"{scheme}://me:secret@127.0.0.1:{port}/x?key=1")
    assert "secret" not in str(caught.value) and "key" not in str(caught.value)
