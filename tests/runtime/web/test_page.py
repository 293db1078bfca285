"""The page of the http sink in a real browser."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.shared import SharedEngine
from pix2pix_edge.runtime.sinks.web import WebSink, open_grid
from pix2pix_edge.runtime.stream import Stream, translate
from pix2pix_edge.runtime.streaming.together import Together
from tests.conftest import eventually, in_threads, picture, write_inverter, write_rgb
from tests.runtime.web.chromium import Chromium

STATE = "document.getElementById('state').textContent"
STATUS = """{state: "streaming", source: "test", frames: 7, fps: 30, latency_p50_ms: 9.9, latency_p95_ms: 12.3,
  dropped: {stale: 1200, "queue full": 34, "source gap": 0}, engine: "e", device: "d", precision: "int8"}"""
WIDTH = "document.documentElement.scrollWidth"
PIXELS = """(() => {
  const canvas = document.createElement("canvas"), image = document.getElementById("picture");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return canvas.width + "x" + canvas.height + context.getImageData(0, 0, canvas.width, canvas.height).data.join();
})()"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path) as browser:
        yield browser


@contextlib.contextmanager
def running(stream: Stream | Together) -> Iterator[None]:
    with in_threads(stream.run):
        try:
            yield
        finally:
            stream.stop()


@contextlib.contextmanager
def on_a_page(engine_file: Path, port: int = 0) -> Iterator[tuple[Stream, WebSink]]:
    sink = WebSink("127.0.0.1", port, token="wörd-0123456789ab")
    with open_engine(engine_file, backend="onnxruntime") as engine:
        stream = translate("test://96x96@20", engine, [sink])
        with running(stream):
            yield stream, sink


@pytest.mark.slow
def test_the_page_in_a_browser(browser: Chromium, tmp_path: Path) -> None:
    engine = write_inverter(tmp_path / "inverter.fp32.onnx", (48, 96))
    with on_a_page(engine) as (stream, sink):
        browser.size(1280, 800)
        browser.page("Page.navigate", url=f"http://127.0.0.1:{sink.port}/?token=w%C3%B6rd-0123456789ab")
        browser.wait(f"{STATE} == 'live'")

        browser.wait("document.getElementById('picture').naturalWidth == 96")
        browser.wait("(({ clientWidth, clientHeight }) => Math.abs(clientWidth / clientHeight - 2) < .02)(frame)")
        first = browser.value(PIXELS)
        browser.wait(f"{PIXELS} != {first!r}")  # the picture moves
        first = browser.value("document.getElementById('frames').textContent")
        browser.wait(f"document.getElementById('frames').textContent != {first!r}")  # so do the numbers
        browser.wait("document.getElementById('p50').textContent.endsWith(' ms')")
        browser.wait("parseFloat(document.getElementById('fps').textContent) > 0")
        assert "ONNX Runtime" in browser.value("document.getElementById('engine').textContent")
        panel = browser.value(
            f"(update({{...{STATUS}, temperature_c: 48.4, watts: 6.25}}), document.querySelector('dl').innerText)"
        )
        for text in ("1,234", "1,200\u00a0stale, 34\u00a0queue\u00a0full", "int8", "48 °C", "6.3 W", "12 ms", "9.9 ms"):
            assert text in panel, panel

        browser.value("document.getElementById('beside').click()")
        browser.wait("document.getElementById('picture').naturalWidth == 192")
        picture = cv2.imread(str(browser.download("snapshot")))
        assert picture.shape == (48, 192, 3) and np.array_equal(picture[:, 96:], 255 - picture[:, :96])

        browser.value("document.getElementById('pause').click()")
        browser.wait("!document.getElementById('still').hidden && document.getElementById('still').width == 192")
        assert not browser.value("document.getElementById('picture').hasAttribute('src')")  # nothing is sent meanwhile
        browser.value("document.getElementById('pause').click()")
        browser.wait("document.getElementById('still').hidden")
        browser.wait("document.getElementById('picture').naturalWidth == 192")
        browser.value("Object.defineProperty(picture, 'naturalWidth', { value: 0, configurable: true }); record()")
        assert (
            browser.value("delete picture.naturalWidth && message.textContent") == "There is no picture to record yet."
        )
        browser.value("document.getElementById('record').click()")
        time.sleep(2)
        film = cv2.VideoCapture(str(browser.download("record")))
        shown = film.read()[1]
        assert shown.shape == (48, 192, 3)
        film.release()
        assert browser.value("document.getElementById('uptime').textContent").count(":") == 1
        why = browser.value(
            'explain({state: "stalled", frame_age_s: 9, outage: {why: "refused", since_s: 65, next_try_s: 3.2}})'
        )
        assert why == "refused, for 1:05. Next try in 4 s."
        browser.value('line("rate", [null, 1, 2, null, 4], 38, value => `${value} fps`)')
        assert browser.value("document.getElementById('rate-line').getAttribute('d')").count("M") == 2
        assert browser.value("document.getElementById('rate-top').textContent") == "max 4 fps"

        for width, dark in ((360, True), (320, False)):
            browser.size(width, 720, dark=dark, phone=True)
            browser.wait(f"innerWidth == {width}")
            assert browser.value(WIDTH) == width  # nothing sticks out
            assert browser.screenshot(tmp_path / f"phone-{width}.png")

        stream.stop()
        browser.wait(f"{STATE} == 'ended'")
        assert browser.value("document.getElementById('message').textContent") == "The stream has ended."
        assert browser.value("document.getElementById('picture').naturalWidth") == 192  # the last picture stays
        assert browser.value("document.getElementById('numbers').className").endswith("old")  # as do these, grey

    with on_a_page(engine, sink.port):  # the page finds the next stream by itself
        browser.wait(f"{STATE} == 'live'")
        browser.wait("document.getElementById('picture').naturalWidth == 192")
        before = browser.value(PIXELS)
        browser.wait(f"{PIXELS} != {before!r}")


