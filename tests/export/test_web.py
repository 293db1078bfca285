"""The page to draw on as static files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.export.web import HOUSES, PACKAGE, RUNTIME_FILES, add_arguments, run, write_site
from pix2pix_edge.runtime.cli import CommandParser, run_command
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.web.drawing import SAMPLES
from tests.conftest import REPOSITORY, write_inverter
from tests.runtime.doubles import served
from tests.runtime.web.chromium import Chromium

ENGINE = REPOSITORY / "models" / "facades.int8.cpu.onnx"
SHOWN = "document.getElementById('latency').textContent"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the names of the package's files."""
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in RUNTIME_FILES:
        (dist / name).write_text(name)
    return tmp_path / "package"


def test_every_file_of_the_site_is_its_own(package: Path, tmp_path: Path) -> None:
    second = write_inverter(tmp_path / "a b#.fp32.onnx", 32)
    out = tmp_path / "site"
    size = write_site([ENGINE, second], out, runtime=package)
    names = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert size == sum((out / name).stat().st_size for name in names)
    told = json.loads((out / "model.json").read_text())
    first, other = told["models"]
    assert [(m["name"], m["width"], m["height"], m["file"]) for m in (first, other)] == [
        ("facades", 256, 256, "model-1.onnx"), ("a b#", 32, 32, "model-2.onnx")]  # fmt: skip
    assert (out / "model-1.onnx").read_bytes() == ENGINE.read_bytes()
    assert len(first["palette"]) == 12 and other["palette"] == []
    assert first["houses"] == {"url": "houses/256/N.png", "count": HOUSES} and f"houses/256/{HOUSES - 1}.png" in names
    assert len(first["samples"]) == 6 and set(first["samples"]) <= names
    assert other["houses"] is None and other["samples"] == []
    listed = json.loads(re.search(r"FILES = (\[.*\])", (out / "service-worker.js").read_text())[1])  # type: ignore[index]
    assert set(listed) == names - {"service-worker.js"} | {"./"}
    for name in names:
        text = (out / name).read_bytes()
        for asked in re.findall(rb'(?:src="|href="|from ")([^"#]+)"', text) if name != "onnxruntime.js" else ():
            assert (out / asked.decode()).is_file(), (name, asked)
    policy = re.search('Content-Security-Policy" content="([^"]+)"', (out / "index.html").read_text())[1]  # type: ignore[index]
    assert "default-src 'none'" in policy and "unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")


def test_the_same_engine_gives_the_same_site(package: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_site([ENGINE], tmp_path / name, runtime=package)
    assert (tmp_path / "a/service-worker.js").read_bytes() == (tmp_path / "b/service-worker.js").read_bytes()
    (package / "dist" / "ort-wasm-simd-threaded.wasm").write_text("another version")
    write_site([ENGINE], tmp_path / "c", runtime=package)
    assert (tmp_path / "a/service-worker.js").read_bytes() != (tmp_path / "c/service-worker.js").read_bytes()


def test_what_cannot_be_written_leaves_nothing(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inverter = write_inverter(tmp_path / "inverter.fp32.onnx", 32)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    before = sorted(tmp_path.iterdir())
    for engines, out, runtime, reason in (
        ([inverter], full, package, "already holds files"),
        ([inverter], inverter, package, "is a file"),
        ([tmp_path / "none.onnx"], tmp_path / "site", package, "there is no file"),
        ([tmp_path / "x.plan"], tmp_path / "site", package, "there is no file"),
        ([inverter, inverter], tmp_path / "site", package, "two engines are called inverter"),
        ([inverter], tmp_path / "site", tmp_path, "has no ort.wasm.bundle.min.mjs; give --onnxruntime-web"),
    ):
        with pytest.raises(InputError, match=reason):
            write_site(engines, out, runtime=runtime)
        assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=f"npm, which fetches {PACKAGE}, is not installed"):
        write_site([inverter], tmp_path / "site")
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(InputError, match=rf"npm could not fetch {PACKAGE} \(npm error code E404\)"):
        write_site([inverter], tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of three models with the real runtime; skips where npm cannot fetch it."""
    folder = tmp_path_factory.mktemp("web")
    others = [write_inverter(folder / f"{name}.fp32.onnx", (32, 48), channels=(takes, makes))
              for name, takes, makes in (("grey", 3, 1), ("see-through", 4, 4))]  # fmt: skip
    parser = CommandParser("python -m export web")
    add_arguments(parser)
    if shutil.which("npm") is None or run_command(
        run, parser, [*map(str, [ENGINE, *others]), "--out", str(folder / "site")]
    ):
        pytest.skip("npm cannot fetch the runtime here")
    return folder / "site"


@pytest.mark.slow
def test_the_browser_computes_the_same_pictures_also_without_a_connection(site: Path, tmp_path: Path) -> None:
    block = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"  # whoever else is asked is not there
    with Chromium(tmp_path, block) as browser, open_engine(ENGINE, backend="onnxruntime") as engine:
        browser.size(1280, 800)
        with served(site) as url:
            browser.open(url)
            browser.wait(SHOWN)
            for sample in sorted(SAMPLES.glob("*.png"))[:3]:
                browser.value(
                    f"(() => {{ const s = document.getElementById('sample'); s.value = 'samples/{sample.stem[-1]}.png';"
                    " s.dispatchEvent(new Event('change')); })()"
                )
                browser.value("new Promise(done => setTimeout(done, 1500))")
                drawing = read_image(browser.download("keep-drawing"))
                assert np.array_equal(drawing, read_image(sample))
                off = np.abs(read_image(browser.download("keep-picture")).astype(int) - engine(drawing[None])[0])
                assert np.abs(off).max() <= 1 and (off != 0).mean() < 1e-3  # floats are added up in another order
            browser.wait("navigator.serviceWorker.controller !== null")
            names = browser.value("performance.getEntriesByType('resource').map(e => e.name)")
            assert all(name.startswith((url, "blob:")) for name in names)
        browser.open("about:blank")
        browser.open(url)  # nobody serves it any more
        browser.wait(SHOWN)
        for number, channels in ((1, 1), (2, 4)):
            browser.value(f"(() => {{ const m = document.getElementById('model'); m.value = {number};"
                          " m.dispatchEvent(new Event('change')); })()")  # fmt: skip
            browser.wait(f"document.getElementById('picture').width == 48 && {SHOWN}")
            picture = cv2.imread(str(browser.download("keep-picture")), cv2.IMREAD_UNCHANGED)
            drawing = cv2.imread(str(browser.download("keep-drawing")), cv2.IMREAD_UNCHANGED)
            wanted = 255 - (
                drawing[..., 0] if channels == 1 else np.dstack([drawing, np.full_like(drawing[..., 0], 255)])
            )
            assert np.array_equal(picture, wanted)
        assert browser.complaints == []
