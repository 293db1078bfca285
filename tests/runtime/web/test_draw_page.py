"""The page to draw on, in a real browser, with mouse, fingers and keys."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.images import read_image, write_image
from pix2pix_edge.runtime.sidecar import Colour, read_sidecar
from pix2pix_edge.runtime.web.drawing import SAMPLES, DrawingSite, Model
from pix2pix_edge.runtime.web.hosting import Hosting
from pix2pix_edge.runtime.web.translator import Translator
from tests.commands import run
from tests.conftest import REPOSITORY, write_inverter
from tests.runtime.web.chromium import Chromium

pytestmark = pytest.mark.slow

ENGINE = REPOSITORY / "models" / "facades.int8.cpu.onnx"
SHOWN = "document.getElementById('latency').textContent"
COLOURS = {name: np.array(colour) for name, colour in CLASSES.items()}


class Page:
    """The page over an engine, open in a browser."""

    def __init__(self, browser: Chromium, engine: Path, palette: tuple[Colour, ...]) -> None:
        self.browser, self.engine = browser, engine
        self.translator = Translator(lambda: open_engine(engine, backend="onnxruntime"))
        _, self.height, self.width, _ = self.translator.input.shape
        site = DrawingSite(self.translator, Model("facades", self.width, self.height, palette))
        self.hosting = Hosting(site, "127.0.0.1", 0, None, option="--at", invitation="draw at")

    def __enter__(self) -> Page:
        self.reload()
        return self

    def __exit__(self, *_: object) -> None:
        self.hosting.close()
        self.translator.close()

    def reload(self) -> None:
        self.browser.open("about:blank")
        self.browser.open(self.hosting.server.url)
        self.browser.wait(SHOWN)
        self.settle()

    def settle(self) -> None:
        """Wait until the picture is that of the newest drawing."""
        self.browser.value(
            "new Promise(done => { let last = 0; const look = () => { const now = document.getElementById('latency')"
            ".textContent; if (now === last) done(1); else { last = now; setTimeout(look, 400); } }; look(); })"
        )

    def press(self, id: str) -> None:
        self.browser.value(f"document.getElementById({id!r}).click()")

    def tool(self, name: str) -> None:
        self.browser.value(f"document.querySelector('[data-tool={name}]').click()")

    def part(self, name: str) -> None:
        index = list(CLASSES).index(name)
        self.browser.value(f"document.querySelectorAll('#swatches button')[{index}].click()")

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Return where the middle of a pixel of the drawing lies on the page."""
        box = self.browser.value(
            "(() => { const { x, y, width } = document.getElementById('board').getBoundingClientRect();"
            " return [x, y, width]; })()"
        )
        scale = box[2] / self.width
        return box[0] + (x + 0.5) * scale, box[1] + (y + 0.5) * scale

    def drag(self, *points: tuple[float, float]) -> None:
        self.browser.drag(*(self.spot(*point) for point in points))

    def kept(self, what: str) -> Path:
        """Download "drawing", "picture" or "both"."""
        self.settle()
        return self.browser.download(f"keep-{what}")

    def drawing(self) -> Image:
        return read_image(self.kept("drawing"))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path) as browser:
        browser.size(1280, 800)
        yield browser


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    sidecar = read_sidecar(ENGINE)
    assert sidecar is not None
    with Page(browser, ENGINE, sidecar.palette) as page:
        yield page
        assert browser.complaints == []


def is_filled(drawing: Image, part: str, left: int, top: int, right: int, bottom: int) -> bool:
    return bool((drawing[top : bottom + 1, left : right + 1] == COLOURS[part]).all())


