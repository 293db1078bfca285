"""Reports from made-up rows: nothing is lost on the way to Markdown and HTML, and the page needs nothing else."""

from __future__ import annotations

import base64
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks.machine.cautions import machine_cautions, noise_caution, row_cautions
from pix2pix_edge.benchmarks.machine.description import Machine, Shares, State
from pix2pix_edge.benchmarks.machine.power import Reading
from pix2pix_edge.benchmarks.measure.reference_work import small_model
from pix2pix_edge.benchmarks.report import plots
from pix2pix_edge.benchmarks.report.page import render_markdown, render_page, write_report
from pix2pix_edge.benchmarks.report.reader import load_report
from pix2pix_edge.benchmarks.report.rows import work_of
from pix2pix_edge.benchmarks.report.schema import Ratio, Report, Row, Shown, ShownOutput
from pix2pix_edge.benchmarks.report.summary import scope_of
from pix2pix_edge.benchmarks.report.table import number, rounded
from pix2pix_edge.benchmarks.report.tables import detail_tables, main_table
from tests.benchmarks.samples import made_fidelity, made_report, made_row, made_scope, noisy_rounds
from tests.conftest import picture, write_rgb
from tests.runtime.web.chromium import Chromium

DARK = {"name": "prefers-color-scheme", "value": "dark"}
VOID = {"meta", "link", "img", "br"}


