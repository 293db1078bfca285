"""Whatever the files hold that the benchmarks read, only sentences come out, and nothing that steers a terminal."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pix2pix_edge.benchmarks.compare import compare, comparison_table, remarks, worse_fidelity
from pix2pix_edge.benchmarks.docs import FOLDER, SECTIONS
from pix2pix_edge.benchmarks.machine.power import parse_tegrastats
from pix2pix_edge.benchmarks.report.page import render_markdown, render_page
from pix2pix_edge.benchmarks.report.reader import as_json, load_report
from pix2pix_edge.benchmarks.report.schema import PowerMeter, Ratio, Shown, ShownOutput
from pix2pix_edge.benchmarks.report.table import bullets, markdown_table
from pix2pix_edge.benchmarks.trtexec import read_trtexec
from pix2pix_edge.runtime.errors import InputError
from tests.benchmarks.machine.test_power import AGX_ORIN_7, NANO_4, THOR_7
from tests.benchmarks.samples import made_report, made_row
from tests.benchmarks.test_trtexec import _log, _times
from tests.conftest import REPOSITORY

BOUNDED = settings(max_examples=150)
NASTY = "\x1b[31mred\x1b[0m\r\u202e\x00"


def _report() -> Any:
    random = np.random.default_rng(0)
    ratio = Ratio(to="a.onnx", value=0.5, low=0.4, high=0.6)
    output = ShownOutput(picture="gallery/a.jpg", difference="gallery/b.jpg", psnr_db=40.0)
    shown = Shown(image="1.png", input="gallery/c.jpg", references={"a.onnx": "gallery/d.jpg"}, outputs={"b": output})
    rows = (made_row(random), made_row(random, "b.plan", 9.0, ratio=ratio, p90_bound_ms=11.0))
    power = PowerMeter(meter="tegrastats", of="board", idle_watts=5.0)
    return made_report(
        random, *rows, gallery=[shown], peak={"fp32": 1e11, "bandwidth": 1e10}, power=power, warnings=["x"]
    )


WHOLE = _report()
TREE = json.loads(json.dumps(as_json(WHOLE)))

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NASTY)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON tree; of long lists the first two entries stand for all."""
    items = tree.items() if isinstance(tree, dict) else list(enumerate(tree))[:2] if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(tree)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one file that is written anew for each example."""
    return tmp_path_factory.mktemp("fuzz") / "x.json"


def _written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    return path


def _is_plain(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def _show(path: Path) -> None:
    """Read a report and print all that is made of one; a refusal is one plain line."""
    try:
        report = load_report(path)
        for old, new in ((WHOLE, report), (report, WHOLE)):
            assert _is_plain(markdown_table(comparison_table(compare(old, new), 0.03)))
            assert _is_plain(bullets([*remarks(old, new), *worse_fidelity(old, new)]))
    except InputError as error:
        assert _is_plain(str(error)) and "\n" not in str(error)
        return
    assert _is_plain(render_markdown(report)) and _is_plain(render_page(report, path.parent))


@BOUNDED
@given(st.sampled_from(list(_places(TREE))), anything)
@example(("engines", 0, "name"), NASTY)
@example(("engines", 0, "scopes", "engine", "p50_ms"), 0)
@example(("engines", 0, "scopes", "engine", "medians_ms"), [])
@example(("engines", 1, "ratio", "low"), 0)
@example(("reference_work", "medians_ms", 0), 0.0)
@example(("engines", 0, "stream", "stages_ms"), {})
@example(("engines", 0, "stream", "ages_ms"), [1e-300, 1e300])
@example(("engines",), [])
def test_a_report_with_anything_anywhere(file: Path, place: tuple[Any, ...], value: Any) -> None:
    _show(_written(file, json.dumps(_changed(TREE, place, value))))


@BOUNDED
@given(st.sampled_from(list(_places(TREE))), st.sampled_from([0, -1, 1e-9, 0.5, 1e9, "", [], {}, None]))
def test_a_report_with_a_likely_value_anywhere(file: Path, place: tuple[Any, ...], value: Any) -> None:
    _show(_written(file, json.dumps(_changed(TREE, place, value))))


@BOUNDED
@given(st.binary() | st.integers(0, 4000).map(lambda end: json.dumps(TREE).encode()[:end]))
@example(b"[" * 100_000)
@example(b'{"format": "pix2pix-edge-report/1", "engines": ' + b"[" * 100_000)
@example(b"")
def test_no_report_at_all(file: Path, content: bytes) -> None:
    _show(_written(file, content))


@pytest.mark.parametrize("name", SECTIONS)
def test_any_published_file_with_anything_anywhere(file: Path, name: str) -> None:
    tree = json.loads((REPOSITORY / FOLDER / f"{name}.json").read_text())

    @settings(max_examples=60)
    @given(st.sampled_from(list(_places(tree))), anything)
    def check(place: tuple[Any, ...], value: Any) -> None:
        try:
            assert _is_plain(SECTIONS[name].load(_written(file, json.dumps(_changed(tree, place, value)))).text)
        except InputError as error:
            assert _is_plain(str(error))

    check()


def _trtexec(file: Path, content: str | bytes) -> None:
    """Read what may be trtexec's; what is taken is a row that a report can hold and show."""
    try:
        row = read_trtexec(_written(file, content))
    except InputError as error:
        assert _is_plain(str(error)) and "\n" not in str(error)
        return
    path = _written(file, json.dumps(as_json(replace(WHOLE, engines=[*WHOLE.engines, row]))))
    assert _is_plain(render_markdown(load_report(path)))


LINES = _log(transfers=True).splitlines()
odd_lines = st.sampled_from(LINES) | st.text() | st.sampled_from(LINES).map(lambda line: line.replace("ms", NASTY, 2))
odd_numbers = st.sampled_from(["nan", "-1", "1e400", "9" * 400, "inf", "1e-05", "0", "", "1.2.3"])


@BOUNDED
@given(st.lists(odd_lines, max_size=30), odd_numbers)
def test_any_log(file: Path, lines: list[str], number: str) -> None:
    _trtexec(file, "\n".join([*LINES[:3], *lines, *LINES[-8:]]).replace("1.44", number))


CALLS = _times(transfers=True, count=30)


@BOUNDED
@given(st.sampled_from(list(_places(CALLS))), anything)
@example((0, "computeMs"), float("nan"))
@example((0, "computeMs"), 10**400)
@example((0, "startEnqMs"), "1")
def test_any_export(file: Path, place: tuple[Any, ...], value: Any) -> None:
    _trtexec(file, json.dumps(_changed(CALLS, place, value)))


@BOUNDED
@given(st.binary(max_size=300))
def test_no_log_at_all(file: Path, content: bytes) -> None:
    _trtexec(file, content)


@BOUNDED
@given(st.lists(st.sampled_from([*AGX_ORIN_7.split(), *NANO_4.split(), *THOR_7.split()]) | st.text(), max_size=40))
def test_any_line_of_tegrastats(words: list[str]) -> None:
    reading = parse_tegrastats(" ".join(words))
    values = (reading.watts, reading.gpu_mhz, reading.gpu_busy, reading.temperature_c)
    assert all(value is None or np.isfinite(value) for value in values)