def test_a_house_is_drawn_repeated_undone_and_kept(page: Page, tmp_path: Path) -> None:
    assert np.array_equal(page.drawing(), read_image(SAMPLES / "facade-1.png"))  # what a first visit starts from
    page.press("clear")
    assert is_filled(page.drawing(), "background", 0, 0, 255, 255)
    page.part("facade")
    page.drag((20, 30), (100, 100), (235, 240))
    page.part("window")
    page.drag((40, 50), (59, 79))
    one = page.drawing()
    assert is_filled(one, "facade", 20, 30, 39, 240) and is_filled(one, "window", 40, 50, 59, 79)
    assert not is_filled(one, "window", 40, 50, 60, 79) and not is_filled(one, "window", 40, 50, 59, 80)

    page.tool("repeat")
    page.drag((50, 60), (120, 120), (219, 219))
    grid = page.drawing()
    columns = np.flatnonzero(
        (grid[60, 1:] == COLOURS["window"]).all(-1) & ~(grid[60, :-1] == COLOURS["window"]).all(-1)
    )
    rows = np.flatnonzero((grid[1:, 45] == COLOURS["window"]).all(-1) & ~(grid[:-1, 45] == COLOURS["window"]).all(-1))
    assert len(columns) == 6 and columns[0] == 39 and (grid[60, 219] == COLOURS["window"]).all()
    assert len(rows) == 4 and rows[0] == 49 and (grid[219, 45] == COLOURS["window"]).all()

    page.press("undo")
    assert np.array_equal(page.drawing(), one)
    page.browser.key("z", ctrl=True)
    page.browser.key("z", ctrl=True)
    assert is_filled(page.drawing(), "background", 0, 0, 255, 255)
    for _ in range(3):
        page.browser.key("z", ctrl=True, shift=True)
    drawing = page.kept("drawing").read_bytes()
    assert np.array_equal(page.drawing(), grid)

    (tmp_path / "mine.png").write_bytes(drawing)
    out = tmp_path / "out"
    words = ["--backend", "onnxruntime", "--source", tmp_path / "mine.png", "--sink", f"{out}/"]
    assert run("--engine", ENGINE, *words) == 0
    assert page.kept("picture").read_bytes() == (out / "mine.png").read_bytes()
    both = read_image(page.kept("both"))
    assert np.array_equal(both, np.hstack([grid, read_image(out / "mine.png")]))

    page.settle()
    page.reload()
    assert np.array_equal(page.drawing(), grid)  # it survives


def test_every_tool(page: Page) -> None:
    page.press("clear")
    page.part("door")
    page.tool("brush")
    page.browser.value("document.getElementById('width').value = 9;"
                       "document.getElementById('width').dispatchEvent(new Event('input'))")  # fmt: skip
    page.drag((50, 50), (60, 50), (80, 50))
    assert is_filled(page.drawing(), "door", 46, 46, 84, 54) and not is_filled(page.drawing(), "door", 45, 46, 84, 54)
    page.tool("eraser")
    page.drag((65, 50), (65, 50))
    assert is_filled(page.drawing(), "background", 61, 46, 69, 54)
    page.tool("fill")
    page.part("shop")
    page.tool("fill")
    page.drag((50, 50), (50, 50))
    assert is_filled(page.drawing(), "shop", 46, 46, 60, 54) and is_filled(page.drawing(), "door", 70, 46, 84, 54)
    page.tool("pick")
    page.drag((80, 50), (80, 50))
    page.tool("rectangle")
    page.press("mirror")
    page.drag((10, 100), (19, 109))
    page.press("mirror")
    assert is_filled(page.drawing(), "door", 10, 100, 19, 109) and is_filled(page.drawing(), "door", 236, 100, 245, 109)

    page.tool("select")
    page.drag((10, 100), (19, 109))
    page.drag((15, 105), (15, 155))
    moved = page.drawing()
    assert is_filled(moved, "background", 10, 100, 19, 109) and is_filled(moved, "door", 10, 150, 19, 159)
    page.press("copies")
    page.drag((15, 155), (115, 155))
    assert is_filled(page.drawing(), "door", 10, 150, 19, 159) and is_filled(page.drawing(), "door", 110, 150, 119, 159)
    page.browser.value("document.getElementById('board').focus()")
    page.browser.key("ArrowDown")
    assert is_filled(page.drawing(), "door", 110, 151, 119, 160)
    page.browser.key("Delete")
    assert is_filled(page.drawing(), "background", 110, 140, 119, 170)


def test_keys_alone(page: Page) -> None:
    page.press("clear")
    page.browser.key("8")  # door
    page.browser.key("r")
    page.browser.value("document.getElementById('board').focus()")
    page.browser.key(" ")
    for _ in range(3):
        page.browser.key("ArrowRight", shift=True)
        page.browser.key("ArrowDown")
    page.browser.key(" ")
    assert is_filled(page.drawing(), "door", 128, 128, 152, 131)
    assert not is_filled(page.drawing(), "door", 127, 128, 152, 131)
    page.browser.key("?")
    assert page.browser.value("document.getElementById('help-text').open")


