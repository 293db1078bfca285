"""The machine: what a reader must know about it to judge a measurement, and what changes while it measures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.machine.power import Reading
from pix2pix_edge.runtime.board import cpu_name, read_board
from pix2pix_edge.runtime.errors import as_typed
from pix2pix_edge.runtime.files import text_of
from pix2pix_edge.runtime.nvidia.capabilities import probe

PACKAGES = (
    "numpy", "opencv-python", "av", "onnxruntime", "openvino", "tensorrt", "pycuda", "tensorflow", "keras", "onnx",
)  # fmt: skip
"""Packages whose version a result may depend on; the installed ones are listed."""

LOAD_WINDOW_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What stays the same during a run, as far as it can be found. No host, user or folder name."""

    cpu: str = ""
    cores: int | None = None
    threads: int | None = None
    memory_gb: float | None = None
    system: str = ""
    virtual: bool = False
    governor: str = ""
    board: str = ""
    jetpack: str = ""
    l4t: str = ""
    power_mode: str = ""
    gpu: str = ""
    compute_capability: str = ""
    driver: str = ""
    cuda: str = ""
    tensorrt: str = ""
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    git: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """What changes during a run, where it is known.

    temperature_c: of the hottest sensor. load: runnable processes, one-minute mean. busy, stolen: shares of all CPU
    time that anyone uses, and that a hypervisor gives to others. throttled: CPU clock reductions for heat since boot.
    """

    cpu_mhz: float | None = None
    gpu_mhz: float | None = None
    gpu_mhz_max: float | None = None
    temperature_c: float | None = None
    load: float | None = None
    busy: float | None = None
    stolen: float | None = None
    throttled: float | None = None


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of all CPU time, 0 to 1, that other programs used and that the hypervisor gave to others."""

    others: float | None = None
    stolen: float | None = None


def describe_machine(root: Path = Path("/")) -> Machine:
    """Look at the machine; asks the driver, nvpmodel and git."""
    capabilities = probe()
    gpu = capabilities.gpu
    return Machine(
        cpu=cpu_name(root),
        cores=_cores(root),
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_gb=_memory_gb(root),
        system=" ".join(part for part in (_distribution(root), platform.machine(), platform.release()) if part),
        virtual="hypervisor" in text_of(root / "proc/cpuinfo").partition("\n\n")[0],
        governor=text_of(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        board=capabilities.jetson_model,
        jetpack=capabilities.jetpack,
        l4t=capabilities.l4t,
        power_mode=_power_mode(),
        gpu=gpu.name if gpu else "",
        compute_capability="{}.{}".format(*gpu.compute_capability) if gpu else "",
        driver=capabilities.driver,
        cuda=capabilities.cuda,
        tensorrt=capabilities.tensorrt,
        python=platform.python_version(),
        packages=_packages(),
        git=_git(),
    )


def command_line() -> str:
    """Return the command line that is running, to be repeated: `python -m benchmarks` or `pix2pix-edge bench`."""
    words = sys.argv[2:] if sys.argv[1:2] == ["bench"] else sys.argv[1:]
    return as_typed(shlex.join(["python", "-m", "benchmarks", *words]))


def machine_state(root: Path = Path("/")) -> State:
    """Return the machine's state now; takes half a second, in which the caller should do nothing."""
    start = cpu_times(root)
    time.sleep(LOAD_WINDOW_S)
    busy, stolen = shares(start, cpu_times(root))
    return State(
        cpu_mhz=_short(_cpu_mhz(root)),
        gpu_mhz=_short(_gpu_mhz(root, "cur_freq")),
        gpu_mhz_max=_short(_gpu_mhz(root, "max_freq")),
        temperature_c=_short(read_board(root).temperature_c),
        load=_short(os.getloadavg()[0] if hasattr(os, "getloadavg") else None),
        busy=_short(busy),
        stolen=_short(stolen),
        throttled=_throttled(root),
    )


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def with_sensors(state: State, readings: Sequence[Reading]) -> State:
    """Return a machine_state with the clock and temperature of the GPU that a meter read last, where it read any."""
    if not readings:
        return state
    last = readings[-1]
    degrees = [d for d in (state.temperature_c, last.temperature_c) if d is not None]
    clock = last.gpu_mhz if state.gpu_mhz is None else state.gpu_mhz
    return replace(state, gpu_mhz=clock, temperature_c=max(degrees, default=None))


