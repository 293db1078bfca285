"""Build a report step by step, so that whatever was measured survives an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pix2pix_edge.benchmarks.machine.boards import board_of
from pix2pix_edge.benchmarks.machine.cautions import machine_cautions, noise_caution, row_cautions
from pix2pix_edge.benchmarks.machine.description import (
    Machine,
    Shares,
    State,
    Usage,
    describe_machine,
    machine_state,
    with_sensors,
)
from pix2pix_edge.benchmarks.machine.power import IDLE_S, Meter, mean_watts, open_meter
from pix2pix_edge.benchmarks.measure.engines import Profile, Run, measure, translate_all
from pix2pix_edge.benchmarks.measure.interleave import Timings
from pix2pix_edge.benchmarks.measure.peak import PeakSession
from pix2pix_edge.benchmarks.measure.reference_work import WHAT
from pix2pix_edge.benchmarks.measure.worker import Worker
from pix2pix_edge.benchmarks.report.fidelity import (
    GALLERY,
    fidelity_of,
    references,
    remembered_fidelity,
    write_gallery,
)
from pix2pix_edge.benchmarks.report.rows import power_of, row_of, work_of
from pix2pix_edge.benchmarks.report.schema import (
    Effort,
    Fidelity,
    PowerMeter,
    ReferenceWork,
    Report,
    Row,
    Shown,
    States,
)
from pix2pix_edge.benchmarks.report.summary import scope_of
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.errors import ToolkitError

TIMED_IMAGES = 16
"""Images that the engines translate in turn while they are timed."""


@dataclass
class ReportBuilder:
    """A report in the making. images: uint8 [H, W, C] each, with their names."""

    run: Run
    profile: Profile
    images: Sequence[Images]
    names: Sequence[str]
    folder: Path
    machine: Machine = field(default_factory=Machine)
    before: State = field(default_factory=State)
    usage: Usage | None = None
    peak: dict[str, float] = field(default_factory=dict)
    fidelity: dict[str, Fidelity] = field(default_factory=dict)
    gallery: list[Shown] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)
    idle_watts: float | None = None

    def measure(self, reference: Path | None, say: Callable[[str], None], on_round: Callable[[int], None]) -> None:
        """Compare, then time. reference: one FP32 graph to compare all engines with, or None for each one's own."""
        say("looking at the machine")
        self.machine, self.before, self.usage = describe_machine(), machine_state(), Usage()
        with open_meter() as self.meter:
            if self.meter.name:
                start = time.perf_counter_ns()
                time.sleep(IDLE_S)
                self.idle_watts = mean_watts(self.meter.readings, [(start, time.perf_counter_ns())])
                self.before = with_sensors(self.before, self.meter.readings)
            translate_all(self.run, self.images, lambda label: say(f"comparing {label}"))
            self._compare(reference)
            self._measure_peak(say)
            say("measuring")
            measure(self.run, self.profile, self.images[:TIMED_IMAGES], on_round)
            self._measure_peak(say)

    def _compare(self, reference: Path | None) -> None:
        whole = [measured for measured in self.run.engines if measured.outputs]
        found = references(whole, self.images, reference)
        for measured in whole:
            if measured.label in found:
                self.fidelity[measured.label] = fidelity_of(measured, found[measured.label], self.names)
            elif remembered := remembered_fidelity(measured.target.path):
                self.fidelity[measured.label] = remembered
        shutil.rmtree(self.folder / GALLERY, ignore_errors=True)  # of the report that is replaced
        compared = [measured for measured in whole if measured.label in found]
        self.gallery = write_gallery(self.folder, compared, found, self.fidelity, self.images, self.names)

    def _measure_peak(self, say: Callable[[str], None]) -> None:
        """Measure the peak; called before and after, because a busy moment must not pass for a slow machine."""
        if importlib.util.find_spec("onnx") is None:
            return
        say("measuring the machine's peak")
        with contextlib.suppress(ToolkitError), Worker(PeakSession) as worker:  # without it, only the share is missing
            for precision, value in worker.ask("peak").items():
                self.peak[precision] = max(self.peak.get(precision, 0.0), value)

    def report(self, command: str, complete: bool) -> Report:
        """Return what was measured until now."""
        after = with_sensors(machine_state(), self.meter.readings)
        during = self.usage.so_far() if self.usage else Shares()
        rows = self._rows(after.gpu_mhz_max)
        cautions = machine_cautions(self.machine, self.before, after, during, self.meter.readings) + noise_caution(rows)
        if self.run.reference.error:
            cautions.append(f"the reference work failed ({self.run.reference.error}): compare cannot know the machine")
        meter = PowerMeter(meter=self.meter.name, of=self.meter.unit, idle_watts=self.idle_watts)
        return Report(
            complete=complete,
            command=command,
            profile=effort_of(self.profile, self.run),
            machine=self.machine,
            state=States(before=self.before, during=during, after=after),
            warnings=cautions + [caution for row in rows for caution in row_cautions(row)],
            images=list(self.names),
            images_sha256=hashlib.sha256(b"".join(image.tobytes() for image in self.images)).hexdigest(),
            engines=rows,
            gallery=self.gallery,
            peak={name: float(f"{value:.4g}") for name, value in self.peak.items()},
            reference_work=reference_work_of(self.run.reference),
            power=meter if self.meter.name else None,
        )

    def _rows(self, gpu_mhz_max: float | None) -> list[Row]:
        board = board_of(self.machine.board, gpu_mhz_max)
        rows = []
        for measured in self.run.engines:
            row = row_of(measured, self.run, self.fidelity.get(measured.label))
            work = work_of(row, measured.target.path, self.peak, board)
            rows.append(replace(row, work=work, power=power_of(measured, self.meter, self.idle_watts, row.batch)))
        return rows


def effort_of(profile: Profile, run: Run) -> Effort:
    """Return how thoroughly a run measured."""
    budget = profile.budget
    return Effort(
        name=profile.name,
        launches=profile.launches,
        rounds=run.rounds,
        turn_s=budget.turn_s,
        warm_up_s=budget.warm_up_s,
    )


def reference_work_of(timings: Timings) -> ReferenceWork | None:
    """Return a run's reference work as the report keeps it; None where the package onnx is missing."""
    if not timings["reference"]:
        return None
    return ReferenceWork(what=WHAT, cpu=scope_of(timings["cpu"]), **vars(scope_of(timings["reference"])))