def test_fingers_draw_and_two_enlarge(page: Page) -> None:
    page.browser.size(390, 844, phone=True)
    page.browser.page("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
    page.reload()
    page.press("clear")
    page.part("window")
    page.browser.value("document.getElementById('board').scrollIntoView()")
    page.browser.touch([page.spot(30, 30)], [page.spot(40, 45)], [page.spot(49, 59)])
    one = page.drawing()
    assert is_filled(one, "window", 30, 30, 49, 59)
    near, far = [page.spot(120, 128), page.spot(136, 128)], [page.spot(96, 128), page.spot(160, 128)]
    page.browser.touch(near, [page.spot(110, 128), page.spot(146, 128)], far)
    assert page.browser.value("parseFloat(document.getElementById('fitting').textContent)") == pytest.approx(4, abs=0.3)
    assert np.array_equal(page.drawing(), one)  # enlarging draws nothing
    page.press("fitting")
    assert page.browser.value("document.getElementById('fitting').textContent") == "1×"


def test_a_file_is_made_to_fit_and_what_was_changed_is_said(page: Page, tmp_path: Path) -> None:
    image = np.zeros((100, 80, 3), np.uint8)
    image[:] = CLASSES["facade"]
    image[:50] = (30, 120, 250)  # nearly a window
    write_image(tmp_path / "map.png", image)
    (tmp_path / "broken.png").write_bytes((tmp_path / "map.png").read_bytes()[:60])
    (tmp_path / "large.png").write_bytes(bytes(33 << 20))

    def upload(name: str) -> str:
        page.browser.value("document.getElementById('note').textContent = ''")
        page.browser.upload("#file", tmp_path / name)
        return str(page.browser.wait("document.getElementById('note').textContent"))

    note = upload("map.png")
    assert "80 × 100 pixels" in note and "50 % of it was off the palette" in note
    drawing = page.drawing()
    assert is_filled(drawing, "window", 0, 0, 255, 127) and is_filled(drawing, "facade", 0, 128, 255, 255)
    assert upload("broken.png") == "That is no picture that this browser can read."
    assert "35 MB" in upload("large.png")
    assert np.array_equal(page.drawing(), drawing)


def test_another_house_comes_from_the_generator(page: Page) -> None:
    before = page.drawing()
    page.press("house")
    page.browser.wait("!document.getElementById('undo').disabled")
    drawing = page.drawing()
    assert not np.array_equal(drawing, before)
    assert {tuple(colour) for colour in drawing.reshape(-1, 3).tolist()} <= set(CLASSES.values())


def test_an_engine_that_dies_is_said_and_comes_back(page: Page) -> None:
    engine, page.translator._engine = page.translator._engine, None
    page.translator.trouble = "the cable was pulled"
    page.press("clear")
    state = "document.getElementById('state').textContent"
    page.browser.wait(f"{state} == 'no picture'")
    assert "the cable was pulled" in page.browser.value("document.getElementById('note').textContent")
    page.translator._engine, page.translator.trouble = engine, ""
    page.browser.wait(f"{state} == 'ready'")
    page.browser.complaints.clear()  # the browser notes each 503


def test_a_phone_that_sleeps_keeps_the_drawing_and_goes_on_when_it_wakes(page: Page) -> None:
    page.browser.page("Network.enable")
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.page("Network.emulateNetworkConditions", offline=True, **network)
    page.press("clear")
    page.browser.wait("document.getElementById('state').textContent == 'no picture'")
    assert "There is no connection." in page.browser.value("document.getElementById('note').textContent")
    page.browser.page("Page.setWebLifecycleState", state="frozen")
    time.sleep(1.5)
    page.browser.page("Page.setWebLifecycleState", state="active")
    page.browser.page("Network.emulateNetworkConditions", offline=False, **network)
    page.browser.wait("document.getElementById('state').textContent == 'ready'")
    page.browser.complaints.clear()  # the browser notes each request that failed
    empty = page.drawing()
    assert is_filled(empty, "background", 0, 0, 255, 255)
    with open_engine(ENGINE, backend="onnxruntime") as engine:
        assert np.array_equal(read_image(page.kept("picture")), engine(empty[None])[0])


def test_a_drawing_that_an_older_one_overtook_is_sent_again(page: Page, tmp_path: Path) -> None:
    page.browser.value(
        "(() => { const real = window.fetch; let late = 1; window.fetch = (url, options) => {"
        " if (url === 'translate' && late) return late = 0,  Promise.resolve(new Response(null, { status: 204 }));"
        " return real(url, options); }; })()"
    )
    page.press("clear")
    drawing = page.drawing()
    with open_engine(ENGINE, backend="onnxruntime") as engine:
        assert np.array_equal(read_image(page.kept("picture")), engine(drawing[None])[0])


@pytest.mark.parametrize("width", [360, 390, 800, 1280, 1920, 3840])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_every_screen(page: Page, tmp_path: Path, width: int, dark: bool) -> None:
    page.browser.size(width, {360: 740, 390: 844, 1920: 1080, 3840: 2160}.get(width, 800), dark=dark, phone=width < 800)
    page.settle()
    assert page.browser.value("document.documentElement.scrollWidth") == width
    sizes = page.browser.value("[...document.querySelectorAll('button, select')].filter(b => b.offsetWidth)"
                               ".map(b => [b.offsetWidth, b.offsetHeight, b.innerText || b.ariaLabel])")  # fmt: skip
    assert all(min(w, h) >= 24 and name for w, h, name in sizes), sizes
    assert page.browser.screenshot(tmp_path / f"{width}.png")


def test_a_model_without_a_palette_gets_a_pen_and_takes_photographs(browser: Chromium, tmp_path: Path) -> None:
    engine = write_inverter(tmp_path / "inverter.fp32.onnx", 64)
    with Page(browser, engine, ()) as page:
        assert not page.browser.value("document.querySelectorAll('#swatches button').length")
        page.drag((10, 32), (50, 32))
        drawing = page.drawing()
        assert (drawing[30:34, 20:40] == 0).all() and (drawing[:20] == 255).all()
        assert np.array_equal(read_image(page.kept("picture")), 255 - drawing)
        photo = cv2.resize(read_image(SAMPLES / "facade-1.png"), (200, 100))
        write_image(tmp_path / "photo.png", photo)
        smaller = cv2.resize(photo[:, 50:150], (64, 64), interpolation=cv2.INTER_AREA)  # the middle square
        data = base64.b64encode((tmp_path / "photo.png").read_bytes()).decode()
        carry = (f"const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(atob('{data}'),"
                 " c => c.charCodeAt(0))], 'photo.png', { type: 'image/png' }));")  # fmt: skip
        for way in ("#file", "#photo", "new ClipboardEvent('paste', { clipboardData: data })",
                    "new DragEvent('drop', { dataTransfer: data })"):  # fmt: skip
            page.press("clear")
            browser.value("document.getElementById('note').textContent = ''")
            if way.startswith("#"):
                browser.upload(way, tmp_path / "photo.png")
            else:
                browser.value(f"{{ {carry} document.dispatchEvent({way}); }}")
            browser.wait("document.getElementById('note').textContent")
            assert np.abs(page.drawing().astype(int) - smaller).mean() < 12, way
        assert browser.value("document.getElementById('camera').hidden")
        browser.size(390, 844, phone=True)
        browser.page("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
        page.reload()
        assert not browser.value("document.getElementById('camera').hidden")  # what a phone has
    assert browser.complaints == []


def pen(browser: Chromium, *points: tuple[float, float, float]) -> None:
    """Draw with a stylus: x and y on the page, and how hard it presses."""
    steps = [("mousePressed", points[0]), *(("mouseMoved", point) for point in points), ("mouseReleased", points[-1])]
    for kind, (x, y, force) in steps:
        browser.page("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1,
                     pointerType="pen", force=force)  # fmt: skip


def test_a_stylus_presses_lines_wider_on_a_wide_grey_engine(browser: Chromium, tmp_path: Path) -> None:
    engine = write_inverter(tmp_path / "wide.fp32.onnx", (48, 96), channels=(3, 1))
    with Page(browser, engine, ()) as page:
        box = browser.value(
            "[document.getElementById('board').clientWidth, document.getElementById('board').clientHeight]"
        )
        assert box[0] == pytest.approx(2 * box[1], abs=1)
        for y, force in ((12, 0.1), (36, 1.0)):
            pen(browser, *((*page.spot(x, y), force) for x in (10, 40, 80)))
        drawing = page.drawing()
        assert drawing.shape == (48, 96, 3)
        light, heavy = ((drawing[rows, 40:60, 0] < 128).sum(axis=0) for rows in (slice(0, 24), slice(24, 48)))
        assert (light > 0).all() and (heavy > 2 * light).all()
        grey = cv2.imread(str(page.kept("picture")), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(grey, 255 - drawing[..., 0])
        assert page.drawing().shape[1] * 2 == read_image(page.kept("both")).shape[1]


def test_nothing_is_asked_of_anybody_else(page: Page) -> None:
    entries = page.browser.value("performance.getEntriesByType('resource').map(e => e.name)")
    assert entries and all(entry.startswith(page.hosting.server.url) for entry in entries)


def test_the_token_is_asked_for_in_a_form(browser: Chromium, inverter: Path) -> None:
    token = "schöner-token-0123"
    with contextlib.closing(Translator(lambda: open_engine(inverter))) as translator:
        site = DrawingSite(translator, Model("inverter", 32, 32, ()))
        hosting = Hosting(site, "127.0.0.1", 0, token, option="--at", invitation="draw at")
        with contextlib.closing(hosting):
            browser.open(hosting.server.url)
            for word, outcome in (("wrong-0123456789", "That is not the token."), (token, "")):
                browser.value(f"document.getElementById('token').value = {word!r}")
                browser.value("document.getElementById('form').requestSubmit()")
                if outcome:
                    browser.wait(f"document.getElementById('reply').textContent == {outcome!r}")
            browser.wait(SHOWN)
            assert browser.value("location.href") == hosting.server.url
