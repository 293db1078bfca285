"""Power: tegrastats on a Jetson, NVML with a discrete GPU; energy per frame over the moments that were measured."""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pix2pix_edge.runtime.board import board_watts, hottest

INTERVAL_MS = 100
IDLE_S = 2.0
"""How long the idle machine is watched before the engines start, to tell what the frames add."""


_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (-?\d{1,7})(?: ?mW)?/-?\d{1,7}(?: ?mW)?(?![\dM])", re.I)
_LONE_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (-?\d{1,7}) ?mW\b", re.I)
_SENSOR = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d{1,4}(?:\.\d{1,6})?)C")
_GPU = re.compile(r"GR3D(?:_FREQ)?\s+(?:(\d{1,3})%)?(?:@(\d{1,6}\b|\[[\d, ]{1,60}\]))?", re.I)
_STEERING = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


@dataclass(frozen=True)
class Reading:
    """The machine at one moment; what its sensors do not tell is None.

    at_ns: time.perf_counter_ns(). watts: of the whole board, or of a discrete GPU with its memory. rails_w: by name.
    """

    at_ns: int
    watts: float | None = None
    rails_w: dict[str, float] = field(default_factory=dict)
    gpu_mhz: float | None = None
    gpu_busy: float | None = None
    temperature_c: float | None = None
    throttled: str = ""


def parse_tegrastats(line: str, at_ns: int = 0) -> Reading:
    """Read a line of tegrastats of any JetPack from 4 to 7. Every field is optional; of several values the first, now.

    Rails are "NAME 4865/4865" (JetPack 4, mW), "NAME 4865mW/4865mW" (5, 6: now/mean) or with a third value (7: peak).
    GR3D_FREQ is "12%@1300", "12%@[1300,1300]" (a clock for each cluster, 0 for one that is off, so the highest), or, on
    Thor, "@[1000,1000]" with no load. JetPack 3 calls it GR3D.
    """
    line = without_colours(line)
    pairs = _RAIL.findall(line) or _LONE_RAIL.findall(line)
    rails = {name.upper(): int(milliwatts) / 1000 for name, milliwatts in reversed(pairs)}
    for name in ("NC", "RAM", "SWAP", "IRAM"):
        rails.pop(name, None)
    gpu = _GPU.search(line)
    clocks = re.findall(r"\d+", gpu[2] or "") if gpu else []
    return Reading(
        at_ns=at_ns,
        watts=board_watts(rails),
        rails_w=rails,
        gpu_mhz=max(map(float, clocks), default=None),
        gpu_busy=int(gpu[1]) / 100 if gpu and gpu[1] else None,
        temperature_c=hottest((name, float(celsius)) for name, celsius in _SENSOR.findall(line)),
    )


def without_colours(line: str) -> str:
    """Return a line without what steers a terminal: colours, titles, character sets."""
    return _STEERING.sub("", line)


class Meter:
    """Takes readings in the background while it is open; a context manager. This one takes none.

    unit: what its watts are of.
    """

    name, unit = "", ""

    def __init__(self) -> None:
        self.readings: list[Reading] = []

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        return


class TegrastatsMeter(Meter):
    """Readings of a Jetson's tegrastats."""

    name, unit = "tegrastats", "board"

    def __init__(self, command: Sequence[str] = ("tegrastats", "--interval", str(INTERVAL_MS))) -> None:
        super().__init__()
        self._command = list(command)

    def __enter__(self) -> TegrastatsMeter:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
        )
        self._thread = threading.Thread(target=self._read, name="tegrastats", daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.readings.append(parse_tegrastats(line, time.perf_counter_ns()))

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        self._thread.join(timeout=2)


class NvmlMeter(Meter):
    """Readings of the first NVIDIA GPU through NVML (package nvidia-ml-py)."""

    name, unit = "NVML", "GPU"

    def __init__(self, nvml: Any) -> None:
        super().__init__()
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(0)
        self._stop = threading.Event()

    def __enter__(self) -> NvmlMeter:
        self._thread = threading.Thread(target=self._poll, name="nvml", daemon=True)
        self._thread.start()
        return self

    def _poll(self) -> None:
        while not self._stop.wait(INTERVAL_MS / 1000):
            self.readings.append(self._read())

    def _read(self) -> Reading:
        nvml, handle = self._nvml, self._handle

        def ask(call: str, *arguments: Any) -> Any:
            try:
                return getattr(nvml, call)(handle, *arguments)
            except (nvml.NVMLError, AttributeError):  # not every GPU answers everything, least of all a Jetson's
                return None

        milliwatts, busy = ask("nvmlDeviceGetPowerUsage"), ask("nvmlDeviceGetUtilizationRates")
        return Reading(
            at_ns=time.perf_counter_ns(),
            watts=None if milliwatts is None else milliwatts / 1000,
            gpu_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            gpu_busy=None if busy is None else busy.gpu / 100,
            temperature_c=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            throttled=throttle_reasons(ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0),
        )

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()


def throttle_reasons(bits: int) -> str:
    """Return NVML's reasons for lowered clocks that distort a measurement, in words; "" for none (nvml.h)."""
    words = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat", 0x40: "heat", 0x80: "power brake"}
    return ", ".join(dict.fromkeys(word for bit, word in words.items() if bits & bit))


def open_meter(which: Callable[[str], str | None] = shutil.which) -> Meter:
    """Return what measures power here: tegrastats, else NVML, else a meter without readings."""
    if which("tegrastats"):
        return TegrastatsMeter()
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        return NvmlMeter(nvml)
    except Exception:  # absent, no driver, no GPU: all mean the same here
        return Meter()


def mean_watts(readings: Sequence[Reading], windows: Sequence[tuple[int, int]]) -> float | None:
    """Return the mean power inside the windows (start_ns, end_ns), or None where no reading with watts falls in one."""
    inside = [r.watts for r in readings if r.watts is not None and any(a <= r.at_ns <= b for a, b in windows)]
    return float(np.mean(inside)) if inside else None
