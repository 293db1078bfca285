"""Compare exported files with what else runs the same generator on a CPU, interleaved, as ratios with fidelity.

  python -m benchmarks peers runs/facades/generator.keras --engine engines/facades.fp32.onnx \\
      engines/facades.int8.cpu.onnx --data DIR --out peers.json

The peers, each from the same weights: Keras' predict; the plain tf2onnx graph in ONNX Runtime (the base of every ratio)
and in OpenVINO, in FP32 and, where the CPU has it, BF16; LiteRT with XNNPACK, in FP32 and with INT8 weights. Each of
the given engines runs in ONNX Runtime and in OpenVINO.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.machine.description import Machine, describe_machine
from pix2pix_edge.benchmarks.measure.interleave import Budget, interleave
from pix2pix_edge.benchmarks.measure.worker import Session, Target, Worker
from pix2pix_edge.benchmarks.report.reader import write
from pix2pix_edge.benchmarks.report.schema import Fidelity, Ratio, fidelity_from, ratio_of
from pix2pix_edge.benchmarks.report.summary import FEWEST_BLOCKS, paired_ratio, summarise
from pix2pix_edge.benchmarks.report.table import Table, markdown_table
from pix2pix_edge.runtime.cli import add_data, add_out
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine, Images
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import InputError, ToolkitError, require
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import TensorSpec

FORMAT = "pix2pix-edge-peers/1"
BASE = "plain graph, ONNX Runtime"
REFERENCE = "Keras predict"
"""Whose pictures the others are compared with: of itself there is no fidelity."""

COMPARED = 16
"""Images for the fidelity, spread evenly over --data."""


@dataclass(frozen=True)
class Peer:
    """One row: how to run a file, and where it can be counted. kind: one of OPENERS."""

    name: str
    kind: str
    path: Path
    ours: bool = False
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class PeerRow:
    """What was measured of a peer. speed: of the base's time, as a multiple; above 1 is faster. error: why not all."""

    name: str
    ours: bool = False
    file_bytes: int | None = None
    multiply_adds: int | None = None
    describe: dict[str, str] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    peak_bytes: int | None = None
    median_ms: float | None = None
    speed: Ratio | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class PeersReport:
    """What this command writes. images: how many the fidelity is of."""

    format: str = FORMAT
    base: str = BASE
    rounds: int
    images: int
    machine: Machine
    rows: list[PeerRow]


class KerasPredict(HostEngine):
    """A generator by model.predict, as its user would call it: uint8 [1, S, S, 3] -> the same."""

    kind, precision = "keras", "fp32"

    def __init__(self, peer: Peer) -> None:
        from pix2pix_edge.export.graph.trace import load_generator

        super().__init__(slots=1)
        self._model = load_generator(peer.path)
        shape = (1, *(int(n) for n in self._model.inputs[0].shape[1:]))
        self.input, self.output = TensorSpec("image", shape, "uint8"), TensorSpec("translated", shape, "uint8")

    def describe(self) -> dict[str, str]:
        import keras

        return {"engine": "Keras", "version": keras.__version__}

    def _run(self, images: Images) -> Images:
        predicted = self._model.predict(images.astype(np.float32) / 127.5 - 1.0, verbose=0)
        translated: Images = np.clip(np.rint((predicted + 1.0) * 127.5), 0, 255).astype(np.uint8)
        return translated


