"""Print what this machine has, as a table to paste into a defect report.

runtime/run.py doctor
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pix2pix_edge.runtime.board import cpu_name
from pix2pix_edge.runtime.cli import CommandParser, run_command
from pix2pix_edge.runtime.files import text_of

CPU_FEATURES = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Flags of /proc/cpuinfo that decide how fast INT8 and BF16 run; those after the amx_ are ARM's."""

ABSENT = "not installed"


def rows() -> list[tuple[str, str]]:
    """Return (name, value) of everything that a report needs; whatever fails says so in its value."""
    probes: dict[str, Callable[[], str]] = {
        "pix2pix-edge": lambda: _version("pix2pix-edge"),
        "Python": lambda: f"{platform.python_version()} ({sys.executable})",
        "OS": _system,
        "CPU": _cpu,
        "CPU features": _cpu_features,
        "Memory": _memory,
        "NumPy": lambda: _version("numpy"),
        "OpenCV": _opencv,
        "PyAV": lambda: _version("av"),
        "ONNX Runtime": _onnxruntime,
        "OpenVINO": lambda: _version("openvino"),
        "TensorFlow": lambda: _version("tensorflow"),
        "Keras": lambda: _version("keras"),
        "TensorRT": lambda: _capability("tensorrt", "tensorrt_missing"),
        "TensorRT-RTX": lambda: _capability("tensorrt", "tensorrt_missing", "tensorrt_rtx"),
        "pycuda": lambda: _version("pycuda"),
        "CUDA": lambda: _capability("cuda"),
        "NVIDIA driver": lambda: _capability("driver"),
        "GPU": _gpu,
        "Jetson": lambda: _capability("jetson_model"),
        "JetPack": _jetpack,
        "Display": _display,
        "Cameras": lambda: " ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none",
    }
    return [(name, _safely(probe)) for name, probe in probes.items()]


def _safely(probe: Callable[[], str]) -> str:
    try:
        return " ".join(probe().split()) or "none"
    except Exception as error:  # a broken library is exactly what a report must show
        return f"cannot be told: {type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _version(distribution: str) -> str:
    """Return the version from the package's metadata: importing TensorFlow alone would take seconds."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # or built by hand, as pycuda often is on a board
        found = importlib.util.find_spec(distribution.replace("-", "_"))
        return "installed, without a version" if found and found.origin else ABSENT


def _system() -> str:
    release = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    return f"{release.get('PRETTY_NAME', '')} {platform.system()} {platform.release()} {platform.machine()}"


def _cpu() -> str:
    from pix2pix_edge.runtime.engines.onnxruntime import physical_cores

    return f"{cpu_name()}, {physical_cores()} cores usable"


def _cpu_features() -> str:
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text_of(Path("/proc/cpuinfo")), re.MULTILINE)
    here = set(flags[1].split()) if flags else set()
    return " ".join(flag for flag in CPU_FEATURES if flag in here) or "none of interest"


def _memory() -> str:
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE))
    total, available = (int(found[key]) / 2**20 for key in ("MemTotal", "MemAvailable"))
    return f"{total:.1f} GiB, {available:.1f} GiB available"


def _opencv() -> str:
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError:
        return f"{ABSENT}; run: pip install opencv-python"
    information = cv2.getBuildInformation()
    built = {
        name: re.search(rf"^\s*{name}:\s+(\S+)", information, re.MULTILINE) for name in ("GStreamer", "FFMPEG", "GUI")
    }
    return f"{cv2.__version__}, " + ", ".join(f"{name} {found[1] if found else 'NO'}" for name, found in built.items())


def _onnxruntime() -> str:
    try:
        ort = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        return f"{ABSENT}; run: pip install onnxruntime"
    providers = (name.removesuffix("ExecutionProvider") for name in ort.get_available_providers())
    return f"{ort.__version__} ({', '.join(providers)})"


def _capability(present: str, missing: str = "", package: str = "tensorrt") -> str:
    from pix2pix_edge.runtime.nvidia.capabilities import probe

    found = probe(package=package)
    why = str(getattr(found, missing)).removeprefix("is ") if missing else ""
    return str(getattr(found, present)) or why


def _gpu() -> str:
    from pix2pix_edge.runtime.nvidia.capabilities import probe

    found = probe()
    if found.gpu is None:
        return f"none: {found.gpu_missing.partition(';')[0]}"
    gpu = found.gpu
    kind = ", integrated" if gpu.integrated else ""
    major, minor = gpu.compute_capability
    return f"{gpu.name}, compute capability {major}.{minor}, {gpu.total_memory / 2**30:.1f} GiB{kind}"


def _jetpack() -> str:
    from pix2pix_edge.runtime.nvidia.capabilities import probe

    found = probe()
    return f"{found.jetpack or 'unknown'} (L4T {found.l4t})" if found.l4t else ""


def _display() -> str:
    from pix2pix_edge.runtime.sinks.window import display_problem

    return display_problem() or os.environ.get("DISPLAY", "yes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_: argparse.Namespace) -> int:
    """Print the table."""
    table = rows()
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:<{width}}  {value}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(run, CommandParser(prog="runtime/run.py doctor", description=(__doc__ or "").strip()), argv)
