"""Who may ask, and how often."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sinks.web import WebSink
from pix2pix_edge.runtime.web import guard
from pix2pix_edge.runtime.web.guard import Buckets, Guard, add_token_arguments, check_token, network_of, token_from
from tests.runtime.web.test_server import ask

TOKEN = "correct-horse-battery"


def parse(*argv: str) -> str | None:
    parser = argparse.ArgumentParser()
    add_token_arguments(parser)
    return token_from(parser.parse_args(argv))


@pytest.fixture(autouse=True)
def _no_token_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(guard.TOKEN_VARIABLE, raising=False)


def test_a_token_comes_from_the_command_line_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse() is None
    assert parse("--token", TOKEN) == TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}\nof the board in the hall\n")
    assert parse("--token-file", str(tmp_path / "token")) == TOKEN
    monkeypatch.setenv(guard.TOKEN_VARIABLE, "from-the-environment")
    assert parse() == "from-the-environment"
    assert parse("--token", TOKEN) == TOKEN  # what was typed wins


def test_a_token_comes_through_a_shells_substitution() -> None:
    script = (
        "import sys, argparse; from pix2pix_edge.runtime.web.guard import *; p = argparse.ArgumentParser();"
        " add_token_arguments(p); print(token_from(p.parse_args(sys.argv[1:])))"
    )
    command = f"""python3() {{ "$PYTHON" "$@"; }}; python3 -c '{script}' --token-file <(echo {TOKEN})"""
    python = {"PYTHON": os.sys.executable} | dict(os.environ)  # type: ignore[attr-defined]
    done = subprocess.run(["bash", "-c", command], env=python, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == TOKEN, done.stderr


def test_token_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00" * 9)
    (tmp_path / "short").write_text("word\n")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "none": "No such file",
        "empty": r"is empty; make one with: \(umask 077; echo \S{32} > ",
        "binary": "is no text",
        "short": "could be guessed",
        "pipe": "it is a pipe",
        ".": "Is a directory",
    }.items():
        with pytest.raises(InputError, match=reason):
            parse("--token-file", str(tmp_path / name))
    with pytest.raises(InputError, match="both give a token"):
        parse("--token", TOKEN, "--token-file", str(tmp_path / "short"))


def test_a_short_token_is_refused_and_a_long_one_offered() -> None:
    with pytest.raises(InputError, match=r"15 characters and could be guessed.*PIX2PIX_EDGE_TOKEN=(\S{32})") as error:
        check_token("a" * 15)
    assert "aaa" not in str(error.value)
    with pytest.raises(InputError, match=r"could be guessed"):
        WebSink("127.0.0.1", 0, token="word")
    for empty in ("", " " * 20):
        with pytest.raises(InputError, match="--token is empty"):
            check_token(empty)
    assert check_token("a" * 16) == "a" * 16 and check_token(None) is None


def test_buckets_fill_again_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(guard.time, "monotonic", lambda: now)
    buckets = Buckets(2, 0.5)
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 2.0]
    assert buckets.wait("b") == 0
    now += 1
    assert buckets.wait("a") == 1.0
    now += 1
    assert buckets.wait("a", take=False) == 0 and buckets.wait("a") == 0 and buckets.wait("a") == 2.0
    monkeypatch.setattr(guard, "MOST_KEYS", 10)
    for number in range(100):
        buckets.wait(str(number))
    assert len(buckets._left) == 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_guesser_is_known_by_the_network(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example:80", "[::1", "localhost.evil.example", "1.2.3.4:x", "a b", "2130706433"],
)
def test_a_name_that_is_not_ours(host: str) -> None:
    for address in ("127.0.0.1", "0.0.0.0", "::"):
        assert not Guard(address, None).knows(host)


def test_names_that_are_ours() -> None:
    for host in ("localhost:80", "LOCALHOST.", "127.0.0.1", "[::1]:8080", "", guard.socket.gethostname()):
        assert Guard("127.0.0.1", None).knows(host)
    assert not Guard("127.0.0.1", None).knows("8.8.8.8") and Guard("0.0.0.0", None).knows("8.8.8.8")
    assert Guard("192.0.2.1", None, "Board.example").knows("board.example:80")


@pytest.fixture
def guarded() -> Iterator[WebSink]:
    with contextlib.closing(WebSink("127.0.0.1", 0, token=TOKEN)) as sink:
        yield sink


def test_whoever_has_given_the_token_is_known_by_a_cookie(guarded: WebSink) -> None:
    status, headers, _ = ask(guarded, "/", Accept="text/html")
    assert status == 401 and headers["Content-Type"].startswith("text/html")
    assert ask(guarded, "/sign-in", Authorization="Bearer no")[0] == 401
    status, headers, _ = ask(guarded, "/sign-in", Authorization=f"Bearer {TOKEN}")
    assert status == 204 and "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert TOKEN not in cookie
    assert ask(guarded, "/metrics", Cookie=f"other=1; {cookie}")[0] == 200
    assert ask(guarded, "/metrics", Cookie=cookie[:-1])[0] == 401
    assert ask(guarded, "/metrics", Cookie="=;=\x01")[0] == 401


def test_guesses_are_throttled_and_others_are_not(guarded: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: 0.0))  # or a slow guesser is forgiven one
    cookie = ask(guarded, f"/?token={TOKEN}")[1]["Set-Cookie"].partition(";")[0]
    given = [ask(guarded, f"/metrics?token=guess-{n}-0123456789")[0] for n in range(guard.GUESSES + 5)]
    assert given == [401] * guard.GUESSES + [429] * 5
    status, headers, _ = ask(guarded, f"/metrics?token={TOKEN}")  # else a guesser would learn which one was right
    assert status == 429 and int(headers["Retry-After"]) > 0
    assert ask(guarded, "/metrics", Cookie=cookie)[0] == 200
    assert ask(guarded, "/health")[0] == 503  # answered: there is no frame yet


def test_a_flood_is_told_to_slow_down(guarded: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr(guarded._hosting.server.guard, "_requests", Buckets(3, 0.001))
    assert [ask(guarded, "/health")[0] for _ in range(5)] == [503, 503, 503, 429, 429]


def test_a_page_of_another_site_may_not_use_ours(guarded: WebSink) -> None:
    own = f"127.0.0.1:{guarded.port}"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert ask(guarded, f"/metrics?token={TOKEN}", Origin=origin)[0] == 403
    assert ask(guarded, f"/metrics?token={TOKEN}", Origin=f"http://{own}")[0] == 200
