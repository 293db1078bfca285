"""The engine on a real GPU: with TensorRT where it is installed; a stand-in computes for the rest of the tests.

pytest -m gpu
"""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.cuda import CaptureError, Device
from pix2pix_edge.runtime.nvidia.log import tensorrt_logger
from tests.commands import export, python, start
from tests.conftest import in_threads
from tests.gpu.inverting_tensorrt import PLAN, make_module

SIZE = 256

pytestmark = pytest.mark.gpu


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plan for the stand-in, which takes the place of TensorRT."""
    monkeypatch.setitem(sys.modules, "tensorrt", make_module(SIZE, times=21))
    capabilities.probe.cache_clear()
    tensorrt_logger.cache_clear()
    path = tmp_path / "inverter.plan"
    path.write_bytes(PLAN)
    yield path
    capabilities.probe.cache_clear()
    tensorrt_logger.cache_clear()


@pytest.fixture(params=["graph", "plain", "zero-copy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, plan: Path) -> str:
    """How frames are started and reach the GPU."""
    if request.param == "graph":
        pytest.importorskip("cuda.bindings")
    if request.param == "plain":
        monkeypatch.setattr(Device, "capture", lambda *_: (_ for _ in ()).throw(CaptureError("not wanted")))
    if request.param == "zero-copy":
        retain = Device._retain

        def mapped(self: Device) -> None:
            retain(self)
            self.zero_copy = True

        monkeypatch.setattr(Device, "_retain", mapped)
    return str(request.param)


def pictures(count: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, 1, SIZE, SIZE, 3), dtype=np.uint8)


def test_frames_that_overlap_come_back_right(plan: Path, way: str) -> None:
    frames = pictures(64)
    with open_engine(plan, slots=3) as engine:
        assert ("CUDA graph" in engine.describe()["start"]) is (way != "plain")
        tickets: list[Any] = []
        for i in range(600):
            tickets.append(engine.submit(frames[i % 64]))
            if len(tickets) == 3:
                ticket = tickets.pop(0)
                np.testing.assert_array_equal(ticket.result(), 255 - frames[(i - 2) % 64])
                assert ticket.compute_ns > 0
        for ticket, i in zip(tickets, (598, 599), strict=True):
            np.testing.assert_array_equal(ticket.result(), 255 - frames[i % 64])


def test_two_engines_at_once(plan: Path) -> None:
    frames = pictures(2)
    with open_engine(plan) as one, open_engine(plan) as other:
        for _ in range(100):
            pair = one.submit(frames[0]), other.submit(frames[1])
            np.testing.assert_array_equal(pair[0].result(), 255 - frames[0])
            np.testing.assert_array_equal(pair[1].result(), 255 - frames[1])


def test_any_thread_may_use_it(plan: Path) -> None:
    frames, failures = pictures(4), []
    turn = threading.Lock()  # one thread at a time is the contract
    with open_engine(plan) as engine:

        def work(frame: Any) -> None:
            for _ in range(50):
                with turn:
                    if not (engine(frame) == 255 - frame).all():
                        failures.append(frame)

        with in_threads(*(functools.partial(work, frame) for frame in frames)):
            pass
    assert not failures


def test_ten_thousand_frames_leave_memory_flat(plan: Path) -> None:
    frame = pictures(1)[0]
    with open_engine(plan) as engine:
        used = []
        for i in range(10_001):
            out = engine(frame)
            if i in (1_000, 10_000):
                rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                used.append((capabilities.memory().free, sys.getallocatedblocks(), rss))
        np.testing.assert_array_equal(out, 255 - frame)
    assert used[0][0] == used[1][0]
    assert used[1][1] - used[0][1] < 500
    assert used[1][2] - used[0][2] < 4096  # KiB


def test_opening_and_closing_gives_everything_back(plan: Path) -> None:
    def free_after(count: int) -> int:
        for _ in range(count):
            engine = open_engine(plan)
            engine(pictures(1)[0])
            engine.close()
            engine.close()
        return capabilities.memory().free

    assert free_after(2) == free_after(10)


SCRIPT = """
import sys, time
import numpy as np
from tests.gpu.inverting_tensorrt import make_module
sys.modules["tensorrt"] = make_module({size})
from pix2pix_edge.runtime.engine import open_engine
engine = open_engine({plan!r})
frame = np.zeros((1, {size}, {size}, 3), np.uint8)
print("open", int(engine(frame)[0, 0, 0, 0]), flush=True)
{rest}
"""


def program(plan: Path, rest: str) -> list[str]:
    return ["-c", SCRIPT.format(size=SIZE, plan=str(plan), rest=rest)]


def test_a_program_that_forgets_to_close_ends_well(plan: Path) -> None:
    done = python(*program(plan, "engine.submit(frame)"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "open 255\n", "")


def test_two_processes_on_one_gpu(plan: Path) -> None:
    words = program(plan, "for _ in range(300):\n    assert engine(frame).all()\nengine.close()")
    for process in [start(*words, stderr=subprocess.STDOUT) for _ in range(2)]:
        assert (process.communicate()[0], process.returncode) == ("open 255\n", 0)


def test_ctrl_c_ends_without_an_abort(plan: Path) -> None:
    with start(*program(plan, "while True:\n    engine(frame)")) as process:
        assert process.stdout is not None and process.stdout.readline() == "open 255\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in errors and "PyCUDA" not in errors


def test_what_pycuda_would_abort_for(tmp_path: Path) -> None:
    """A thread's context left pushed aborts a program: what CudaThread is for."""
    code = "import pycuda.driver as d; d.init(); d.Device(0).retain_primary_context().push()"
    done = python("-c", code)
    assert done.returncode == -signal.SIGABRT and "context stack was not empty" in done.stderr


def test_a_built_plan_translates_as_onnxruntime_does(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
    from tests.export.small_network import images, write_small_network

    graph, plan = write_small_network(tmp_path / "tiny.fp32.onnx"), tmp_path / "tiny.plan"
    assert export("build", graph, "--out", plan) == 0
    with open_engine(plan) as engine, OnnxRuntimeEngine(graph) as reference:
        for image in images(20):
            difference = np.abs(engine(image).astype(int) - reference(image))
            assert difference.max() <= 1  # rounding of .5, after sums in another order
