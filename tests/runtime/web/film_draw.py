"""Film the page to draw on, for the README: a house is drawn with the mouse, and its picture follows.

python -m tests.runtime.web.film_draw --out docs/images/draw.webp
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pix2pix_edge.runtime.sidecar import read_sidecar
from tests.runtime.web.chromium import Chromium
from tests.runtime.web.test_draw_page import ENGINE, Page

QUALITY = 62
POINTER = """(() => {
  const dot = document.body.appendChild(document.createElement("div"));
  dot.style.cssText = "position:fixed;z-index:9;width:22px;height:22px;margin:-11px;border-radius:50%;"
    + "pointer-events:none;background:rgb(255 255 255 / .55);box-shadow:0 0 0 2px #111;left:-50px";
  addEventListener("pointermove", e => { dot.style.left = `${e.clientX}px`; dot.style.top = `${e.clientY}px`; }, true);
})()"""

Point = tuple[float, float]


class Film:
    """Pictures of a page, and for how many milliseconds each is shown."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frames: list[np.ndarray] = []
        self.durations: list[int] = []

    def shoot(self, ms: int) -> None:
        """Take the page as it is, once its picture is that of the drawing."""
        self.page.browser.value("new Promise(done => setTimeout(done, 160))")
        png = np.frombuffer(self.page.browser.screenshot(), np.uint8)
        self.frames.append(cv2.imdecode(png, cv2.IMREAD_COLOR))
        self.durations.append(ms)

    def drag(self, start: Point, end: Point, steps: int = 4) -> None:
        """Drag slowly, with a picture of each step."""
        mouse = {"button": "left", "buttons": 1, "clickCount": 1}
        send = self.page.browser.page
        for step in range(steps + 1):
            share = step / steps
            x, y = self.page.spot(start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
            send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **(mouse if step else {}))
            if step == 0:
                send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
            self.shoot(110)
        send("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, **mouse)
        self.shoot(350)

    def part(self, name: str, start: Point, end: Point, steps: int = 3) -> None:
        """Choose a part, and draw it."""
        self.page.part(name)
        self.page.tool("rectangle")
        self.drag(start, end, steps)

    def repeat(self, start: Point, end: Point, steps: int = 5) -> None:
        """Repeat what was drawn last."""
        self.page.tool("repeat")
        self.drag(start, end, steps)

    def write(self, out: Path) -> None:
        """Write an animated picture that runs for ever."""
        animation = cv2.Animation()
        animation.frames, animation.durations = self.frames, self.durations
        out.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwriteanimation(str(out), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


def act(film: Film) -> None:
    """Draw a house of four storeys over shops."""
    film.page.press("clear")
    film.shoot(500)
    film.part("facade", (14, 34), (241, 238), 4)
    film.part("molding", (14, 34), (241, 41))
    film.part("window", (30, 58), (49, 84))
    film.part("cornice", (27, 53), (52, 56))
    film.part("balcony", (27, 78), (52, 87))
    film.page.tool("select")
    film.drag((24, 50), (55, 90), 3)
    film.page.browser.value("document.getElementById('gap').value = 3;"
                            "document.getElementById('gap').dispatchEvent(new Event('input'))")  # fmt: skip
    film.repeat((40, 70), (231, 179), 8)
    film.part("molding", (14, 184), (241, 188))
    film.part("shop", (22, 195), (57, 233))
    film.repeat((30, 200), (233, 233), 5)
    film.part("door", (110, 199), (145, 238))
    film.shoot(1200)
    for _ in range(3):
        film.page.press("house")
        film.page.settle()
        film.shoot(1100)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args(argv).out
    sidecar = read_sidecar(ENGINE)
    assert sidecar is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Chromium(Path(folder)) as browser:
        browser.size(1240, 724)
        with Page(browser, ENGINE, sidecar.palette) as page:
            browser.value(POINTER)
            film = Film(page)
            act(film)
            film.write(out)
            print(f"{out}: {len(film.frames)} pictures, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