@pytest.mark.slow
def test_who_comes_after_the_end_sees_the_last_picture(browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_rgb(tmp_path / "in" / "a.png", picture(1, 48, 96))
    sink = WebSink("127.0.0.1", 0)
    with open_engine(write_inverter(tmp_path / "inverter.onnx", (48, 96)), backend="onnxruntime") as engine:
        stream = translate(str(tmp_path / "in"), engine, [sink])
        with running(stream):
            assert eventually(lambda: stream.timings.frames == 1)
            browser.page("Page.navigate", url=f"http://127.0.0.1:{sink.port}/")
            browser.wait(f"{STATE} == 'ended'")
            browser.wait("document.getElementById('picture').naturalWidth == 96")


@pytest.mark.slow
def test_the_grid_shows_every_source_and_leads_to_each(browser: Chromium, tmp_path: Path) -> None:
    file = write_inverter(tmp_path / "inverter.fp32.onnx", 96)
    sizes = ("96x96@20", "128x96@15", "64x64@10", "96x96@5")
    names = [f"test-{number}" for number in range(1, 5)]
    panes = open_grid("127.0.0.1", 0, names)
    with open_engine(file, backend="onnxruntime") as engine, SharedEngine(engine, 4) as shared:
        streams = {
            name: translate(f"test://{size}", share, [pane])
            for name, size, share, pane in zip(names, sizes, shared.shares, panes, strict=True)
        }
        with running(Together(streams)):
            browser.size(1280, 800)
            browser.open(f"http://127.0.0.1:{panes[0].port}/")
            browser.wait("document.querySelectorAll('.state.streaming').length == 4")
            browser.wait("[...document.querySelectorAll('canvas')].every(one => one.width == 96)")
            seen = "document.querySelectorAll('canvas')[2].toDataURL()"
            browser.wait(f"{seen} != {browser.value(seen)!r}")  # the pictures move
            browser.wait("document.getElementById('sum').textContent.startsWith('4 of 4 live, ')")
            browser.wait("document.querySelectorAll('.fps')[3].textContent.endsWith(' fps')")
            for width, dark in ((1280, False), (360, True)):
                browser.size(width, 800, dark=dark, phone=width < 500)
                browser.wait(f"innerWidth == {width}")
                assert browser.value(WIDTH) == width
                assert browser.screenshot(tmp_path / f"grid-{width}.png")
            streams["test-2"].stop()
            browser.wait("document.querySelectorAll('.state')[1].textContent == 'ended'")
            assert browser.value("document.querySelectorAll('.state.streaming').length") == 3
            browser.open(f"http://127.0.0.1:{panes[0].port}/test-3/")
            browser.wait(f"{STATE} == 'live'")
            browser.wait("document.getElementById('picture').naturalWidth == 96")
            assert browser.value("document.getElementById('source').textContent") == "test-3"
            browser.value("document.getElementById('all').click()")
            browser.wait("document.querySelectorAll('.state').length == 4")
    assert not browser.complaints