class Checker(HTMLParser):
    """Follows tags, and collects what a browser would fetch and what a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.fetched += [value or "" for name, value in attributes if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _whole_report(folder: Path) -> Report:
    random = np.random.default_rng(1)
    (folder / "gallery").mkdir(parents=True)
    for name in ("in", "ref", "out", "diff"):
        write_rgb(folder / f"gallery/{name}.jpg", picture(3))
    rows = [
        made_row(random, "a.fp32.onnx", 40.0, fidelity=made_fidelity(itself=True)),
        made_row(random, "a.int8.onnx", 12.0, ratio=Ratio(to="a.fp32.onnx", value=0.3, low=0.29, high=0.31)),
        made_row(random, "a.plan", 3.0, scopes={}, error="there is no NVIDIA driver here", fidelity=None),
    ]
    output = ShownOutput(picture="gallery/out.jpg", difference="gallery/diff.jpg", psnr_db=40.9)
    references = {"a.fp32.onnx": "gallery/ref.jpg"}
    gallery = [Shown(image="2.png", input="gallery/in.jpg", references=references, outputs={"a.int8.onnx": output})]
    return made_report(random, *rows, gallery=gallery, warnings=["a.int8.onnx: noisy"])


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = _whole_report(tmp_path)
    write_report(report, tmp_path)
    assert load_report(tmp_path) == load_report(tmp_path / "report.json") == report
    assert {p.name for p in tmp_path.iterdir()} == {"report.json", "report.md", "report.html", "gallery"}


def test_several_images_in_a_call_are_said() -> None:
    report = made_report(np.random.default_rng(0), made_row(np.random.default_rng(0), batch=4))
    assert any("a.onnx: 4 images in a call; latency" in note for note in main_table(report).notes)
    report = made_report(np.random.default_rng(0))
    assert not any("images in a call" in note for note in main_table(report).notes)


def test_load_and_first_image_are_medians() -> None:
    (cost, *_) = detail_tables(
        made_report(np.random.default_rng(0), made_row(np.random.default_rng(0), load_ms=[1, 3]))
    )
    assert cost.rows[0][cost.columns.index("load, ms")] == "2.00"


@pytest.mark.parametrize(("batch", "images"), [(1, 1), (1, 4), (2, 4)])
def test_a_call_of_several_images_counts_all_of_them(tmp_path: Path, batch: int, images: int) -> None:
    """A plan for several may come from a graph for one."""
    from onnx import helper, save

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    model = small_model(nodes, [batch, 1, 8, 8], "y", {"w": np.ones((1, 1, 1, 1), np.float32)})
    save(model, tmp_path / "a.onnx")
    row = Row(name="a", file="a.onnx", batch=images, precision="fp32", scopes={"compute": made_scope([1.0])})
    work = work_of(row, tmp_path / "a.onnx", {"fp32": 64e3 * images}, None)
    assert work is not None and work.multiply_adds == 64 * images and work.share_of_peak == 1.0


def test_markdown_says_it_all(tmp_path: Path) -> None:
    text = render_markdown(_whole_report(tmp_path))
    for part in (
        "a.plan: there is no NVIDIA driver here",
        "3.33× (3.23 to 3.45)",
        "a.int8.onnx: noisy",
        "| a.fp32.onnx | ",
        "| reference |",
        "40.9 (2.png)",
        "Example CPU",
        "python -m benchmarks run --engine a.onnx",
    ):
        assert part in text, part
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_the_page_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    report = _whole_report(tmp_path)
    page = render_page(report, tmp_path)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.fetched) == 5 and all(link.startswith("data:") for link in checker.fetched)
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
    assert "http" not in re.sub(r'"data:[^"]*"', "", page).replace('http-equiv="', "")
    seen = " ".join(checker.text)
    for row in report.engines:
        assert row.name in seen
    for part in ("Speed against fidelity", "Frame age", "2.png", "there is no NVIDIA driver here"):
        assert part in seen
    assert "prefers-color-scheme: dark" in page and "@media print" in page and "width=device-width" in page


def test_the_page_is_the_same_every_time(tmp_path: Path) -> None:
    report = _whole_report(tmp_path)
    write_report(report, tmp_path)
    assert render_page(report, tmp_path) == render_page(load_report(tmp_path), tmp_path)


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>&|.onnx'
    report = made_report(np.random.default_rng(0), made_row(np.random.default_rng(0), nasty))
    page = render_page(report, tmp_path)
    Checker().feed(page)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "&\\|.onnx" in render_markdown(report)


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    report = made_report(np.random.default_rng(0), complete=False)
    assert "Interrupted" in render_page(report, tmp_path) and "Interrupted" in render_markdown(report)


def test_a_report_without_any_measurement_still_opens(tmp_path: Path) -> None:
    row = Row(name="a.plan", file="a.plan", error="no GPU")
    report = made_report(np.random.default_rng(0), row, reference_work=None)
    page = render_page(report, tmp_path)
    Checker().feed(page)
    assert "no GPU" in page and "<svg" not in page
    assert "no GPU" in render_markdown(report)


def test_a_deleted_picture_leaves_its_caption(tmp_path: Path) -> None:
    report = _whole_report(tmp_path)
    shutil.rmtree(tmp_path / "gallery")
    assert "input: the picture is missing" in render_page(report, tmp_path)


@pytest.mark.parametrize("kind", ["absolute", "above", "link", "linked folder", "no picture", "pipe", "elsewhere"])
def test_no_other_file_gets_into_the_page(tmp_path: Path, kind: str) -> None:
    """Whatever a crafted report names as a picture of its gallery."""
    folder = tmp_path / "report"
    secret = write_rgb(tmp_path / "secret.jpg", picture(5))
    report = _whole_report(folder)
    name = "gallery/in.jpg"
    if kind == "absolute":
        name = str(secret)
    elif kind == "above":
        name = "gallery/../../secret.jpg"
    elif kind == "elsewhere":
        name = shutil.copy(secret, folder / "other.jpg").name
    elif kind == "linked folder":
        (folder / "gallery").rename(tmp_path / "elsewhere")
        (folder / "gallery").symlink_to(tmp_path / "elsewhere")
    else:
        (folder / name).unlink()
        if kind == "link":
            (folder / name).symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).write_text("root:x:0:0")
    page = render_page(replace(report, gallery=[replace(report.gallery[0], input=name)]), folder)
    assert "input: the picture is missing" in page
    assert (
        base64.b64encode(secret.read_bytes()).decode() not in page
        and base64.b64encode(b"root:").decode()[:6] not in page
    )


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    nasty = "a\x1b]0;owned\x07\r\n\u202e.onnx"
    row = made_row(np.random.default_rng(0), nasty, error=f"broken {nasty}")
    report = made_report(np.random.default_rng(0), row, warnings=[nasty], command=f"run {nasty}")
    for text in (render_markdown(report), render_page(report, tmp_path)):
        assert r"a\x1b]0;owned\x07" in text
        assert all(character.isprintable() or character == "\n" for character in text)
    write_report(report, tmp_path)
    assert load_report(tmp_path).engines[0].name.isprintable()


def test_columns_that_no_engine_fills_are_left_out() -> None:
    random = np.random.default_rng(0)
    bare = made_row(random, fidelity=None)
    columns = main_table(made_report(random, bare)).columns
    assert "PSNR, dB" not in columns and "latency p50, ms" in columns and "p99" not in columns
    assert "speed" not in columns


def test_numbers_are_short_and_without_exponent() -> None:
    values = [None, 0, 0.001234, 0.5, 1.0, 12.345, 99.96, 123.456, 12345.6, 1e-7]
    texts = ["–", "0", "0.00123", "0.500", "1.00", "12.3", "100", "123", "12300", "0.000000100"]
    assert [number(value) for value in values] == texts
    assert rounded(123.456789) == 123.457 and rounded(0.0) == 0.0 and rounded(1e-9) == 1e-9


@pytest.mark.parametrize(
    "plot", [plots.distribution, plots.speed_and_fidelity, plots.stages, plots.frame_age, plots.steadiness]
)
@pytest.mark.parametrize("milliseconds", [[40.0], [0.02, 40.0, 9000.0], [5.0] * 9])
def test_plots_stay_inside_their_frame(plot: Any, milliseconds: list[float]) -> None:
    random = np.random.default_rng(0)
    report = made_report(random, *(made_row(random, f"{i}.onnx", ms) for i, ms in enumerate(milliseconds)))
    drawing = ElementTree.fromstring(plot(report))
    width, height = map(float, drawing.attrib["viewBox"].split()[2:])
    for element in drawing.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert -1 <= float(element.attrib.get(name, 0)) <= width + 1, element.attrib
        for name in ("y", "y1", "y2", "cy"):
            assert -1 <= float(element.attrib.get(name, 0)) <= height + 40, element.attrib
        for pair in element.attrib.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width and 0 <= y <= height
    assert not any("nan" in str(element.attrib) for element in drawing.iter())


def test_a_scale_has_round_ticks() -> None:
    linear = plots.Scale([0.0, 43.0], 0, 100)
    assert not linear.logarithmic and linear.ticks() == [0, 10, 20, 30, 40]
    logarithmic = plots.Scale([1.0, 300.0], 0, 100)
    assert logarithmic.logarithmic and 1 in logarithmic.ticks() and 200 in logarithmic.ticks()
    assert plots.Scale([5.0, 5.0], 0, 100, from_zero=False).ticks()


def test_a_machine_that_disturbs_is_named() -> None:
    readings = [Reading(i, gpu_mhz=mhz, gpu_busy=0.9, throttled="heat") for i, mhz in enumerate((600, 1000, 600, 1000))]
    found = machine_cautions(
        Machine(governor="powersave", board="Orin"), State(busy=0.6, throttled=1), State(throttled=4),
        Shares(others=0.31, stolen=0.04), readings,
    )  # fmt: skip
    assert [caution.split(":")[0] for caution in found[:3]] == ["noisy machine", "noisy machine", "shared machine"]
    assert "used 31% of the CPU during the run" in found[1]
    assert any("governor is powersave" in c for c in found) and any("lowered its clock for heat" in c for c in found)
    assert any("(heat)" in c for c in found) and any("600 to 1000 MHz" in c and "jetson_clocks" in c for c in found)
    assert machine_cautions(Machine(), State(busy=0.01), State(), Shares(others=0.01), []) == []


def test_an_engine_is_warned_of_as_trtexec_does() -> None:
    random = np.random.default_rng(0)

    def plan(compute: float, engine: float, submit: float, noise: float = 0.001) -> list[str]:
        times = {"compute": compute, "engine": engine, "submit": submit}
        scopes = {name: scope_of(noisy_rounds(random, ms, noise)) for name, ms in times.items()}
        return row_cautions(Row(name="a.plan", file="a.plan", scopes=scopes))

    assert plan(4.0, 4.5, 0.1) == []
    assert "bound by enqueue" in plan(4.0, 5.0, 3.5)[0]
    assert "bound by transfers" in plan(1.0, 2.1, 0.1)[0]
    assert any("unstable GPU time" in c for c in plan(4.0, 4.5, 0.1, 0.1))
    row = made_row(random)
    assert row.work
    assert "faster than the peak" in row_cautions(replace(row, work=replace(row.work, share_of_peak=1.3)))[0]


def test_noise_is_one_warning_for_all_engines() -> None:
    random = np.random.default_rng(0)
    rows = [made_row(random, name) for name in ("a", "b", "calm")]
    for row in rows[:2]:
        row.scopes["engine"] = scope_of(noisy_rounds(random, 40.0, 0.2))
    found = noise_caution(rows)
    assert len(found) == 1 and "the latency of a, b may differ by more than 5%" in found[0]
    assert noise_caution(rows[2:]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_a_browser_shows_the_page_without_a_complaint(tmp_path: Path, width: int, phone: bool) -> None:
    write_report(_whole_report(tmp_path), tmp_path)
    watch = (
        "window.bad = []; for (const kind of ['error', 'securitypolicyviolation'])"
        " addEventListener(kind, event => bad.push(kind + ' ' + (event.message || event.blockedURI)), true)"
    )
    paper = "getComputedStyle(document.body).backgroundColor"
    with Chromium(tmp_path) as browser:
        browser.page("Page.addScriptToEvaluateOnNewDocument", source=watch)
        browser.size(width, 900, phone=phone)
        browser.page("Page.navigate", url=(tmp_path / "report.html").as_uri())
        browser.wait("document.readyState == 'complete' && document.images.length > 0")
        assert browser.value("bad") == []
        fetched = browser.value("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in fetched if not name.startswith("data:")] == []
        assert browser.value("[...document.images].every(image => image.naturalWidth > 0)")
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")  # tables scroll, the page does not
        assert browser.value(paper) == "rgb(255, 255, 255)"
        browser.size(width, 900, dark=True, phone=phone)
        assert browser.value(paper) == "rgb(15, 18, 22)"
        browser.page("Emulation.setEmulatedMedia", media="print", features=[DARK])
        assert browser.value(paper) == "rgb(255, 255, 255)"  # paper is white
        assert len(browser.page("Page.printToPDF", printBackground=True)["data"]) > 10_000
