"""The published tables are those of the committed JSON; nobody has typed into them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.benchmarks.__main__ import COMMANDS
from pix2pix_edge.benchmarks.claims.trials import FORMAT as TRIALS
from pix2pix_edge.benchmarks.claims.trials import Trials, counts
from pix2pix_edge.benchmarks.compare import compare
from pix2pix_edge.benchmarks.docs import ABSENT, FOLDER, SECTIONS, render
from pix2pix_edge.benchmarks.machine.description import Machine
from pix2pix_edge.benchmarks.report.reader import load_report, write
from pix2pix_edge.benchmarks.report.schema import Ratio, Shown
from pix2pix_edge.runtime.errors import InputError
from tests.benchmarks.samples import made_report, made_row
from tests.commands import benchmarks
from tests.conftest import REPOSITORY

PAGE = Path("docs/benchmarks.md")


@pytest.mark.parametrize("page", sorted({section.page for section in SECTIONS.values()}))
def test_the_documentation_agrees_with_the_committed_numbers(page: Path) -> None:
    page = REPOSITORY / page
    assert render(page, REPOSITORY / FOLDER) == page.read_text(encoding="utf-8"), "run: python -m benchmarks docs"


def test_every_command_is_in_the_documentation() -> None:
    pages = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    pages += "".join(page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs").glob("*.md"))
    for command in COMMANDS:
        assert f"python -m benchmarks {command}" in pages, command


def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    for name, section in SECTIONS.items():
        with (tmp_path / section.page).open("a") as page:
            page.write(f"<!-- {name}: generated -->\nold\n<!-- end of {name} -->\n\nkept\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / PAGE


def test_publishing_replaces_the_sections_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _checkout(tmp_path, monkeypatch)
    random = np.random.default_rng(0)
    report = made_report(
        random,
        made_row(random, "64.fp32.onnx"),
        made_row(random, "64.int8.onnx", 9.0),
        gallery=[Shown(image="a", input="b", references={}, outputs={})],
    )
    write(report, tmp_path / "report.json")
    runs = [made_report(random) for _ in range(6)]
    found = vars(counts(runs[:3], runs[3:], 10.0))
    trials = Trials(**found, engine="a.onnx", machine=Machine(cpu="Example"), busy_before=0.04)
    write(trials, tmp_path / "trials.json")
    arguments = ["docs", "--results", "report.json", "--trials", "trials.json"]
    assert benchmarks(*arguments) == 0
    text = page.read_text()
    assert "old" not in text and text.count("kept") == 3
    assert "| 64.int8.onnx | 9." in text and report.command in text
    assert "With a.onnx on Example, 4% busy at the start: " in text
    published = load_report(tmp_path / FOLDER / "results.json")
    assert published.gallery == [] and not any(row.stream and row.stream.ages_ms for row in published.engines)
    assert all(scope.quantiles_ms is None for row in published.engines for scope in row.scopes.values())
    assert compare(published, report)  # so that a user's report can be compared with it
    assert benchmarks("docs") == 0
    assert page.read_text() == text == render(page, tmp_path / FOLDER)


def test_models_of_reports_of_their_own_share_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _checkout(tmp_path, monkeypatch).with_name("models.md")
    random = np.random.default_rng(0)
    for name, plain, folded in (("b", 40.0, 20.0), ("a", 90.0, 30.0)):
        ratio = Ratio(to=f"{name}-plain.fp32.onnx", value=folded / plain, low=folded / plain, high=folded / plain)
        row = replace(made_row(random, f"{name}.fp32.onnx", folded), ratio=ratio)
        (tmp_path / "all" / name).mkdir(parents=True)
        write(made_report(random, made_row(random, ratio.to, plain), row), tmp_path / "all" / name / "report.json")
    assert benchmarks("docs", "--models", "all") == 0
    rows = re.findall(r"^\| ([ab][\w.-]+) \| .*? \| .*? \| (\S+)", page.read_text(), re.MULTILINE)
    assert rows == [
        ("a-plain.fp32.onnx", "–"), ("a.fp32.onnx", "3.00×"), ("b-plain.fp32.onnx", "–"), ("b.fp32.onnx", "2.00×"),
    ]  # fmt: skip
    assert page.read_text() == render(page, tmp_path / FOLDER)


def test_nothing_is_published_when_anything_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], str]
) -> None:
    _checkout(tmp_path, monkeypatch)
    write(made_report(np.random.default_rng(0)), tmp_path / "report.json")
    arguments = ["docs", "--results", "report.json", "--trials", "x.json"]
    before = (tmp_path / PAGE).read_text()
    for content in ("{}", f'{{"format": "{TRIALS}"}}'):
        (tmp_path / "x.json").write_text(content)
        error = refused(benchmarks(*arguments))
        assert "trials" in error and "unexpected" not in error
        assert not (tmp_path / FOLDER).exists() and (tmp_path / PAGE).read_text() == before
    (tmp_path / "docs/training.md").write_text("no marks")  # the last of the pages
    assert benchmarks("docs", "--results", "report.json") == 2
    assert not (tmp_path / FOLDER).exists() and (tmp_path / PAGE).read_text() == before


def test_a_typed_number_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _checkout(tmp_path, monkeypatch)
    written = render(page, tmp_path / FOLDER)
    assert written.count(ABSENT) == sum(section.page == PAGE for section in SECTIONS.values()) > 1
    page.write_text(written.replace(ABSENT, "1 ms", 1))
    assert render(page, tmp_path / FOLDER) != page.read_text()


def test_a_number_changed_in_the_json_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _checkout(tmp_path, monkeypatch)
    write(made_report(np.random.default_rng(0)), tmp_path / "report.json")
    assert benchmarks("docs", "--results", "report.json") == 0
    file = tmp_path / FOLDER / "results.json"
    report = json.loads(file.read_text())
    report["engines"][0]["scopes"]["engine"]["p50_ms"] = 1.0
    file.write_text(json.dumps(report))
    assert render(page, tmp_path / FOLDER) != page.read_text()


def test_committed_reports_are_small_and_name_no_folder_of_a_machine() -> None:
    for file in (REPOSITORY / FOLDER).glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert len(text) < 300_000 and not re.search(r"[ \"]/[a-z]", text), file


def test_bad_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run this in the root of a checkout" in refused(benchmarks("docs"))
    _checkout(tmp_path, monkeypatch)
    for name in SECTIONS:
        for content in ('{"format": "something else"}', "[1]", "{"):
            (tmp_path / "x.json").write_text(content)
            error = refused(benchmarks("docs", f"--{name}", "x.json"))
            assert "x.json" in error and "unexpected" not in error, error
    (tmp_path / PAGE).write_text("nothing")
    with pytest.raises(InputError, match="has lost the marks"):
        render(tmp_path / PAGE, tmp_path)
