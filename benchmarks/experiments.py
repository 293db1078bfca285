"""Train and judge what docs/training.md tells of: the recipe's alternatives, or networks of several widths.

  python -m benchmarks experiments recipes --data DIR --runs runs/recipes --out recipes.json
  python -m benchmarks experiments widths --data DIR --runs runs/widths --out widths.json
  python -m benchmarks docs --recipes recipes.json --widths widths.json

A run that is in --runs already is not trained again, and one that was interrupted goes on. `recipes` judges on the
validation pairs, `widths` on the test pairs; it exports each network too, counts its multiply-adds and measures its
latency with `benchmarks run`. The perceptual distance of every row is seen by one discriminator, that of the table's
judge.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.runtime.errors import InputError, ToolkitError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.train.native import load_tensorflow

if TYPE_CHECKING:
    from pix2pix_edge.train.data import Pairs


@dataclass(frozen=True)
class Table:
    """Runs by name, with their options; common options come first. judge: the run whose discriminator judges all."""

    common: str
    rows: dict[str, str]
    judge: str
    deployed: bool = False


RECIPE = "--average 0.999 --schedule linear"
TABLES = {
    "recipes": Table(
        "--filters 16 --epochs 5 --validation 40",
        {
            "paper": "",
            "paper, seed 1": "--seed 1",
            "adversarial loss alone": "--l1-weight 0",
            "label smoothing": "--adversarial smoothed",
            "least squares": "--adversarial least-squares",
            "no augmentation": "--no-augment",
            "norm before the activation": "--norm first",
            "norm's momentum 0.99": "--momentum 0.99",
            "norm frozen in the last epoch": "--frozen-epochs 1",
            "linear schedule": "--schedule linear",
            "average of the weights": "--average 0.999",
            "average, linear, least squares": f"{RECIPE} --adversarial least-squares",
            "average, linear: chosen": RECIPE,
        },
        judge="paper",
    ),
    "widths": Table(
        f"--epochs 50 {RECIPE} --samples samples",
        {
            "64": "--filters 64 --epochs 30",
            "32": "--filters 32",
            "16": "--filters 16",
            "16, distilled": "--filters 16 --teacher {runs}/32/generator.keras",
            "8": "--filters 8",
            "8, distilled": "--filters 8 --teacher {runs}/32/generator.keras",
        },
        judge="32",
        deployed=True,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", choices=TABLES, help="which runs")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of pairs, as for training")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="the numbers of the table")


def folder_of(runs: Path, name: str) -> Path:
    """Return the folder of a row's run."""
    return runs / re.sub(r"[^\w.]+", "-", name.replace("'", ""))


def command_of(table: Table, name: str, data: str, runs: Path) -> list[str]:
    """Return the words of `python` that train a row."""
    options = table.rows[name].replace("{runs}", str(runs)).split()
    overridden = {word for word in options if word.startswith("--")}
    common = table.common.split()
    kept = []
    for index, word in enumerate(common):
        owner = word if word.startswith("--") else common[index - 1]
        if owner not in overridden:
            kept.append(word)
    return ["-m", "train", "--data", data, *kept, *options, "--out", str(folder_of(runs, name))]


