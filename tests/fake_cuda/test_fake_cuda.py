"""The fake CUDA driver under real pycuda and cuda-bindings: the GPU's own tests pass on it, and failures are met."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.cuda import CaptureError, Device
from tests import fake_cuda
from tests.commands import python
from tests.conftest import write_inverter
from tests.simulator import Simulator, build_plan, install, run_simulated
from tests.simulator.conftest import IMAGE, SIZE, plan, simulator

__all__ = ["plan", "simulator"]


@pytest.mark.parametrize(
    "tests", ["tests/gpu/test_gpu.py", pytest.param("tests/gpu/test_gpu_engine.py", marks=pytest.mark.slow)]
)
def test_what_is_tested_on_a_gpu_passes(tests: str) -> None:
    """No mistake is seen either: the driver would end the process with an abort."""
    if reason := fake_cuda.missing():
        pytest.skip(reason)
    done = python("-m", "pytest", "-rA", "-p", "no:cacheprovider", "-m", "gpu", tests, **fake_cuda.environment())
    assert done.returncode == 0 and done.stdout.count("\nPASSED") >= 10, done.stdout + done.stderr


# Injected failures


def test_memory_may_run_out_at_any_allocation(plan: Path, simulator: Simulator) -> None:
    """The plan, each buffer, each execution context and what TensorRT reserves when it first runs."""
    refused = 0
    for nth in range(1, 50):
        simulator.gpu.settings.fail_allocation = nth
        try:
            open_engine(plan).close()
        except EngineError as error:
            refused += 1
            assert "memory" in str(error) and "\n" not in str(error)
        else:
            break
        assert not simulator.gpu.leftovers(), (nth, simulator.gpu.leftovers())
    assert refused == 13 and not simulator.mistakes


@pytest.mark.parametrize("graphs", [True, False])
def test_a_launch_that_fails(tmp_path: Path, graphs: bool) -> None:
    with install("11.4", graphs=graphs) as simulator:
        plan = build_plan(write_inverter(tmp_path / "inverter.onnx", SIZE), tmp_path / "inverter.plan")
        with open_engine(plan) as engine:
            simulator.gpu.settings.fail_launch = 3
            assert [int(engine(IMAGE)[0, 0, 0, 0]) for _ in range(2)] == [246, 246]
            for _ in range(3):  # a fault stays
                with pytest.raises(EngineError, match="the GPU failed while translating"):
                    engine(IMAGE)
        assert simulator.gpu.settings.fault == fake_cuda.LAUNCH_FAILED and not simulator.mistakes


def test_a_device_that_is_lost(plan: Path, simulator: Simulator) -> None:
    engine = open_engine(plan)
    ticket = engine.submit(IMAGE)
    ticket.result()
    simulator.gpu.settings.fault = fake_cuda.UNKNOWN
    with pytest.raises(EngineError, match=r"failed while translating \(.*unknown error.*restart the program"):
        engine(IMAGE)
    engine.close()  # ends, though nothing can be freed
    capabilities.probe.cache_clear()
    with pytest.raises(EngineError, match=r"cuInit: error 999, unknown error\); run nvidia-smi"):
        open_engine(plan)


# Captures


def on_device(work: Callable[[Device], Any]) -> Any:
    with Device() as device:
        return device.owner.call(work, device)


def test_a_capture_is_spoiled_by_what_a_gpu_forbids(simulator: Simulator) -> None:
    def work(device: Device) -> list[str]:
        stream, other, event, buffer = device.stream(), device.stream(), device.timer(), device.buffer((8,), np.uint8)
        event.record(stream)
        refused = []
        for forbidden in (
            stream.synchronize,
            lambda: device.buffer((8,), np.uint8),  # reserves memory
            event.synchronize,
            lambda: other.wait_for_event(event),
        ):
            with pytest.raises(Exception) as said:
                device.capture(stream, forbidden)
            refused.append(str(said.value))
        buffer.upload(other)
        other.synchronize()  # of other streams nothing is forbidden
        device.capture(stream, lambda: buffer.upload(stream)).free()
        stream.synchronize()
        buffer.free()
        return refused

    assert all("captur" in said or "unknown" in said for said in on_device(work))


def test_another_thread_may_reserve_memory_while_one_captures(simulator: Simulator) -> None:
    import pycuda.driver as driver

    def work(device: Device) -> None:
        stream = device.stream()

        def elsewhere() -> None:
            device._context.push()
            driver.mem_alloc(8).free()
            driver.Context.pop()

        def start() -> None:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()

        device.capture(stream, start).free()

    on_device(work)
    assert not simulator.mistakes and not simulator.gpu.leftovers()


def test_streams_that_cannot_be_captured(tmp_path: Path) -> None:
    with install("10.3", capturable=False), pytest.raises(CaptureError, match="STREAM_CAPTURE_UNSUPPORTED"):
        on_device(lambda device: device.capture(device.stream(), lambda: None))


# Context pops taken out


def test_the_waiting_thread_must_pop_its_context(tmp_path: Path) -> None:
    """pycuda itself finds it: it aborts the process when the thread ends."""
    script = tmp_path / "careless.py"
    script.write_text(
        "from pix2pix_edge.runtime.nvidia import cuda\n"
        "init = cuda.CudaThread.__init__\n"
        "def careless(self, name, enter, leave):\n"
        "    init(self, name, enter, leave if name == 'cuda' else lambda: None)\n"
        "cuda.CudaThread.__init__ = careless\n"
        "cuda.Device().close()\n"
    )
    done = run_simulated(script)
    assert done.returncode != 0 and "context stack was not empty" in done.stderr, done.stderr


def test_asking_for_memory_must_pop_its_context(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver finds it."""
    monkeypatch.setattr(capabilities.CudaDriver, "free_memory", _without_pop)
    capabilities.memory()
    assert simulator.gpu.leftovers() == ["1 context on the stack"]


def _without_pop(driver: capabilities.CudaDriver) -> int:
    import ctypes

    context, library = ctypes.c_void_p(), driver._library
    library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    library.cuCtxPushCurrent_v2(context)
    library.cuDevicePrimaryCtxRelease_v2(0)
    return 0
