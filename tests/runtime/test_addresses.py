"""What of an address may be shown, and how it is taken apart."""

from __future__ import annotations

import pytest

from pix2pix_edge.runtime.addresses import host_of, parse_address, redacted, shown
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sources import open_source


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:secret@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://secret@host/a?b=secret", "rtsp://***@host/a?***"),
        ("http://host/a?token=secret&x=secret", "http://host/a?***"),
        ("rtsp://me:sec@ret@host/a", "rtsp://***@host/a"),
        ("rtsp://host:554/user=admin&password=secret&channel=1", "rtsp://host:554/user=***&password=***&channel=1"),
        ("cannot open http://me:secret@h/x, gave up", "cannot open http://***@h/x, gave up"),
        ("rtsp://host/plain", "rtsp://host/plain"),
        ("csi://0", "csi://0"),
    ],
)
def test_what_is_secret_in_an_address_is_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown and "secret" not in shown


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        ("rtsp://admin:sec/ret@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://admin:sec#ret@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://admin:sec'ret@host:554/x", "rtsp://***@host:554/x"),
        ('rtsp://admin:sec"ret@host:554/x', "rtsp://***@host:554/x"),
        ("rtsp://admin:sec ret@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://admin:sec?ret@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://admin:1/ret@host/x", "rtsp://***"),
        ("http://me:sec@host/x?mail=ret@b", "http://***"),
        ("rtsp://host/cam&psw=secret", "rtsp://host/cam&psw=***"),
        ("rtsp://host/cam;sessionid=secret", "rtsp://host/cam;sessionid=***"),
        ("rtsp://host/user=admin_password=se_cret_channel=1_stream=0.sdp",
         "rtsp://host/user=***_password=***_channel=1_stream=0.sdp"),
        ("http://host/a b?token=secret", "http://host/a b?***"),
        ("rtsp:/me:secret@host", "rtsp:/***@host"),
        ("me:secret@host:554", "***@host:554"),
        ("0?password=secret", "0?password=***"),
        ("0?access_token=secret", "0?access_token=***"),
        ("rtspsrc location=x user-pw=secret ! appsink", "rtspsrc location=x user-pw=*** ! appsink"),
        ("souphttpsrc user-pw = secret", "souphttpsrc user-pw = ***"),
        ("unknown: --camera-password secret", "unknown: --camera-password ***"),
        ("rtsp%3A%2F%2Fme%3Asecret%40host/a", "***@host/a"),
        ("rtsp://me%3Asecret%40host/a", "rtsp://***@host/a"),
        ("rtsp://me:secret\uff20host/a", "rtsp://***"),
        ("rtsp://host@me:secret", "rtsp://***"),
        ("http://host/a,pwd=secret", "http://host/a,pwd=***"),
        ("http://host/a&pwd%3Dsecret", "http://host/a&pwd%3D***"),
        ("http://host/pwd/secret/a", "http://host/pwd/***/a"),
        ("http://host/tok/secret=1", "http://host/tok/***"),
        ("http://host/u:admin,p:secret", "http://host/u:***,p:***"),
        ("rtmp://host/live/secret", "rtmp://host/live/***"),
        ("rtsps://nvr:7441/5Qm1YxsecretKrKb?x", "rtsps://nvr:7441/***?***"),
        ("http://host/d41d8cd98f00b204e980/mjpeg/2", "http://host/***/mjpeg/2"),
        ("rtsp://host/live/abcd-efgh-ijkl-mnop", "rtsp://host/live/***"),
        ("rtsp://host/h264Preview_01_main", "rtsp://host/h264Preview_01_main"),
        ("rtsp://host/cam1_s0_h264_1080p/20261126T101500Z", "rtsp://host/cam1_s0_h264_1080p/20261126T101500Z"),
        ("s3://bucket/a1b2c3d4e5f6a7b8/x.png", "s3://bucket/a1b2c3d4e5f6a7b8/x.png"),
        ("cannot listen at http://127.0.0.1:80: in use", "cannot listen at http://127.0.0.1:80: in use"),
        ("a page (http://[::1]:80)", "a page (http://[::1]:80)"),
        ("0?size=640x480@30", "0?size=640x480@30"),
        ("test://640x480@30", "test://640x480@30"),
        ("rtsp://host/live@2", "rtsp://host/live@2"),
        ("photos/2024 10:30/a.png", "photos/2024 10:30/a.png"),
    ],
)  # fmt: skip
def test_no_spelling_of_a_password_is_shown(spec: str, seen: str) -> None:
    assert shown(spec) == seen
    for text in [redacted(spec), redacted(f"cannot open {spec}, gave up")] if "a b" not in spec else []:
        assert not any(part in text for part in ("secret", "se_cret", "sec/ret", "ret@"))


def test_an_address_is_taken_apart_whatever_its_password_holds() -> None:
    for password in ("p/s#s?w @r'd\"", "a:b@c", "%41"):
        address = parse_address(f"rtsp://me:{password}@host:8554/a?b=1#c")
        assert (address.user, address.host, address.port, address.target) == ("me", "host", 8554, "/a?b=1")
        assert address.password == {"%41": "A"}.get(password, password)
        assert password not in repr(address) + address.shown
        assert parse_address(f"http://{address.userinfo()}[::1]/").password == address.password
    secure = parse_address("https://host/a b?insecure=1&x=y z")
    assert (secure.insecure, secure.port, secure.target) == (True, 443, "/a%20b?x=y%20z")


def test_a_password_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "se/cr@t")
    assert parse_address("rtsp://me:$CAMERA_PASSWORD@host/a").password == "se/cr@t"
    assert parse_address("http://host/a?key=${CAMERA_PASSWORD}&b=1").target == "/a?key=se%2Fcr%40t&b=1"
    assert parse_address("rtsp://me:pa$CAMERA@host/a").password == "pa$CAMERA", "only in place of the whole"
    with pytest.raises(InputError, match=r"no CAMERA_PIN.*export CAMERA_PIN=.*%24"):
        parse_address("rtsp://me:$CAMERA_PIN@host/a")


@pytest.mark.parametrize(
    "spec", ["http://", "http://host:99999/", "http://a b/", "rtsp:///x", "rtsp://[::1", "http://:80"]
)
def test_what_is_no_address_says_how_one_is_written(spec: str) -> None:
    with pytest.raises(InputError, match=r"is no address; write (http|rtsp)://HOST:PORT/PATH"):
        parse_address(spec)


def test_a_host_makes_a_file_name() -> None:
    addresses = ("rtsp://me:x@cam-1.local:554/a", "http://[::1]:80/", "rtsp:///x", "rtsp://[::1")
    assert [host_of(url) for url in addresses] == ["cam-1.local", "__1", "stream", "stream"]
    assert host_of("rtsp://host;auth=secret/a") == host_of("rtsp://me%3Asecret%40host/a") == "host"


@pytest.mark.parametrize(
    "spec", ["rtsp:/me:secret@host/x", "RTSP:me:secret@host", "me:secret@host:554", "me:sec/ret@host:80/x"]
)
def test_a_slip_in_an_address_shows_no_password(spec: str) -> None:
    with pytest.raises(InputError, match=r"\*\*\*@host.* is no address; write ") as caught:
        open_source(spec)
    assert "sec" not in str(caught.value)
