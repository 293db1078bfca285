"""A strict simulator of TensorRT, for machines that have none. What passes here has run on no GPU.

`tensorrt` has exactly the names, overloads and read-only properties of one version (api.json) and computes with ONNX
Runtime. Under it are real pycuda and real cuda-bindings over a CUDA driver on the CPU (tests/fake_cuda); where these
are not installed, tests are skipped. In a test:

    def test_it(simulated_tensorrt): ...
        simulator = simulated_tensorrt("10.3")         # options of tests.fake_cuda.FakeGpu may follow

For a command: python -m tests.simulator 10.3 runtime/run.py --engine facades.plan --source test:// --sink null
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.abc
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import fake_cuda
from tests.commands import python
from tests.fake_cuda import FakeGpu, SimulatorError
from tests.simulator.basics import basic_behaviours
from tests.simulator.bindings import Tensorrt, make_module
from tests.simulator.builder import build_behaviours
from tests.simulator.engine import run_behaviours
from tests.simulator.network import network_behaviours
from tests.simulator.spec import full_version

VERSIONS = ("10.3", "10.13", "10.16", "11.4")
GROUPS = ("tensorrt", "pycuda", "cuda")

__all__ = ["VERSIONS", "Simulator", "SimulatorError", "Start", "build_plan", "install", "run_simulated", "simulations"]


@dataclass
class Simulator:
    """What was installed: the module, the GPU, and every mistake seen on it."""

    version: str
    tensorrt: Tensorrt
    gpu: FakeGpu

    @property
    def mistakes(self) -> list[str]:
        """What a real GPU would have answered with a crash or a leak; the fixture fails a test that leaves any."""
        return self.gpu.mistakes


Start = Callable[..., Simulator]
"""Starts the simulated TensorRT of a version, "10.3", with the options of install()."""


def make_tensorrt(version: str, gpu: FakeGpu) -> Tensorrt:
    """Return the simulated module of a version, "10.3" or in full."""
    full = full_version(version)
    numbers = [int(n) for n in full.split(".")]
    numbers += [26] if full == "10.3.0" else []  # the build, which a plan's header says
    made: list[Tensorrt] = []
    behaviours = {
        **basic_behaviours(lambda: made[0]),
        **network_behaviours(lambda: made[0]),
        **build_behaviours(lambda: made[0], numbers, gpu),
        **run_behaviours(lambda: made[0], numbers, gpu),
    }
    made.append(make_module(full, behaviours, {"init_libnvinfer_plugins": lambda logger, namespace: True}))
    made[0].__version__ = full  # type: ignore[attr-defined]
    return made[0]


@contextlib.contextmanager
def install(
    version: str, *, graphs: bool = True, pycuda: bool = True, tensorrt: bool = True, **gpu: Any
) -> Iterator[Simulator]:
    """Put the simulated modules into sys.modules, and take them out again.

    graphs, pycuda, tensorrt: whether cuda-bindings, pycuda, TensorRT are installed. gpu: what Gpu takes.
    """
    if reason := fake_cuda.missing():
        pytest.skip(reason)
    device = FakeGpu(**gpu)
    module = make_tensorrt(version, device)
    absent = [name for name, wanted in (("tensorrt", tensorrt), ("pycuda", pycuda), ("cuda", graphs)) if not wanted]
    modules = {"tensorrt": module, **fake_cuda.packages()}
    before = {name: value for name, value in sys.modules.items() if _top(name) in GROUPS}
    finder, real = _Absent(absent, device.driver), ctypes.CDLL
    for name in before:
        del sys.modules[name]
    sys.modules.update({k: v for k, v in modules.items() if _top(k) not in absent})
    if not device.driver:
        sys.modules.pop("pycuda.driver", None)
        ctypes.CDLL = _no_library  # type: ignore[assignment,misc]
    sys.meta_path.insert(0, finder)
    _forget_probes()
    try:
        yield Simulator(version, module, device)
    finally:
        ctypes.CDLL = real  # type: ignore[misc]
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _top(name) in GROUPS]:
            del sys.modules[name]
        sys.modules.update(before)
        device.close()
        _forget_probes()


def _top(module: str) -> str:
    return module.partition(".")[0]


def _no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


class _Absent(importlib.abc.MetaPathFinder):
    """Makes packages look as if they were not installed, and pycuda.driver as if there were no libcuda."""

    def __init__(self, names: list[str], driver: bool) -> None:
        self._names, self._driver = names, driver

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if _top(name) in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == "pycuda.driver" and not self._driver:
            raise ImportError("libcuda.so.1: cannot open shared object file: No such file or directory")


def build_plan(onnx: Path, plan: Path, batch: int | None = None) -> Path:
    """Build a plan with the simulated TensorRT that is installed, without a sidecar, and return its path.

    batch: for a graph whose batch is free: the plan takes 1 to `batch` images.
    """
    import tensorrt as trt

    builder = trt.Builder(trt.Logger())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, builder.logger).parse_from_file(str(onnx))
    config = builder.create_builder_config()
    if batch:
        profile, rest = builder.create_optimization_profile(), tuple(network.get_input(0).shape)[1:]
        profile.set_shape("image", (1, *rest), (batch, *rest), (batch, *rest))
        config.add_optimization_profile(profile)
    plan.write_bytes(builder.build_serialized_network(network, config))
    return plan


def _forget_probes() -> None:
    """Drop what the project keeps for the length of a process."""
    for module, function in (("nvidia.capabilities", "probe"), ("nvidia.log", "tensorrt_logger")):
        if loaded := sys.modules.get(f"pix2pix_edge.runtime.{module}"):
            getattr(loaded, function).cache_clear()


@contextlib.contextmanager
def simulations() -> Iterator[Start]:
    """Give what simulated_tensorrt gives; fail a test that leaves a mistake, or does not give everything back."""
    with contextlib.ExitStack() as stack:
        made: list[Simulator] = []

        def start(version: str, **options: Any) -> Simulator:
            if made:
                assert not made[-1].mistakes, made[-1].mistakes
            made.append(stack.enter_context(install(version, **options)))
            return made[-1]

        yield start
        gc.collect()
        if made:  # one driver, and what the last one found counts
            assert not made[-1].mistakes, made[-1].mistakes
            assert made[-1].gpu.settings.fault or not made[-1].gpu.leftovers(), made[-1].gpu.leftovers()


def run_simulated(*command: str | Path, version: str = "10.3") -> subprocess.CompletedProcess[str]:
    """Run a command of this project under the simulator, in a process of its own."""
    if reason := fake_cuda.missing():
        pytest.skip(reason)
    return python("-m", "tests.simulator", version, *command)
