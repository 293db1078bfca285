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
import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.measure.worker import Session, Target, Worker
from pix2pix_edge.benchmarks.report.summary import FEWEST_BLOCKS
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine, Images, TensorSpec
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import InputError, ToolkitError, require
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import to_json

BASE = "plain graph, ONNX Runtime"
JUDGED = 16
"""Images for the fidelity, spread evenly over --data."""


@dataclass(frozen=True)
class Peer:
    """One row: how to run a file, and where it can be counted. kind: one of OPENERS."""

    name: str
    kind: str
    path: Path
    ours: bool = False
    threads: int | None = None


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
        return np.clip(np.rint((predicted + 1.0) * 127.5), 0, 255).astype(np.uint8)


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


OPENERS: dict[str, Any] = {
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

    def open(self) -> dict[str, Any]:
        engine = self._engine = OPENERS[self._peer.kind](self._peer)
        return {"describe": engine.describe()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, help="the .keras file that the engines were made from")
    parser.add_argument("--engine", nargs="+", type=Path, default=[], metavar="FILE", help="exported .onnx files")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="input images, for the fidelity")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--turn", type=float, default=1.0, metavar="S", help="seconds of a peer's turn in a round (1)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the numbers here")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.benchmarks.machine.description import describe_machine
    from pix2pix_edge.export.images import evenly, judging_files, read_images
    from pix2pix_edge.runtime.files import written_beside

    if args.rounds < FEWEST_BLOCKS or not 0 < args.turn <= 600:
        raise InputError(f"--rounds must be {FEWEST_BLOCKS} or more, --turn more than 0 and at most 600 seconds")
    for path in args.engine:
        if path.suffix != ".onnx" or not path.is_file():
            raise InputError(
                f"--engine {path} is not an .onnx file; make one with:"
                " python -m export convert GENERATOR.keras --out DIR"
            )
    files = evenly(judging_files(args.data), JUDGED)
    with tempfile.TemporaryDirectory() as folder:
        peers = [*peers_of(args.generator, Path(folder)), *ours(args.engine)]
        from pix2pix_edge.export.graph.trace import open_reference

        with open_reference(args.generator) as reference:
            images = read_images(files, reference.input.shape[1])
            expected = [reference(image[None])[0] for image in images]
        rows = measure(peers, images, expected, args.rounds, args.turn)
    print(table(rows))
    if args.out:
        report = {
            "base": BASE,
            "rounds": args.rounds,
            "images": len(images),
            "machine": describe_machine(),
            "rows": rows,
        }
        with written_beside(args.out) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        print(args.out)


def peers_of(generator: Path, folder: Path) -> list[Peer]:
    """Export the generator as its peers would, into `folder`, and return them."""
    from pix2pix_edge.export.graph.trace import load_generator, trace

    plain = folder / "plain.onnx"
    plain.write_bytes(trace(generator, as_keras_upsamples=True).to_model().SerializeToString())
    peers = [Peer(BASE, "onnxruntime", plain), Peer("Keras predict", "keras", generator)]
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

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="image")])
    def contract(image: Any) -> Any:
        predicted = model(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False)
        return tf.cast(tf.clip_by_value(tf.round((predicted + 1.0) * 127.5), 0.0, 255.0), tf.uint8)

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Keras 3's variables are not found by the converter, which then writes a file without weights and says nothing.
    frozen = convert_variables_to_constants_v2(contract.get_concrete_function())
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


def measure(
    peers: list[Peer], images: list[Image], expected: list[Image], rounds: int, turn_s: float
) -> list[dict[str, Any]]:
    """Run the peers in interleaved rounds, each in a process of its own, and return a row for each.

    images, expected: uint8 [S, S, 3], the latter from Keras. A peer that fails has a row with its error.
    """
    from pix2pix_edge.benchmarks.measure.interleave import Plan, interleave
    from pix2pix_edge.benchmarks.report.summary import paired_ratio, summarise
    from pix2pix_edge.export.fidelity import compare

    rows: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for peer in peers:
            rows[peer.name] = {"name": peer.name, "ours": peer.ours}
            try:
                rows[peer.name] |= _static(peer)
                worker = stack.enter_context(Worker(PeerSession, peer))
                rows[peer.name]["describe"] = worker.ask("open")["describe"]
                worker.ask("first", images)
                found = compare(zip(worker.ask("translate", images), expected, strict=True))
                rows[peer.name] |= {
                    "fidelity": to_json(found.summary()),
                    "peak_bytes": worker.ask("memory")["host_peak"],
                }
                workers[peer.name] = worker
            except ToolkitError as error:
                rows[peer.name]["error"] = str(error)
        if BASE not in workers:
            raise InputError(f"the base of every ratio cannot run: {rows[BASE].get('error')}")
        slices = {name: lambda calls, worker=worker: worker.ask("latency", calls) for name, worker in workers.items()}
        for name, samples in interleave(slices, Plan(rounds, turn_s, warm_up_s=2 * turn_s)).items():
            row = rows[name]
            if samples.error:
                row["error"] = samples.error
            else:
                row["median_ms"] = summarise(samples["engine"]).median
                row["samples"] = samples["engine"]
    base = rows[BASE].get("samples")  # without it, the other rows have no ratio
    for row in rows.values():
        samples = row.pop("samples", None)
        ratio = paired_ratio(base, samples) if base and samples else None
        if ratio:
            row["speed"] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    return list(rows.values())


def _static(peer: Peer) -> dict[str, Any]:
    """What can be said of a peer without running it: the file's size, and an ONNX graph's multiply-adds."""
    content: dict[str, Any] = {"file_bytes": peer.path.stat().st_size}
    if peer.path.suffix == ".onnx":
        from pix2pix_edge.export.graph.graph import Graph
        from pix2pix_edge.export.inspect import count

        content["multiply_adds"] = sum(layer.multiply_adds for layer in count(Graph.load(peer.path)))
    return content


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown: ratios to BASE, above 1 is faster."""
    lines = [
        "| | speed | interval | multiply-adds | file | peak memory | PSNR to Keras | SSIM |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['name']} | – | {row['error']} | | | | | |")
            continue
        speed, found = row.get("speed"), row["fidelity"]
        value = f"{speed['value']:.2f}×" if speed else "–"
        interval = f"{speed['low']:.2f}–{speed['high']:.2f}" if speed else "–"
        operations = f"{row['multiply_adds'] / 1e9:.2f} G" if "multiply_adds" in row else ""
        name = f"**{row['name']}**" if row["ours"] else row["name"]
        lines.append(
            f"| {name} | {value} | {interval} | {operations} | {row['file_bytes'] / 1e6:.1f} MB |"
            f" {row['peak_bytes'] / 1e6:.0f} MB | {found['psnr_db']:.1f} dB | {found['ssim']:.4f} |"
        )
    return "\n".join(lines)
