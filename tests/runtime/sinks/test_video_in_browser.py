"""What is written plays in a real browser."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.sinks import open_sink
from tests.runtime.doubles import served
from tests.runtime.web.chromium import Chromium

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("ending", [".webm", ".mp4", ".mkv"])
def test_a_browser_plays_it_to_its_end(
    tmp_path: Path, ending: str, killed: bool, encoder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = open_sink(str(tmp_path / f"v{ending}"), fps=30.0)
    for index in range(120 if killed else 45):
        picture = np.zeros((128, 128, 3), np.uint8)
        picture[:, index : index + 40] = (255, 80, 0)
        sink.write(Frame(index, 0, "x", picture, prepared=picture, translated=picture))
    if killed:
        time.sleep(1)
        shutil.copy(next(tmp_path.glob(".writing-*")), tmp_path / "cut")
    sink.close()
    if killed:
        (tmp_path / "cut").rename(tmp_path / f"v{ending}")
    assert capfd.readouterr().err == ""
    page = f"<!doctype html><link rel=icon href='data:,'><video src='v{ending}' muted></video>"
    (tmp_path / "index.html").write_text(page)
    with served(tmp_path) as url, Chromium(tmp_path / "browser") as browser:
        browser.open(f"{url}index.html")
        browser.wait("document.querySelector('video').play().catch(() => 0) && true")
        browser.wait("document.querySelector('video').ended")
        assert browser.wait("document.querySelector('video').videoWidth") == 128
        end = browser.wait("document.querySelector('video').currentTime")
        assert end == pytest.approx(3.0, abs=1.0) if killed else end == pytest.approx(1.5, abs=0.1)
