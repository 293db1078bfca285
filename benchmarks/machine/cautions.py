"""What a reader must be warned of: the conditions that trtexec warns of, and those of a shared machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pix2pix_edge.benchmarks.machine.description import Machine, Shares, State
from pix2pix_edge.benchmarks.machine.power import Reading
from pix2pix_edge.benchmarks.report.schema import Row
from pix2pix_edge.benchmarks.report.summary import repeat_error

BUSY = 0.15
OTHERS = 0.05
STOLEN = 0.01
UNSTABLE = 0.025  # coefficient of variation of GPU time (trtexec)
ENQUEUE_BOUND = 0.8  # enqueue time / GPU time (trtexec)
WIDE = 0.05  # half the width of the interval that the rounds give / the median
CLOCK_DRIFT = 0.05


def machine_cautions(
    machine: Machine, before: State, after: State, during: Shares, readings: Sequence[Reading]
) -> list[str]:
    """Return warnings about the machine. during: benchmarks.machine.description.Usage of the run."""
    found = []
    if (before.busy or 0) > BUSY:
        found.append(
            f"noisy machine: {before.busy:.0%} of the CPU was in use before the run began; close other programs"
        )
    if (during.others or 0) > OTHERS:
        found.append(
            f"noisy machine: other programs used {during.others:.0%} of the CPU during the run; the intervals hold"
            " only as long as they go on like this"
        )
    if (during.stolen or 0) > STOLEN:
        found.append(
            f"shared machine: the hypervisor gave {during.stolen:.1%} of the CPU time to others during the run"
        )
    if machine.governor not in ("", "performance", "schedutil"):
        found.append(f"the CPU's clock governor is {machine.governor}; run: sudo cpupower frequency-set -g performance")
    if (after.throttled or 0) > (before.throttled or 0):
        found.append("the CPU lowered its clock for heat during the run; cool it, and measure again")
    reasons = sorted({reading.throttled for reading in readings if reading.throttled})
    if reasons:
        found.append(f"the GPU lowered its clock during the run ({'; '.join(reasons)})")
    clocks = [reading.gpu_mhz for reading in readings if reading.gpu_mhz and (reading.gpu_busy or 0) > 0.5]
    if clocks and np.std(clocks) > CLOCK_DRIFT * np.mean(clocks):
        found.append(
            f"unstable clocks: the GPU ran at {min(clocks):.0f} to {max(clocks):.0f} MHz under load; lock them"
            f" ({'sudo jetson_clocks' if machine.board else 'sudo nvidia-smi -lgc'})"
        )
    return found


def row_cautions(row: Row) -> list[str]:
    """Return warnings about one engine's row, each beginning with its name."""
    scopes = row.scopes
    found = []
    compute, engine, submit = scopes.get("compute"), scopes.get("engine"), scopes.get("submit")
    if row.on_gpu and compute:
        if (compute.variation or 0) > UNSTABLE:
            found.append(f"unstable GPU time: it varies by {compute.variation:.1%}; lock the clocks")
        if submit and submit.p50_ms > ENQUEUE_BOUND * compute.p50_ms:
            found.append(
                f"bound by enqueue: submitting takes {submit.p50_ms:.2f} ms, computing {compute.p50_ms:.2f} ms;"
                " install cuda-bindings for CUDA graphs"
            )
        if engine and engine.p50_ms - compute.p50_ms >= compute.p50_ms:
            found.append("bound by transfers: copies and waiting take as long as computing")
    if row.work and (row.work.share_of_peak or 0) > 1:
        found.append("it is faster than the peak that was measured: the machine was busy then; measure again")
    return [f"{row.name}: {text}" for text in found]


def noise_caution(rows: Sequence[Row]) -> list[str]:
    """Return one warning that names every engine whose latency a repeated run may find elsewhere, or none."""
    wide = []
    for row in rows:
        engine = row.scopes.get("engine")
        error = repeat_error(np.log(engine.medians_ms)) if engine else None
        if error is not None and error > math.log1p(WIDE):
            wide.append(row.name)
    if not wide:
        return []
    return [
        f"noisy: in a repeated run the latency of {', '.join(wide)} may differ by more than {WIDE:.0%} (see the"
        " brackets); measure for longer (--profile full, --seconds), or on a quieter machine"
    ]