def cpu_times(root: Path = Path("/")) -> tuple[int, ...]:
    """Return the counters of all CPUs since boot: user nice system idle iowait irq softirq steal (proc(5)), or ()."""
    line = text_of(root / "proc/stat").partition("\n")[0].split()
    return tuple(map(int, line[1:9])) if len(line) >= 9 and line[0] == "cpu" else ()


def shares(start: tuple[int, ...], end: tuple[int, ...]) -> tuple[float | None, float | None]:
    """Return which share of CPU time was busy, and which was stolen by the hypervisor, between two cpu_times()."""
    # what waits for disks is counted backwards at times: proc(5)
    spent = [max(0, b - a) for a, b in zip(start, end, strict=True)] if len(start) == len(end) else []
    total = sum(spent)
    if total <= 0:
        return None, None
    return 1 - (spent[3] + spent[4]) / total, spent[7] / total


class Usage:
    """Who uses the CPUs from now on: we with the processes that we start and wait for, others, the hypervisor."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._start, self._ours, self._at = cpu_times(root), _own_seconds(), time.perf_counter()

    def so_far(self) -> Shares:
        """Return who used the CPUs besides us; nothing where the system does not tell."""
        busy, stolen = shares(self._start, cpu_times(self._root))
        if busy is None or stolen is None:
            return Shares()
        every = (time.perf_counter() - self._at) * (os.cpu_count() or 1)
        others = busy - stolen - (_own_seconds() - self._ours) / every
        return Shares(others=round(max(0.0, others), 3), stolen=round(stolen, 3))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cores(root: Path) -> int:
    """Count physical cores: distinct sets of sibling threads."""
    siblings = {text_of(p) for p in root.glob("sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")}
    return len(siblings) or os.cpu_count() or 1


def _memory_gb(root: Path) -> float | None:
    found = re.search(r"MemTotal:\s+(\d+) kB", text_of(root / "proc/meminfo"))
    return round(int(found[1]) / 2**20, 1) if found else None


def _distribution(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text_of(root / "etc/os-release"), re.MULTILINE)
    return found[1] if found else platform.system()


def _cpu_mhz(root: Path) -> float | None:
    """Mean clock of the CPUs now."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [int(text) / 1000 for text in map(text_of, files) if text.isdigit()]
    clocks = clocks or [
        float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text_of(root / "proc/cpuinfo"), re.M)
    ]
    return float(np.mean(clocks)) if clocks else None


def _gpu_mhz(root: Path, which: str) -> float | None:
    """Clock of a Jetson's GPU, which is a devfreq device there (a discrete GPU is asked by power.NvmlMeter)."""
    for device in sorted(root.glob("sys/class/devfreq/*")):
        if re.search(r"gpu|gv11b|ga10b|gb10b|gp10b", device.name):
            text = text_of(device / which)
            return int(text) / 1e6 if text.isdigit() else None
    return None


def _throttled(root: Path) -> float | None:
    counts = [text_of(p) for p in root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return float(sum(int(c) for c in counts if c.strip().isdigit())) if counts else None


def _power_mode() -> str:
    """Return a Jetson's power mode, as "MAXN_SUPER"."""
    found = re.search(r"NV Power Mode:\s*(\S+)", _output("nvpmodel", "-q"))
    return found[1] if found else ""


def _packages() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git() -> str:
    """Return "1a2b3c4", or "1a2b3c4, changed", of the checkout that this package runs from; "" outside one."""
    folder = str(Path(__file__).resolve().parent)
    commit = _output("git", "-C", folder, "rev-parse", "--short", "HEAD").strip()
    changed = commit and _output("git", "-C", folder, "status", "--porcelain", "--untracked-files=no").strip()
    return f"{commit}, changed" if changed else commit


def _output(*command: str) -> str:
    """Return what a command prints, or "" where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
