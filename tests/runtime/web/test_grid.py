"""The page of several streams, asked by a real HTTP client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.sinks.web import Pane, open_grid
from tests.conftest import picture
from tests.runtime.doubles import frame
from tests.runtime.web.test_server import ask, asked, first_event

NAMES = ("left", "right")
TOKEN = "word-0123456789ab"


@pytest.fixture
def panes(request: pytest.FixtureRequest) -> Iterator[list[Pane]]:
    with contextlib.ExitStack() as stack:
        panes = open_grid("127.0.0.1", 0, NAMES, token=getattr(request, "param", None))
        for pane in panes:
            stack.callback(pane.close)
        yield panes


def states(panes: list[Pane]) -> dict[str, object]:
    return {name: told["state"] for name, told in first_event(panes[0], "/status").items()}


def test_all_pictures_come_over_one_connection_each_with_its_name(panes: list[Pane]) -> None:
    with asked(panes[0], "/pictures") as answer:
        assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        seen: dict[str, list[int]] = {name: [] for name in NAMES}
        for number in (3, 9):
            for pane, size in zip(panes, (64, 96), strict=True):
                pane.write(frame(number, size))
            for _ in NAMES:
                assert answer.readline() == b"--frame\r\n"
                head: dict[bytes, bytes] = {}
                while line := answer.readline().strip():
                    key, _, value = line.partition(b": ")
                    head[key] = value
                jpeg = answer.read(int(head[b"Content-Length"]))
                assert answer.readline() == b"\r\n"
                shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                name = head[b"X-Source"].decode()
                assert shown.shape[0] == (64 if name == "left" else 96)
                seen[name].append(int(head[b"X-Frame"]))
        assert seen == {"left": [3, 9], "right": [3, 9]}


def test_each_source_has_the_page_that_it_would_have_alone(panes: list[Pane]) -> None:
    assert b"grid.js" in ask(panes[0], "/")[2]
    panes[1].write(frame(5, 64))
    for name in NAMES:
        status, headers, body = ask(panes[0], f"/{name}/")
        assert status == 200 and headers["Content-Type"].startswith("text/html") and b"live.js" in body
        assert ask(panes[0], f"/{name}/live.js")[0] == 200 and ask(panes[0], f"/{name}/history.json")[0] == 200
    status, _, png = ask(panes[0], "/right/snapshot.png")
    assert status == 200 and np.array_equal(
        cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR),
        cv2.cvtColor(255 - picture(5, 64, 64), cv2.COLOR_RGB2BGR),
    )
    assert ask(panes[0], "/left/snapshot.png")[0] == 503, "the other one has none yet"
    assert ask(panes[0], "/other/")[0] == 404


def test_states_and_numbers_are_of_each_and_the_page_ends_with_the_last(panes: list[Pane]) -> None:
    panes[0].write(frame(0, 64))
    assert states(panes) == {"left": "streaming", "right": "waiting"}
    told = first_event(panes[0], "/status")
    assert all(each["among"] == 2 and each["source"] == name for name, each in told.items())
    assert ask(panes[0], "/health")[::2] == (503, b'{"sources": {"left": "streaming", "right": "waiting"}}\n')
    panes[1].write(frame(0, 64))
    assert ask(panes[0], "/health")[0] == 200
    metrics = ask(panes[0], "/metrics")[2].decode()
    assert metrics.count("# TYPE pix2pix_frames_total counter") == 1
    for name in NAMES:
        assert f'pix2pix_frames_total{{source="{name}"}} 1\n' in metrics
    panes[0].close()
    panes[0].close()
    assert states(panes)["left"] == "ended"
    panes[1].close()
    with pytest.raises(ConnectionRefusedError):
        ask(panes[0], "/")


@pytest.mark.parametrize("panes", [TOKEN], indirect=True)
def test_a_token_guards_every_page(panes: list[Pane]) -> None:
    panes[0].write(frame(0, 64))
    for path in ("/", "/left/", "/pictures", "/status", "/metrics", "/left/snapshot.png", "/left/stream.mjpg"):
        assert ask(panes[0], path)[0] == 401, path
    for place in ("/", "/left/"):
        form = ask(panes[0], place, Accept="text/html")
        assert form[0] == 401 and b"sign-in.js" in form[2]
        assert ask(panes[0], f"{place}sign-in.js")[0] == 200
        assert ask(panes[0], f"{place}sign-in", Authorization=f"Bearer {TOKEN}")[0] == 204
        assert ask(panes[0], place, Authorization=f"Bearer {TOKEN}")[0] == 200
