"""benchmarks peers: its table, its bad inputs, and the README's copy of the committed numbers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pix2pix_edge.benchmarks.claims import peers
from pix2pix_edge.benchmarks.claims.peer_engines import Peer, onnx_peer
from pix2pix_edge.benchmarks.claims.peer_files import LEAST_PSNR_DB, MAKERS, Workshop
from pix2pix_edge.benchmarks.claims.peers import BASE, PeerRow, Peers, fastest, measure, peer_table
from pix2pix_edge.benchmarks.measure.worker import Worker
from pix2pix_edge.benchmarks.report.reader import read
from pix2pix_edge.benchmarks.report.schema import Ratio
from pix2pix_edge.benchmarks.report.table import markdown_table
from pix2pix_edge.export.fidelity import compare
from pix2pix_edge.runtime.errors import EngineError, MissingPackageError
from tests.commands import benchmarks
from tests.conftest import REPOSITORY, picture, write_inverter, write_rgb
from tests.export.arithmetic import model_of


def test_the_readme_shows_the_committed_numbers() -> None:
    report = read(REPOSITORY / "docs/benchmarks/peers.json", Peers, Peers.format, "").reports["64"]
    assert markdown_table(peer_table(fastest(report.rows))) in (REPOSITORY / "README.md").read_text()


def test_peers_run_in_rounds_against_the_base_and_a_broken_one_is_named(inverter: Path, tmp_path: Path) -> None:
    broken = write_inverter(tmp_path / "broken.onnx", input="other")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"garbage")
    peers = [
        onnx_peer(BASE, inverter),
        onnx_peer("again", inverter, ours=True),
        onnx_peer("broken", broken),
        onnx_peer("garbage", garbage),
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
        (["a.keras", "--data", ".", "--engine", "b.txt"], "there is no file b.txt"),
        (["a.keras", "--data", ".", "--rounds", "4"], "--rounds must be 5"),
        (["a.keras", "--data", ".", "--turn", "nan"], "--turn more than 0"),
    ],
)
def test_bad_input_is_one_line(
    words: list[Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        write_rgb(tmp_path / f"{index}.png", picture(index))
    assert says in refused(benchmarks("peers", *words))


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
    contenders = [onnx_peer(BASE, inverter), onnx_peer("other", inverter)]
    rows = {row.name: row for row in measure(contenders, images, [255 - images[0]], 5, 0.02)}
    other = rows["other"]
    assert rows[BASE].error.endswith("lost") and other.median_ms and other.speed is None
    assert "| other | – | – |" in markdown_table(peer_table(list(rows.values())))


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """A graph of three convolutions, one of them wide, once as the plain graph and once as an exported FP32 file."""
    random, plain = np.random.default_rng(0), tmp_path / "plain.onnx"
    sizes = {"w": (32, 3, 3, 3), "u": (32, 32, 3, 3), "v": (3, 32, 3, 3)}
    constants = {name: random.normal(0, 0.05, size) for name, size in sizes.items()} | {"l": 0, "h": 255}
    body = """real = Cast <to = 1> (image)  planes = Transpose <perm = [0, 3, 1, 2]> (real)
        first = Conv <pads = [1, 1, 1, 1]> (planes, w)  relu = Relu (first)
        wide = Conv <pads = [1, 1, 1, 1]> (relu, u)  again = Relu (wide)
        second = Conv <pads = [1, 1, 1, 1]> (again, v)  clip = Clip (second, l, h)
        pixels = Transpose <perm = [0, 2, 3, 1]> (clip)  translated = Cast <to = 2> (pixels)"""
    ends = "(uint8[1, 32, 32, 3] image) => (uint8[1, 32, 32, 3] translated)"
    onnx.save(model_of(ends, body, {name: np.float32(value) for name, value in constants.items()}), plain)
    ours = Path(shutil.copy(plain, tmp_path / "ours.fp32.onnx"))
    return Workshop(plain, plain, [ours], tmp_path, [picture(index) for index in range(8)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nncf", "nncf-accuracy", "modelopt"])
def test_the_files_of_other_quantisers_are_int8_and_run(shop: Workshop, name: str) -> None:
    try:
        made = MAKERS[name](shop)
    except MissingPackageError as error:
        pytest.skip(str(error))
    assert {peer.name.split(", ")[0] for peer in made} == {"plain graph", "ours.fp32.onnx"}
    with made[0].open() as engine, onnx_peer("", shop.plain).open() as plain:
        pairs = [(engine(image[None])[0], plain(image[None])[0]) for image in shop.calibration]
    assert b"QuantizeLinear" in made[0].path.read_bytes()
    found = compare(pairs)
    assert max(found.max_difference) > 0
    assert name != "nncf-accuracy" or found.mean_psnr_db >= LEAST_PSNR_DB - 1


def test_a_peer_that_is_not_installed_is_said_and_left_out(
    inverter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Workshop(inverter, inverter, [inverter], tmp_path, [])
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.delenv("MODELOPT_PYTHON", raising=False)
    names = {peer.name for peer in peers.peers_of(["nncf", "modelopt", "ours"], shop)}
    assert BASE in names and "inverter.fp32.onnx, ONNX Runtime" in names and not any("INT8" in name for name in names)
    said = capsys.readouterr().out
    assert "nncf is left out: the NNCF peer needs the package nncf" in said
    assert "modelopt is left out: the ModelOpt peer needs an environment of its own" in said


@pytest.mark.parametrize("python", ["/nowhere/python", sys.executable])
def test_an_environment_without_modelopt_is_said(
    python: str, shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELOPT_PYTHON", python)
    assert not any("ModelOpt" in peer.name for peer in peers.peers_of(["modelopt"], shop))
    assert f"modelopt is left out: MODELOPT_PYTHON={python}" in capsys.readouterr().out.replace("ModelOpt in ", "")


def test_the_fastest_engine_stands_for_a_file() -> None:
    speeds = {BASE: None, "a.onnx, ONNX Runtime": 2.0, "a.onnx, OpenVINO": 3.0, "a.onnx, OpenVINO BF16": None,
              "LiteRT": 1.0, "LiteRT, INT8 weights": 2.0}  # fmt: skip
    rows = [
        PeerRow(name=name, speed=speed and Ratio(value=speed, low=speed, high=speed)) for name, speed in speeds.items()
    ]
    assert [row.name for row in fastest(rows)] == [BASE, "a.onnx, OpenVINO", "LiteRT", "LiteRT, INT8 weights"]
