"""The addresses of the page to draw on, asked by a real HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime import draw
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.images import encode_image
from pix2pix_edge.runtime.sidecar import Colour, TensorSpec
from pix2pix_edge.runtime.web import drawing, guard, translator
from pix2pix_edge.runtime.web.drawing import DrawingSite, Model, decoded, house
from pix2pix_edge.runtime.web.hosting import Hosting
from pix2pix_edge.runtime.web.site import RefusedError
from pix2pix_edge.runtime.web.translator import SupersededError, Translator, UnavailableError
from tests.commands import run, start
from tests.conftest import eventually, kept_ports, picture, write_inverter
from tests.runtime.doubles import chunk
from tests.runtime.web.test_server import ask, metrics

PALETTE = tuple(Colour(name, colour) for name, colour in CLASSES.items())
SIZE = 32


class Page:
    """A served page over the inverting engine."""

    def __init__(self, engine: Path, *, token: str | None = None) -> None:
        self.translator = Translator(lambda: open_engine(engine, backend="onnxruntime"))
        _, height, width, _ = self.translator.input.shape
        site = DrawingSite(self.translator, Model("inverter", width, height, PALETTE))
        self.hosting = Hosting(site, "127.0.0.1", 0, token, option="--at", invitation="draw at")
        self.port = self.hosting.server.port

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        return ask(self, path, "GET" if body is None else "POST", body, **headers)

    def translate(self, png: bytes, visitor: str = "") -> tuple[int, bytes]:
        status, _, body = self.ask("/translate", png, Content_Type="image/png", X_Visitor=visitor)
        return status, body

    def close(self) -> None:
        self.hosting.close()
        self.translator.close()


@pytest.fixture
def page(inverter: Path) -> Iterator[Page]:
    with contextlib.closing(Page(inverter)) as page:
        yield page


def test_a_picture_is_byte_for_byte_what_run_makes_of_the_same_png(page: Page, inverter: Path, tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE), np.uint8)
    deep = np.random.default_rng(2).integers(0, 65536, (SIZE, SIZE, 3), np.uint16)
    see_through = np.dstack([picture(3, SIZE, SIZE), grey])
    for number, image in enumerate((picture(5, SIZE, SIZE), grey, deep, see_through)):
        file = tmp_path / f"{number}.png"
        assert cv2.imwrite(str(file), image)
        out = tmp_path / f"out{number}"
        assert run("--engine", inverter, "--source", file, "--sink", f"{out}/") == 0
        status, body = page.translate(file.read_bytes())
        assert status == 200 and body == next(out.iterdir()).read_bytes()


def test_what_the_page_asks_for_first(page: Page) -> None:
    status, headers, body = page.ask("/model.json")
    told = json.loads(body)
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert told["models"][0]["palette"][6] == {"name": "window", "colour": [0, 128, 255]}
    assert told["models"][0]["width"] == SIZE and told["models"][0]["houses"]["count"] == drawing.HOUSES
    first, again, other = (page.ask(f"/house.png?seed={seed}")[2] for seed in (7, 7, 8))
    assert first == again != other
    colours = {tuple(colour) for colour in decoded(first, SIZE, SIZE).reshape(-1, 3).tolist()}
    assert colours <= set(CLASSES.values()) and len(colours) > 3
    for seed in ("", "-1", "x", str(drawing.HOUSES), "1" * 5000, "%C2%B2"):
        assert page.ask(f"/house.png?seed={seed}")[0] == 400


def test_a_model_without_a_palette_gets_no_houses(inverter: Path) -> None:
    with contextlib.closing(Translator(lambda: open_engine(inverter))) as engine:
        assert "/house.png" not in DrawingSite(engine, Model("x", SIZE, SIZE, PALETTE[:3])).routes
        assert "/house.png" not in DrawingSite(engine, Model("x", SIZE, SIZE + 1, PALETTE)).routes


def png_of(image: Image) -> bytes:
    return encode_image(".png", image)


WHOLE = png_of(picture(1, SIZE, SIZE))
HUGE = drawing.PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "That is no PNG."),
        (b"GIF89a" + bytes(100), "That is no PNG."),
        (WHOLE[:20], "That is no PNG."),
        (WHOLE[: len(WHOLE) // 2], "The PNG is damaged."),
        (WHOLE[:60] + bytes(20) + WHOLE[80:], "The PNG is damaged."),
        (png_of(picture(1, SIZE, SIZE + 1)), "The drawing has 33 × 32 pixels; this model takes 32 × 32."),
        (HUGE, "The drawing has 1073741824 × 1073741824 pixels; this model takes 32 × 32."),
    ],
)
def test_a_drawing_that_is_none_gets_one_sentence(page: Page, body: bytes, sentence: str) -> None:
    assert page.translate(body) == (400, f"{sentence}\n".encode())
    assert page.translate(WHOLE)[0] == 200


def test_what_is_not_sent_as_it_should_be(page: Page) -> None:
    assert page.ask("/translate", WHOLE, Content_Type="text/plain")[0] == 415
    assert page.ask("/translate")[0] == 405 and page.ask("/translate")[1]["Allow"] == "POST"
    assert page.ask("/model.json", b"")[0] == 405
    wrong = {
        "": 411,
        "Content-Length: x\r\n": 400,
        "Content-Length: -1\r\n": 400,
        "Content-Length: 1\r\nContent-Length: 2\r\n": 400,
        "Content-Length: 99999999999\r\n": 413,
        "Transfer-Encoding: chunked\r\n": 411,
    }
    for headers, status in wrong.items():
        with socket.create_connection(("127.0.0.1", page.port), timeout=120) as raw:
            raw.sendall(f"POST /translate HTTP/1.1\r\nContent-Type: image/png\r\n{headers}\r\n".encode())
            assert raw.recv(1000).startswith(f"HTTP/1.0 {status} ".encode())


def test_a_hundred_megabytes_are_refused_before_they_are_read(page: Page) -> None:
    with socket.create_connection(("127.0.0.1", page.port), timeout=120) as raw:
        raw.sendall(
            f"POST /translate HTTP/1.1\r\nContent-Type: image/png\r\nContent-Length: {100 << 20}\r\n\r\n".encode()
        )
        with contextlib.suppress(OSError):
            for _ in range(100):
                raw.sendall(bytes(1 << 20))
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(100).startswith(b"HTTP/1.0 413 ")
    assert page.translate(WHOLE)[0] == 200


def test_a_visitor_that_floods_is_slowed_down_and_others_are_not(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: 0.0))  # no machine is too slow for a flood
    statuses = [page.translate(b"no png", "flood")[0] for _ in range(drawing.DRAWINGS + 2)]
    assert statuses == [400] * drawing.DRAWINGS + [429] * 2
    assert page.ask("/translate", b"", Content_Type="image/png", X_Visitor="flood")[1]["Retry-After"] == "1"
    assert page.translate(WHOLE, "other")[0] == 200


class Slow:
    """An engine that translates when it is told to, and notes what it was given."""

    def __init__(self) -> None:
        self.input = self.output = TensorSpec("image", (1, 1, 1, 3), "uint8")
        self.seen: list[int] = []
        self.asked = 0
        self.go = threading.Semaphore(0)
        self.fails = False

    def describe(self) -> dict[str, str]:
        return {"engine": "slow"}

    def __call__(self, images: Image) -> Image:
        self.asked += 1
        self.go.acquire()
        if self.fails:
            raise EngineError("the cable was pulled")
        self.seen.append(int(images[0, 0, 0, 0]))
        return images

    def close(self) -> None:
        return


def numbered(number: int) -> Image:
    return np.full((1, 1, 3), number, np.uint8)


class Crowd:
    """Visitors who each send drawings from threads of their own."""

    def __init__(self, engine: Translator) -> None:
        self.engine = engine
        self.outcomes: dict[int, object] = {}
        self.threads: list[threading.Thread] = []

    def send(self, address: str, visitor: str, number: int, waiting: int, superseded: int = 0) -> None:
        """Send one, and wait until so many wait and so many have lost their places."""

        def work() -> None:
            try:
                self.outcomes[number] = int(self.engine.translate(address, visitor, numbered(number))[0, 0, 0])
            except (SupersededError, UnavailableError) as error:
                self.outcomes[number] = error

        thread = threading.Thread(target=work)
        thread.start()
        self.threads.append(thread)
        assert eventually(lambda: (self.engine.waiting(), self.engine.superseded) == (waiting, superseded))

    def join(self) -> None:
        for thread in self.threads:
            thread.join(120)


def test_the_newest_of_each_visitor_waits_and_all_get_their_turn() -> None:
    slow = Slow()
    with contextlib.closing(Translator(lambda: slow)) as engine:
        crowd = Crowd(engine)
        crowd.send("a", "1", 1, 0)
        assert eventually(lambda: slow.asked), "it is being translated"
        crowd.send("a", "1", 2, 1)
        crowd.send("a", "1", 3, 1, 1)  # takes the place of 2
        crowd.send("a", "2", 4, 2, 1)
        crowd.send("a", "3", 5, 3, 1)
        crowd.send("b", "1", 6, 4, 1)  # one of another address comes after one of a
        crowd.send("a", "1", 7, 4, 2)  # keeps the place of 3
        for _ in range(9):
            slow.go.release()
        crowd.join()
        assert slow.seen == [1, 7, 6, 4, 5] and engine.superseded == 2
        assert isinstance(crowd.outcomes[2], SupersededError) and isinstance(crowd.outcomes[3], SupersededError)
        assert {number: crowd.outcomes[number] for number in slow.seen} == {number: number for number in slow.seen}


def test_an_engine_that_dies_is_told_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(translator, "FIRST_DELAY_S", 0.01)
    dying, whole = Slow(), Slow()
    dying.fails = True
    opened: list[Slow | None] = [dying, None, whole]

    def open_one() -> Slow:
        if (engine := opened.pop(0)) is None:
            raise EngineError("it is not back yet")
        return engine

    with contextlib.closing(Translator(open_one)) as engine:
        crowd = Crowd(engine)
        crowd.send("a", "1", 1, 0)
        assert eventually(lambda: dying.asked)
        crowd.send("a", "2", 2, 1)
        dying.go.release()
        crowd.join()
        for number in (1, 2):
            assert "the cable was pulled" in str(crowd.outcomes[number])
        assert eventually(lambda: not engine.trouble)
        whole.go.release()
        assert engine.translate("a", "1", numbered(3))[0, 0, 0] == 3
    said = capfd.readouterr().err
    assert "the engine failed (the cable was pulled); opening it again" in said and "the engine is back" in said


def test_a_drawing_whose_place_was_taken_gets_no_picture_and_no_error() -> None:
    slow = Slow()
    with contextlib.closing(Translator(lambda: slow)) as engine:
        site = DrawingSite(engine, Model("slow", 1, 1, ()))
        hosting = Hosting(site, "127.0.0.1", 0, None, option="--at", invitation="draw at")
        with contextlib.closing(hosting):
            answers: list[tuple[int, bytes]] = []

            def send(number: int) -> None:
                drawing = png_of(numbered(number))
                answers.append(ask(hosting.server, "/translate", "POST", drawing, Content_Type="image/png")[::2])

            threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
            for thread, state in zip(threads, ((1, 0, 0), (1, 1, 0), (1, 1, 1)), strict=True):
                thread.start()
                assert eventually(lambda s=state: (slow.asked, engine.waiting(), engine.superseded) == s)  # type: ignore[misc]
            for _ in range(3):
                slow.go.release()
            for thread in threads:
                thread.join(120)
    assert sorted(status for status, _ in answers) == [200, 200, 204] and (204, b"") in answers


def test_health_and_metrics(page: Page) -> None:
    assert page.ask("/health")[0] == 200
    for number in range(3):
        assert page.translate(WHOLE, str(number))[0] == 200
    values = metrics(page.ask("/metrics")[2].decode())
    assert values["pix2pix_pictures_total"] == 3 and values["pix2pix_ready"] == 1
    assert any('engine="ONNX Runtime"' in key for key in values)
    page.translator.trouble = "gone"
    assert page.ask("/health")[0] == 503


def test_the_token_guards_the_engine_and_not_the_page(inverter: Path) -> None:
    token = "0123456789abcdef"
    with contextlib.closing(Page(inverter, token=token)) as page:
        assert page.translate(WHOLE)[0] == 401 and page.ask("/model.json")[0] == 401
        assert page.ask("/draw.js")[0] == 200 and page.ask("/health")[0] == 200
        cookie = page.ask("/sign-in", Authorization=f"Bearer {token}")[1]["Set-Cookie"].partition(";")[0]
        assert page.ask("/translate", WHOLE, Content_Type="image/png", Cookie=cookie)[0] == 200
        evil = page.ask("/translate", WHOLE, Content_Type="image/png", Cookie=cookie, Origin="http://evil.example")
        assert evil[0] == 403


def test_sizes_are_checked_before_anything_is_decoded() -> None:
    with pytest.raises(RefusedError, match="33 × 32"):
        decoded(png_of(picture(0, SIZE, 33)), SIZE, SIZE)
    assert np.array_equal(decoded(png_of(house(1, SIZE)), SIZE, SIZE), house(1, SIZE))


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    engine = write_inverter(tmp_path / "inverter.fp32.onnx", SIZE)
    with kept_ports() as (port,):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            words = ("--engine", engine, "--at", f"http://127.0.0.1:{port}")
            with start("runtime/draw.py", *words, stdout=None) as process:
                assert process.stderr is not None
                assert process.stderr.readline() == f"draw at http://127.0.0.1:{port}/\n"
                process.send_signal(number)
                assert process.stderr.read() == "interrupted\n"
            assert process.returncode == 130


def test_where_it_cannot_serve_it_says_so_in_one_sentence(
    inverter: Path, page: Page, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for at, sentence in {
        f"http://127.0.0.1:{page.port}": "the port is in use; choose another one, such as --at http://",
        "https://127.0.0.1:8080": "is no address to serve at",
        "8080": "is no address to serve at",
        "http://127.0.0.1": "is no address to serve at",
    }.items():
        assert draw.main(["--engine", str(inverter), "--at", at]) == 2
        assert sentence in capfd.readouterr().err
    assert draw.main(["--engine", str(tmp_path / "none.onnx")]) == 2
    assert "there is no file" in capfd.readouterr().err


@pytest.mark.parametrize("channels", [(3, 1), (3, 3), (4, 4), (4, 3)])
def test_an_engine_of_any_shape_gives_what_run_makes_of_the_same_png(channels: tuple[int, int], tmp_path: Path) -> None:
    engine = write_inverter(tmp_path / "wide.fp32.onnx", (16, 40), channels=channels)
    assert cv2.imwrite(str(tmp_path / "in.png"), picture(5, 16, 40))
    assert run("--engine", engine, "--source", tmp_path / "in.png", "--sink", f"{tmp_path}/out/") == 0
    with contextlib.closing(Page(engine)) as page:
        assert page.translate((tmp_path / "in.png").read_bytes()) == (200, (tmp_path / "out/in.png").read_bytes())
        assert page.translate(WHOLE) == (400, "The drawing has 32 × 32 pixels; this model takes 40 × 16.\n".encode())


def test_a_batch_is_refused_by_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = write_inverter(tmp_path / "many.onnx", 8, batch=2)
    assert draw.main(["--engine", str(engine), "--at", "http://127.0.0.1:0"]) == 2
    assert "the page shows one picture at a time, and" in capfd.readouterr().err