def run(args: argparse.Namespace) -> None:
    load_tensorflow("training the runs of a table")
    from pix2pix_edge.benchmarks.machine.description import describe_machine
    from pix2pix_edge.benchmarks.report.schema import EXPERIMENTS
    from pix2pix_edge.train.data import Pairs, find_pairs
    from pix2pix_edge.train.judge import features, load, score
    from pix2pix_edge.train.settings import read_settings
    from pix2pix_edge.train.split import split

    table = TABLES[args.table]
    training, test = find_pairs(args.data)
    for name in table.rows:
        train_row(command_of(table, name, str(args.data), args.runs), folder_of(args.runs, name))
    held_out = (
        test if table.deployed else split(training, read_settings(folder_of(args.runs, table.judge)).validation)[1]
    )
    seen_by = features(load(folder_of(args.runs, table.judge) / "discriminator.keras"))
    rows = []
    for name in table.rows:
        folder = folder_of(args.runs, name)
        settings, history, generator = read_settings(folder), read_history(folder), load(folder / "generator.keras")
        pairs: Pairs = Pairs(held_out, settings.image_size, settings.direction)
        rows.append(
            {
                "name": name,
                "command": " ".join(["python", *command_of(table, name, "DIR", Path("RUNS"))]),
                "seed": settings.seed,
                "filters": settings.filters,
                "epochs": settings.epochs,
                "weights": generator.count_params(),
                "cpu_minutes": sum(float(row["cpu_seconds"]) for row in history) / 60,
                "scores": score(generator, seen_by, pairs),
            }
        )
    if table.deployed:
        deploy(rows, args.data, args.runs)
    content = {
        "format": EXPERIMENTS,
        "table": args.table,
        "pairs": len(held_out),
        "judge": table.judge,
        "rows": rows,
        "machine": describe_machine(),
    }
    with written_beside(args.out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    print(markdown(content))
    print(f"wrote {args.out}")


def read_history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's history.csv; none where there is none."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def train_row(command: list[str], folder: Path) -> None:
    """Train a run, or go on with it, which does nothing when it is finished.

    Raises ToolkitError when training fails, or the folder's run has other settings; KeyboardInterrupt when stopped.
    """
    if (folder / "settings.json").exists():
        command = [*command, "--resume"]
    print(" ".join(["python", *command]), flush=True)
    done = subprocess.run([sys.executable, *command], check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise ToolkitError(f"training {folder} ended with {done.returncode}; its messages are above")


def deploy(rows: list[dict[str, Any]], data: Path, runs: Path) -> None:
    """Export every row's network and measure them in one report; add multiply-adds and latency to the rows."""
    from pix2pix_edge.benchmarks.report.schema import load_report
    from pix2pix_edge.runtime.files import sha256_of
    from pix2pix_edge.runtime.sidecar import read_sidecar

    engines: list[Path] = []
    for row in rows:
        folder = folder_of(runs, row["name"])
        name = f"facades{folder.name}"
        engines.append(runs / "engines" / f"{name}.fp32.onnx")
        generator, sidecar = folder / "generator.keras", read_sidecar(engines[-1]) or {}
        if sidecar.get("source", {}).get("sha256") != sha256_of(generator):
            step(["-m", "export", "convert", generator, "--out", runs / "engines", "--name", name])
    report = runs / "report"
    step(["-m", "benchmarks", "run", "--data", data, "--out", report, "--force", "--engine", *engines])
    measured = {row["file"]: row for row in load_report(report)["engines"]}
    for row, engine in zip(rows, engines, strict=True):
        found = measured[engine.name]
        if found["error"]:
            raise InputError(f"{engine} could not be measured: {found['error']}")
        row["multiply_adds"] = found["work"]["multiply_adds"]
        row["latency"] = found.get("ratio", {"value": 1.0, "low": 1.0, "high": 1.0})


def step(words: list[str | Path]) -> None:
    """Run a command of this project. Raises ToolkitError when it fails."""
    done = subprocess.run([sys.executable, *map(str, words)], check=False)
    if done.returncode:
        raise ToolkitError(f"python {' '.join(map(str, words))} ended with {done.returncode}; its messages are above")


def markdown(content: dict[str, Any]) -> str:
    """Return the table of the rows, and each row's command."""
    titles = ["L1", "PSNR", "SSIM", "perceptual", "gap"]
    if content["table"] == "widths":
        head = ["filters", "epochs", "weights", "multiply-adds", "latency", *titles]
    else:
        head = ["recipe", "seed", "CPU min", *titles]
    lines = [f"| {' | '.join(head)} |", "|:--" + "|--:" * (len(head) - 1) + "|"]
    for row in content["rows"]:
        scores = row["scores"]
        cells = [
            f"{scores['l1']:.2f}",
            f"{scores['psnr']:.2f} dB",
            f"{scores['ssim']:.4f}",
            f"{scores['perceptual']:.3f}",
            f"{scores['l1_batch'] - scores['l1']:+.2f}",
        ]
        if content["table"] == "widths":
            work = [f"{row['weights'] / 1e6:.2f} M", f"{row['multiply_adds'] / 1e9:.3f} G"]
            own = [row["name"], str(row["epochs"]), *work, f"{row['latency']['value']:.3f} ×"]
        else:
            own = [row["name"], str(row["seed"]), f"{row['cpu_minutes']:.0f}"]
        lines.append(f"| {' | '.join([*own, *cells])} |")
    commands = "\n".join(f"    {row['command']}" for row in content["rows"])
    return (
        "\n".join(lines)
        + f"\n\nOn {content['pairs']} pairs that were not trained on. L1 in levels of 255; gap: what L1 gains or loses"
        + f" with batch statistics; the perceptual distance is seen by the discriminator of “{content['judge']}”."
        + f" Trained with:\n\n{commands}"
    )
