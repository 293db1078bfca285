"""benchmarks peers: its table, its bad inputs, and the README's copy of the committed numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks.claims import peers
from pix2pix_edge.benchmarks.claims.peers import BASE, FORMAT, Peer, PeersReport, measure, peer_table
from pix2pix_edge.benchmarks.measure.worker import Worker
from pix2pix_edge.benchmarks.report.reader import read
from pix2pix_edge.benchmarks.report.table import markdown_table
from pix2pix_edge.runtime.errors import EngineError
from tests.conftest import picture, write_inverter, write_rgb

ROOT = Path(__file__).resolve().parents[3]


def test_the_readme_shows_the_committed_numbers() -> None:
    report = read(ROOT / "docs/results/peers-64.json", PeersReport, FORMAT, "")
    assert markdown_table(peer_table(report.rows)) in (ROOT / "README.md").read_text()


def test_peers_run_in_rounds_against_the_base_and_a_broken_one_is_named(inverter: Path, tmp_path: Path) -> None:
    broken = write_inverter(tmp_path / "broken.onnx", input="other")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"garbage")
    peers = [
        Peer(BASE, "onnxruntime", inverter),
        Peer("again", "onnxruntime", inverter, ours=True),
        Peer("broken", "onnxruntime", broken),
        Peer("garbage", "onnxruntime", garbage),
    ]
    images = [np.full((32, 32, 3), level, np.uint8) for level in (0, 100)]
    rows = {row.name: row for row in measure(peers, images, [255 - image for image in images], 5, 0.02)}
    again = rows["again"]
    assert again.fidelity and again.fidelity.max_difference == 0 and again.speed and again.speed.value > 0
    assert rows[BASE].speed is None  # against itself
    assert "not an exported generator" in rows["broken"].error and "garbage.onnx" in rows["garbage"].error
    printed = markdown_table(peer_table(list(rows.values())))
    assert "| **again** |" in printed and "| broken | – |" in printed and f"| {BASE} | the base |" in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.keras", "--data", "."], "missing.keras"),
        (["a.keras", "--data", "nowhere"], "--data nowhere does not exist"),
        (["a.keras", "--data", ".", "--engine", "b.txt"], "b.txt is not an .onnx file"),
        (["a.keras", "--data", ".", "--rounds", "4"], "--rounds must be 5"),
        (["a.keras", "--data", ".", "--turn", "nan"], "--turn more than 0"),
    ],
)
def test_bad_input_is_one_line(words: list[Any], says: str, tmp_path: Path) -> None:
    write_rgb(tmp_path / "1.png", picture(1))
    command = [sys.executable, "-m", "benchmarks", "peers", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=_environment())
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr


def test_a_base_that_fails_in_a_round_leaves_the_others_their_times(
    inverter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Worker.ask

    def ask(self: Worker, method: str, *arguments: Any) -> Any:
        if method == "latency" and self.name == BASE:
            raise EngineError("lost")
        return real(self, method, *arguments)

    def named(session: Any, peer: Peer) -> Worker:
        worker = Worker(session, peer)
        worker.name = peer.name  # type: ignore[attr-defined]
        return worker

    monkeypatch.setattr(Worker, "ask", ask)
    monkeypatch.setattr(peers, "Worker", named)
    images = [np.full((32, 32, 3), 9, np.uint8)]
    contenders = [Peer(BASE, "onnxruntime", inverter), Peer("other", "onnxruntime", inverter)]
    rows = {row.name: row for row in measure(contenders, images, [255 - images[0]], 5, 0.02)}
    other = rows["other"]
    assert rows[BASE].error.endswith("lost") and other.median_ms and other.speed is None
    assert "| other | – | – |" in markdown_table(peer_table(list(rows.values())))


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
