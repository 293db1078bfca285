"""Collect everything that a report says, step by step, so that whatever was measured survives an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pix2pix_edge.benchmarks.machine.boards import board_of
from pix2pix_edge.benchmarks.machine.cautions import machine_cautions, noise_caution, row_cautions
from pix2pix_edge.benchmarks.machine.description import Usage, describe_machine, machine_state, with_sensors
from pix2pix_edge.benchmarks.machine.power import IDLE_S, Meter, NoMeter, mean_watts, open_meter
from pix2pix_edge.benchmarks.measure.engines import Profile, Run, measure, translate_all
from pix2pix_edge.benchmarks.measure.peak import PeakSession
from pix2pix_edge.benchmarks.measure.worker import Worker
from pix2pix_edge.benchmarks.report import fidelity as judge
from pix2pix_edge.benchmarks.report import rows
from pix2pix_edge.benchmarks.report.schema import FORMAT, Report
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.errors import ToolkitError

TIMED_IMAGES = 16
"""Images that the engines translate in turn while they are timed."""


@dataclass
class Collection:
    """A report in the making. images: uint8 [S, S, 3] each, with their names."""

    run: Run
    profile: Profile
    images: Sequence[Images]
    names: Sequence[str]
    folder: Path
    machine: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    peak: dict[str, float] = field(default_factory=dict)
    fidelity: dict[str, dict[str, Any]] = field(default_factory=dict)
    gallery: list[dict[str, Any]] = field(default_factory=list)
    meter: Meter = field(default_factory=NoMeter)
    idle_watts: float | None = None

    def collect(self, reference: Path | None, say: Callable[[str], None], on_round: Callable[[int], None]) -> None:
        """Judge and measure. reference: one FP32 graph to judge all engines by, or None for each one's own."""
        say("looking at the machine")
        self.machine, self.before, self.usage = describe_machine(), machine_state(), Usage()
        with open_meter() as self.meter:
            if self.meter.name:
                start = time.perf_counter_ns()
                time.sleep(IDLE_S)
                self.idle_watts = mean_watts(self.meter.readings, [(start, time.perf_counter_ns())])
                self.before = with_sensors(self.before, self.meter.readings)
            translate_all(self.run, self.images, lambda label: say(f"judging {label}"))
            self._judge(reference)
            self._measure_peak(say)
            say("measuring")
            measure(self.run, self.profile, self.images[:TIMED_IMAGES], on_round)
            self._measure_peak(say)

    def _judge(self, reference: Path | None) -> None:
        whole = [measured for measured in self.run.engines if measured.outputs]
        found = judge.references(whole, self.images, reference)
        judged = [measured for measured in whole if measured.label in found]
        for measured in judged:
            self.fidelity[measured.label] = judge.fidelity_json(measured, found[measured.label], self.names)
        shutil.rmtree(self.folder / "gallery", ignore_errors=True)  # of the report that is replaced
        self.gallery = judge.write_gallery(self.folder, judged, found, self.fidelity, self.images, self.names)

    def _measure_peak(self, say: Callable[[str], None]) -> None:
        """Measure the peak; called before and after, because a busy moment must not pass for a slow machine."""
        if importlib.util.find_spec("onnx") is None:
            return
        say("measuring the machine's peak")
        with contextlib.suppress(ToolkitError), Worker(PeakSession) as worker:  # without it, only the share is missing
            for precision, value in worker.ask("peak").items():
                self.peak[precision] = max(self.peak.get(precision, 0.0), value)

    def report(self, command: str, complete: bool) -> Report:
        """Return the report's JSON (docs/report-schema.md)."""
        after = with_sensors(machine_state(), self.meter.readings)
        during = self.usage.so_far() if self.usage else {}
        board = board_of(self.machine.get("board", ""), after.get("gpu_mhz_max"))
        table = []
        for measured in self.run.engines:
            row = rows.row_json(
                measured, self.run, self.fidelity.get(measured.label), shared=self.machine.get("virtual", False)
            )
            work = rows.work_json(row, measured.target.path, self.peak, board)
            power = rows.power_json(measured, self.meter, self.idle_watts, row["batch"])
            table.append(row | ({"work": work} if work else {}) | ({"power": power} if power else {}))
        cautions = machine_cautions(self.machine, self.before, after, during, self.meter.readings) + noise_caution(
            table
        )
        if self.run.reference.error:
            cautions.append(f"the reference work failed ({self.run.reference.error}): compare cannot know the machine")
        report: Report = {
            "format": FORMAT,
            "complete": complete,
            "command": command,
            "profile": {
                "name": self.profile.name,
                "launches": self.profile.launches,
                "rounds": self.run.rounds,
                "turn_s": self.profile.plan.turn_s,
                "warm_up_s": self.profile.plan.warm_up_s,
            },
            "machine": self.machine,
            "state": {"before": self.before, "during": during, "after": after},
            "warnings": cautions + [caution for row in table for caution in row_cautions(row)],
            "images": list(self.names),
            "images_sha256": hashlib.sha256(b"".join(image.tobytes() for image in self.images)).hexdigest(),
            "engines": table,
            "gallery": self.gallery,
        }
        if self.peak:
            report["peak"] = {name: float(f"{value:.4g}") for name, value in self.peak.items()}
        if work := self.run.reference_json:
            report["reference_work"] = work
        if self.meter.name:
            report["power"] = {"meter": self.meter.name, "of": self.meter.unit, "idle_watts": self.idle_watts}
        return report
