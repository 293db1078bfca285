"""Measure engines side by side: latency, throughput, fidelity, memory and power, as a report.

  python -m benchmarks run --engine out/facades.fp32.onnx out/facades.int8.cpu.onnx --data photos --out report
  python -m benchmarks run --engine out/*.plan --data photos --out report --profile full
  python -m benchmarks run --engine out/facades.fp32.onnx --backend onnxruntime openvino --data photos --out report

Writes report.json, report.md and report.html (one file, opens offline). Ctrl-C writes what was measured until then.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.cli import add_backend, add_data, add_engine, add_out
from pix2pix_edge.runtime.errors import EngineError, InputError, ToolkitError

if TYPE_CHECKING:
    from pix2pix_edge.benchmarks.measure.engines import Measured, Profile

COMPARED_IMAGES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine(parser, many=True)
    add_data(parser, "measure and to compare with")
    add_out(parser, "folder for the report")
    add_backend(parser, many=True)
    parser.add_argument(
        "--profile",
        choices=("quick", "full", "single-stream"),
        default="quick",
        help="half a minute for each engine; four minutes; or 600 s and 1024 images one by one (default: quick)",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="latency is measured for so long, not as the profile says"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="FP32 .onnx to compare with (default: what each was made from)"
    )
    parser.add_argument("--force", action="store_true", help="replace the report that is in --out")


def run(args: argparse.Namespace) -> int:
    from pix2pix_edge.benchmarks.machine.description import command_line
    from pix2pix_edge.benchmarks.measure.engines import Run, image_shape
    from pix2pix_edge.benchmarks.report.builder import ReportBuilder
    from pix2pix_edge.benchmarks.report.page import summary_text, write_report
    from pix2pix_edge.benchmarks.report.reader import new_folder
    from pix2pix_edge.export.images import evenly, judging_files, read_images

    profile = _profile(args)
    engines = _engines(args)
    files = evenly(judging_files(args.data), COMPARED_IMAGES)
    if args.out.exists() and not args.force:
        raise InputError(f"{args.out} exists and is kept; choose another --out, or replace it with --force")
    images = read_images(files, image_shape(engines))
    names = [str(file.relative_to(args.data)) if args.data.is_dir() else file.name for file in files]
    new_folder(args.out)
    builder = ReportBuilder(Run(engines), profile, images, names, args.out)
    complete = True
    with _progress(profile) as (say, on_round):
        try:
            builder.measure(args.reference, say, on_round)
        except KeyboardInterrupt:
            complete = False
            say("interrupted: writing what was measured")
        except ToolkitError:
            with contextlib.suppress(OSError):
                args.out.rmdir()  # empty unless it was there before
            raise
        report = builder.report(command_line(), complete)
    write_report(report, args.out)
    print(summary_text(report))
    print(f"the whole report: {args.out / 'report.html'}")
    if not complete:
        return 130
    if not any(row.scopes for row in report.engines):
        raise EngineError(f"no engine could be measured: {report.engines[0].error}")
    return 0


def _profile(args: argparse.Namespace) -> Profile:
    from pix2pix_edge.benchmarks.measure.engines import PROFILES

    if args.seconds is None:
        return PROFILES[args.profile]
    if not 0 < args.seconds <= 86400:
        raise InputError(f"--seconds {args.seconds:g} must be more than 0 and at most a day (86400)")
    return PROFILES[args.profile].lasting(args.seconds)


def _engines(args: argparse.Namespace) -> list[Measured]:
    """Return what to measure, under names that tell the engines apart."""
    from pix2pix_edge.benchmarks.measure.engines import Measured
    from pix2pix_edge.benchmarks.measure.worker import Target
    from pix2pix_edge.runtime.engine import check_file

    for path in (*args.engine, *([args.reference] if args.reference else [])):
        check_file(path)
    paths = list(dict.fromkeys(args.engine))
    found = []
    for path in paths:
        alone = sum(other.name == path.name for other in paths) == 1
        name = path.name if alone else f"{path.parent.name}/{path.name}"
        for backend in dict.fromkeys(args.backend if path.suffix == ".onnx" else ["auto"]):
            label = f"{name} ({backend})" if len(set(args.backend)) > 1 and path.suffix == ".onnx" else name
            found.append(Measured(label, Target(path, backend, args.threads)))
    repeated = sorted({m.label for m in found if sum(other.label == m.label for other in found) > 1})
    if repeated:
        raise InputError(f"two engines would both be called {repeated[0]}; rename one of the files or folders")
    return found


@contextlib.contextmanager
def _progress(profile: Profile) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """A progress bar over the rounds, and what is being done beside it."""
    from tqdm import tqdm

    with tqdm(total=profile.launches * profile.budget.rounds, unit="round", leave=False) as bar:
        yield bar.set_description, lambda done: bar.update(done - bar.n) and None