class LiteRt(HostEngine):
    """A .tflite file with XNNPACK on every core."""

    kind = "litert"

    def __init__(self, peer: Peer) -> None:
        import os

        super().__init__(slots=1)
        litert = require("ai_edge_litert.interpreter", "peers", "the LiteRT peer")
        threads = peer.threads or len(os.sched_getaffinity(0))
        self._interpreter = litert.Interpreter(str(peer.path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._in, self._out = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        shape = tuple(int(n) for n in self._in["shape"])
        self.input, self.output = TensorSpec("image", shape, "uint8"), TensorSpec("translated", shape, "uint8")

    def describe(self) -> dict[str, str]:
        from importlib.metadata import version

        return {"engine": "LiteRT", "version": version("ai-edge-litert")}

    def _run(self, images: Images) -> Images:
        self._interpreter.set_tensor(self._in["index"], images)
        self._interpreter.invoke()
        translated: Images = self._interpreter.get_tensor(self._out["index"])
        return translated


def open_bf16(peer: Peer) -> Engine:
    """Open a graph in OpenVINO with BF16 arithmetic. Raises EngineError where it cannot be opened."""
    from pix2pix_edge.runtime.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(peer.path, slots=1, threads=peer.threads, bf16=True)


OPENERS: dict[str, Callable[[Peer], Engine]] = {
    "keras": KerasPredict,
    "litert": LiteRt,
    "onnxruntime": lambda peer: open_engine(peer.path, backend="onnxruntime", threads=peer.threads),
    "openvino": lambda peer: open_engine(peer.path, backend="openvino", threads=peer.threads),
    "openvino-bf16": open_bf16,
}


class PeerSession(Session):
    """A Session whose engine is any of OPENERS."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(Target(peer.path))
        self._peer = peer

    def make_engine(self) -> Engine:
        return OPENERS[self._peer.kind](self._peer)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, help="the .keras file that the engines were made from")
    parser.add_argument("--engine", nargs="+", type=Path, default=[], metavar="FILE", help="exported .onnx files")
    add_data(parser, "compare on")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--turn", type=float, default=1.0, metavar="S", help="seconds of a peer's turn in a round (1)")
    add_out(parser, "also write the numbers here", "FILE.json", required=False)


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.images import evenly, judging_files, read_images

    if args.rounds < FEWEST_BLOCKS or not 0 < args.turn <= 600:
        raise InputError(f"--rounds must be {FEWEST_BLOCKS} or more, --turn more than 0 and at most 600 seconds")
    for path in args.engine:
        if path.suffix != ".onnx" or not path.is_file():
            raise InputError(
                f"--engine {path} is not an .onnx file; make one with:"
                " python -m export convert GENERATOR.keras --out DIR"
            )
    files = evenly(judging_files(args.data), COMPARED)
    with tempfile.TemporaryDirectory() as folder:
        peers = [*peers_of(args.generator, Path(folder)), *ours(args.engine)]
        from pix2pix_edge.export.graph.trace import open_reference

        with open_reference(args.generator) as reference:
            images = read_images(files, reference.input.shape[1])
            expected = [reference(image[None])[0] for image in images]
        rows = measure(peers, images, expected, args.rounds, args.turn)
    print(markdown_table(peer_table(rows)))
    if args.out:
        report = PeersReport(rounds=args.rounds, images=len(images), machine=describe_machine(), rows=rows)
        write(report, args.out)
        print(f"wrote {args.out}")


def peers_of(generator: Path, folder: Path) -> list[Peer]:
    """Export the generator as its peers would, into `folder`, and return them."""
    from pix2pix_edge.export.graph.trace import load_generator, trace

    plain = folder / "plain.onnx"
    plain.write_bytes(trace(generator, as_keras_upsamples=True).to_model().SerializeToString())
    peers = [Peer(BASE, "onnxruntime", plain), Peer(REFERENCE, "keras", generator)]
    if importlib.util.find_spec("openvino"):
        peers.append(Peer("plain graph, OpenVINO", "openvino", plain))
        if _has_bf16():
            peers.append(Peer("plain graph, OpenVINO BF16", "openvino-bf16", plain))
    if importlib.util.find_spec("ai_edge_litert"):
        model = load_generator(generator)
        for name, small in (("LiteRT", False), ("LiteRT, INT8 weights", True)):
            path = folder / f"{'small' if small else 'plain'}.tflite"
            path.write_bytes(_tflite(model, small))
            peers.append(Peer(name, "litert", path))
    else:
        print("LiteRT is left out: it is not installed; for it, run: .venv/bin/pip install -e '.[peers]'")
    return peers


def _tflite(model: Any, small: bool) -> bytes:
    """Convert for LiteRT with our contract, uint8 in and out. small: dynamic-range quantisation, its usual INT8."""
    tf = require("tensorflow", "peers", "the LiteRT peer")
    shape = (1, *model.inputs[0].shape[1:])

    def contract(image: Any) -> Any:
        predicted = model(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False)
        return tf.cast(tf.clip_by_value(tf.round((predicted + 1.0) * 127.5), 0.0, 255.0), tf.uint8)

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Keras 3's variables are not found by the converter, which then writes a file without weights and says nothing.
    frozen = convert_variables_to_constants_v2(
        tf.function(contract).get_concrete_function(tf.TensorSpec(shape, tf.uint8, name="image"))
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], model)
    if small:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converted: bytes = converter.convert()
    return converted


def _has_bf16() -> bool:
    with contextlib.suppress(OSError):
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    return False


def ours(engines: list[Path]) -> list[Peer]:
    """Return a row for each engine in each CPU backend; BF16 where its sidecar permits it."""
    kinds = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
    names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    return [Peer(f"{path.name}, {names[kind]}", kind, path, ours=True) for path in engines for kind in kinds]


def measure(peers: list[Peer], images: list[Image], expected: list[Image], rounds: int, turn_s: float) -> list[PeerRow]:
    """Run the peers in interleaved rounds, each in a process of its own, and return a row for each.

    images, expected: uint8 [S, S, 3], the latter from Keras. A peer that fails has a row with its error.
    """
    rows = {peer.name: PeerRow(name=peer.name, ours=peer.ours) for peer in peers}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for peer in peers:
            try:
                rows[peer.name] = _static(peer, rows[peer.name])
                worker = stack.enter_context(Worker(PeerSession, peer))
                rows[peer.name] = _opened(worker, rows[peer.name], images, expected)
                workers[peer.name] = worker
            except ToolkitError as error:
                rows[peer.name] = replace(rows[peer.name], error=str(error))
        if BASE not in workers:
            raise InputError(f"the base of every ratio cannot run: {rows[BASE].error}")
        contenders = {name: functools.partial(worker.ask, "latency") for name, worker in workers.items()}
        measured = interleave(contenders, Budget(rounds, turn_s, warm_up_s=2 * turn_s))
    base = measured[BASE]["engine"] if not measured[BASE].error else []  # without it, the others have no ratio
    for name, timings in measured.items():
        if timings.error:
            rows[name] = replace(rows[name], error=timings.error)
            continue
        ratio = None if name == BASE else paired_ratio(base, timings["engine"])
        rows[name] = replace(rows[name], median_ms=summarise(timings["engine"]).median, speed=ratio_of(ratio))
    return list(rows.values())


def _static(peer: Peer, row: PeerRow) -> PeerRow:
    """What can be said of a peer without running it: the file's size, and an ONNX graph's multiply-adds."""
    if peer.path.suffix != ".onnx":
        return replace(row, file_bytes=peer.path.stat().st_size)
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.inspect import count

    multiply_adds = sum(layer.multiply_adds for layer in count(Graph.load(peer.path)))
    return replace(row, file_bytes=peer.path.stat().st_size, multiply_adds=multiply_adds)


def _opened(worker: Worker, row: PeerRow, images: list[Image], expected: list[Image]) -> PeerRow:
    from pix2pix_edge.export.fidelity import compare

    row = replace(row, describe=worker.ask("open").describe)
    worker.ask("first", images)
    summary = compare(zip(worker.ask("translate", images), expected, strict=True)).summary(REFERENCE)
    fidelity = replace(fidelity_from(summary), itself=row.name == REFERENCE)
    return replace(row, fidelity=fidelity, peak_bytes=worker.ask("memory").host_peak)


def peer_table(rows: list[PeerRow]) -> Table:
    """Return the rows as a table: ratios to BASE, above 1 is faster."""
    columns = ["", "speed", "interval", "multiply-adds", "file", "peak memory", "PSNR to Keras", "SSIM"]
    cells = []
    for row in rows:
        if row.error or not row.fidelity:
            cells.append([row.name, "–", row.error, *[""] * 5])
            continue
        speed, found = row.speed, row.fidelity
        base = "the base" if row.name == BASE else "–"
        cells.append(
            [
                f"**{row.name}**" if row.ours else row.name,
                f"{speed.value:.2f}×" if speed else base,
                f"{speed.low:.2f}–{speed.high:.2f}" if speed else "–",
                f"{row.multiply_adds / 1e9:.2f} G" if row.multiply_adds else "",
                f"{(row.file_bytes or 0) / 1e6:.1f} MB",
                f"{(row.peak_bytes or 0) / 1e6:.0f} MB",
                "the reference" if found.itself else f"{found.psnr_db:.1f} dB",
                "–" if found.itself else f"{found.ssim:.4f}",
            ]
        )
    return Table("Peers", columns, cells)
