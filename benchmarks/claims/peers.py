"""Compare exported files with what else runs the same generator on a CPU, interleaved, as ratios with fidelity.

  python -m benchmarks peers runs/facades/generator.keras --engine engines/facades.fp32.onnx \\
      engines/facades.int8.cpu.onnx --data DIR --out peers.json
  python -m benchmarks peers runs/facades/generator.keras --engine engines/facades.fp32.onnx --data DIR \\
      --peers plain nncf nncf-accuracy ours

The peers, each from the same weights: the plain tf2onnx graph in ONNX Runtime (the base of every ratio) and in
OpenVINO; Keras' predict; LiteRT with XNNPACK, in FP32 and with INT8 weights; NNCF's INT8 of the plain graph and of the
given FP32 files, with bias correction, and with accuracy control, which takes long and is asked for by name; NVIDIA
ModelOpt's INT8 of the same graphs. All run in ONNX Runtime and in OpenVINO, and there in BF16 too where the CPU has it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from pix2pix_edge.benchmarks.claims.peer_engines import Peer, PeerSession
from pix2pix_edge.benchmarks.claims.peer_files import BASE, MAKERS, REFERENCE, Workshop
from pix2pix_edge.benchmarks.machine.description import Machine, describe_machine
from pix2pix_edge.benchmarks.measure.interleave import Budget, interleave
from pix2pix_edge.benchmarks.measure.worker import Worker
from pix2pix_edge.benchmarks.report.fidelity import fidelity_from
from pix2pix_edge.benchmarks.report.reader import write
from pix2pix_edge.benchmarks.report.schema import Fidelity, Ratio
from pix2pix_edge.benchmarks.report.summary import FEWEST_BLOCKS, paired_ratio, scope_of
from pix2pix_edge.benchmarks.report.table import Table, markdown_table
from pix2pix_edge.runtime.cli import add_data, add_out
from pix2pix_edge.runtime.errors import InputError, MissingPackageError, ToolkitError
from pix2pix_edge.runtime.frame import Image

FORMAT = "pix2pix-edge-peers/1"
COMPARED = 66
"""Images for the fidelity, spread evenly over --data."""

CALIBRATED = 100
"""Images that NNCF calibrates on; its bias correction takes minutes with them."""

USUAL = ("plain", "keras", "litert", "nncf", "modelopt", "ours")


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


@dataclass(frozen=True, kw_only=True)
class Peers:
    """The published reports, by the name of the generator's file of numbers."""

    format: str = "pix2pix-edge-all-peers/1"
    reports: dict[str, PeersReport]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, help="the .keras file that the engines were made from")
    parser.add_argument("--engine", nargs="+", type=Path, default=[], metavar="FILE", help="exported .onnx files")
    add_data(parser, "compare on")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--turn", type=float, default=1.0, metavar="S", help="seconds of a peer's turn in a round (1)")
    parser.add_argument(
        "--peers", nargs="+", choices=MAKERS, default=USUAL, metavar="NAME", help=f"of {', '.join(MAKERS)}"
    )
    add_out(parser, "also write the numbers here", "FILE.json", required=False)


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.images import calibration_split, evenly, read_images
    from pix2pix_edge.export.translator.reference import open_reference, plain_graph
    from pix2pix_edge.runtime.engine import check_file

    if args.rounds < FEWEST_BLOCKS or not 0 < args.turn <= 600:
        raise InputError(f"--rounds must be {FEWEST_BLOCKS} or more, --turn more than 0 and at most 600 seconds")
    for path in args.engine:
        check_file(path, (".onnx",))
    calibration, files = calibration_split(args.data)
    with tempfile.TemporaryDirectory() as temporary:
        with open_reference(args.generator) as reference:
            shape = reference.input.shape[1:]
            images = read_images(evenly(files, COMPARED), shape)
            expected = [reference(image[None])[0] for image in images]
        shop = Workshop(
            generator=args.generator,
            plain=Path(temporary) / "plain.onnx",
            engines=args.engine,
            folder=Path(temporary),
            calibration=read_images(evenly(calibration, CALIBRATED), shape),
        )
        shop.plain.write_bytes(plain_graph(args.generator).to_model().SerializeToString())
        rows = measure(peers_of(args.peers, shop), images, expected, args.rounds, args.turn)
    print(markdown_table(peer_table(rows)))
    if args.out:
        report = PeersReport(rounds=args.rounds, images=len(images), machine=describe_machine(), rows=rows)
        write(report, args.out)
        print(f"wrote {args.out}")


def peers_of(names: list[str], shop: Workshop) -> list[Peer]:
    """Return the rows of these MAKERS, the base's first; what is not installed is said, and left out."""
    peers: list[Peer] = []
    for name in dict.fromkeys(["plain", *names]):
        try:
            peers += MAKERS[name](shop)
        except MissingPackageError as error:
            print(f"{name} is left out: {error}")
    return peers


def measure(peers: list[Peer], images: list[Image], expected: list[Image], rounds: int, turn_s: float) -> list[PeerRow]:
    """Run the peers in interleaved rounds, each in a process of its own, and return a row for each.

    images, expected: uint8 [H, W, C], the latter from Keras. A peer that fails has a row with its error.
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
        rows[name] = replace(rows[name], median_ms=scope_of(timings["engine"]).p50_ms, speed=ratio)
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


def fastest(rows: list[PeerRow]) -> list[PeerRow]:
    """Return of each file the row of the engine that runs it fastest, and the base."""
    found: dict[str, PeerRow] = {}
    for row in rows:
        file, _, engine = row.name.rpartition(", ")
        name = file if row.name != BASE and engine.startswith(("ONNX Runtime", "OpenVINO")) else row.name
        if name not in found or (row.speed and (best := found[name].speed) and row.speed.value > best.value):
            found[name] = row
    return list(found.values())


def peer_table(rows: list[PeerRow]) -> Table:
    """Return the rows as a table: ratios to BASE, above 1 is faster."""
    columns = ["", "speed", "interval", "multiply-adds", "file", "peak memory", "PSNR to Keras", "worst image", "SSIM"]
    cells = []
    for row in rows:
        if row.error or not row.fidelity:
            cells.append([row.name, "–", row.error, *[""] * 6])
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
                "–" if found.itself or found.psnr_worst_db is None else f"{found.psnr_worst_db:.1f} dB",
                "–" if found.itself else f"{found.ssim:.4f}",
            ]
        )
    return Table("Peers", columns, cells)
