"""benchmarks experiments: what it trains, what it leaves alone, and the table that comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pix2pix_edge.benchmarks import experiments
from pix2pix_edge.benchmarks.__main__ import COMMANDS
from pix2pix_edge.benchmarks.experiments import TABLES, Table, command_of, folder_of, markdown
from pix2pix_edge.benchmarks.report.schema import EXPERIMENTS
from pix2pix_edge.runtime.cli import run_subcommand
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.settings import Settings, write_settings

COMMON = "--filters 1 --image-size 64 --epochs 1"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_folders(folder, 6, 2, 64, 0)
    return folder


def run(*words: str | Path) -> int:
    return run_subcommand("python -m benchmarks", "", COMMANDS, ["experiments", *map(str, words)])


def test_every_row_is_a_command_that_train_understands() -> None:
    from pix2pix_edge.runtime.cli import CommandParser
    from pix2pix_edge.train.__main__ import add_arguments

    for table in TABLES.values():
        assert table.judge in table.rows
        folders = {folder_of(Path("runs"), name) for name in table.rows}
        assert len(folders) == len(table.rows)
        for name in table.rows:
            parser = CommandParser(prog="train")
            add_arguments(parser)
            words = command_of(table, name, "DIR", Path("runs"))
            given = parser.parse_args(words[2:])
            assert given.out == folder_of(Path("runs"), name)
            assert words.count("--epochs") == words.count("--filters") == 1


def test_recipes_are_trained_once_and_judged_by_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    table = Table(f"{COMMON} --validation 2", {"plain": "", "other, seed": "--seed 1"}, judge="plain")
    monkeypatch.setitem(experiments.TABLES, "recipes", table)
    out, runs = tmp_path / "recipes.json", tmp_path / "runs"
    words = ["recipes", "--data", data, "--runs", runs, "--out", out]
    assert run(*words) == 0
    content = json.loads(out.read_text())
    assert content["format"] == EXPERIMENTS and content["pairs"] == 2
    assert [row["seed"] for row in content["rows"]] == [0, 1]
    assert str(tmp_path) not in json.dumps([row["command"] for row in content["rows"]])
    assert set(content["rows"][0]["scores"]) == {"l1", "psnr", "ssim", "perceptual", "l1_batch"}
    shown = markdown(content)
    assert "| other, seed | 1 |" in shown and "the discriminator of “plain”" in shown
    assert shown in capfd.readouterr().out

    generators = [path.stat().st_mtime_ns for path in sorted(runs.rglob("generator.keras"))]
    assert run(*words) == 0
    assert [path.stat().st_mtime_ns for path in sorted(runs.rglob("generator.keras"))] == generators
    assert [row["scores"] for row in json.loads(out.read_text())["rows"]] == [
        pytest.approx(row["scores"]) for row in content["rows"]
    ]


def test_a_run_that_fails_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setitem(experiments.TABLES, "recipes", Table(COMMON, {"plain": ""}, judge="plain"))
    write_settings(tmp_path / "plain", Settings(data=str(data), epochs=1, filters=2, image_size=64))
    assert run("recipes", "--data", data, "--runs", tmp_path, "--out", tmp_path / "x.json") == 2
    errors = capfd.readouterr().err
    assert "the run was started with --filters 2 (now 1)" in errors  # its numbers would not be those of the command
    assert f"error: training {tmp_path / 'plain'} ended with 2" in errors
    assert not (tmp_path / "x.json").exists()


@pytest.mark.slow
def test_widths_are_exported_counted_and_timed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"2": "--filters 2", "1, distilled": "--teacher {runs}/2/generator.keras"}
    monkeypatch.setitem(experiments.TABLES, "widths", Table(COMMON, rows, judge="2", deployed=True))
    out = tmp_path / "widths.json"
    assert run("widths", "--data", data, "--runs", tmp_path / "runs", "--out", out) == 0
    wide, narrow = json.loads(out.read_text())["rows"]
    assert wide["weights"] > 3 * narrow["weights"] and wide["multiply_adds"] > narrow["multiply_adds"]
    assert wide["latency"]["value"] == 1.0 and narrow["latency"]["value"] > 0
    assert "RUNS/2/generator.keras" in narrow["command"]
    assert "| 1, distilled | 1 | 0.0" in markdown(json.loads(out.read_text()))
