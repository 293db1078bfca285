"""The simulator itself: each mistake, planted, must fail; and its API must be that of the real module."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.tensorrt import TensorRTEngine
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia.cuda import Device
from tests.export.small_network import write_small_network
from tests.fake_cuda import SimulatorError
from tests.simulator import Simulator, build_plan, run_simulated
from tests.simulator.conftest import IMAGE, TRANSLATED


@pytest.fixture
def driver(simulator: Simulator) -> Any:
    import pycuda.driver

    return pycuda.driver


@pytest.fixture
def context(simulator: Simulator, driver: Any) -> Iterator[Any]:
    """A context pushed in this thread."""
    driver.init()
    made = driver.Device(0).retain_primary_context()
    made.push()
    yield made
    if simulator.gpu.has_context():
        driver.Context.pop()
        made.detach()


# Mistakes planted in the engine


def test_reading_the_output_before_synchronising(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRTEngine, "_wait", lambda self, slot: slot.finished.release())
    with open_engine(plan) as engine:
        assert (engine(IMAGE) == 0xA5).all()  # not yet written, and never by chance right


def test_computing_before_the_upload_has_ended(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRTEngine, "_copy_in", lambda self, slot: slot.input.upload(self._up))
    with open_engine(plan) as engine:
        assert not (engine(IMAGE) == TRANSLATED).any()


def test_downloading_before_computing_has_ended(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(plan) as engine:
        assert (engine(IMAGE) == TRANSLATED).all()
        monkeypatch.setattr(engine._down, "wait_for_event", lambda event: None, raising=False)
        with pytest.raises(EngineError, match="device not ready"):  # the time of computing is not known yet
            engine(IMAGE)


def test_copying_from_pageable_memory(plan: Path, simulator: Simulator) -> None:
    with open_engine(plan, slots=1) as engine:
        buffer = engine._slots[0].input
        pinned, buffer.host = buffer.host, np.zeros(buffer.host.shape, np.uint8)
        with pytest.raises(EngineError, match="cuMemcpyHtoDAsync failed: invalid argument"):
            engine(IMAGE)
        buffer.host = pinned
    assert simulator.mistakes == ["cuMemcpyHtoDAsync of pageable memory: it is not asynchronous"]


def test_using_a_buffer_after_it_was_freed(simulator: Simulator, driver: Any) -> None:
    def use_after_free(device: Device) -> None:
        stream, buffer = device.stream(), device.buffer((4,), np.uint8)
        buffer.upload(stream)
        buffer.free()
        stream.synchronize()

    with Device() as device, pytest.raises(driver.LogicError, match="illegal memory access"):
        device.owner.call(use_after_free, device)
    assert simulator.mistakes == ["a copy runs after its page-locked memory was freed"]


def test_computing_in_a_buffer_that_was_freed(plan: Path, simulator: Simulator, driver: Any) -> None:
    with open_engine(plan, slots=1) as engine:
        slot = engine._slots[0]

        def run() -> None:
            slot.graph.launch()
            slot.output.free()
            engine._compute.synchronize()

        with pytest.raises(driver.LogicError, match="illegal memory access"):
            engine._device.owner.call(run)
        slot.output = None
    assert re.match(r"tensor translated uses \d+ bytes at 0x\w+: freed", simulator.mistakes[0])


def test_calling_from_a_thread_without_a_context(plan: Path, driver: Any) -> None:
    with open_engine(plan) as engine:
        slot = engine._slots[0]
        for action in (driver.Stream, lambda: slot.input.upload(engine._up), slot.done.synchronize):
            with pytest.raises(driver.LogicError, match=r"no currently active context|invalid device context"):
                action()
        with pytest.raises(SimulatorError, match="TensorRT would take the primary one"):
            slot.context.execute_async_v3(engine._compute.handle)


def test_a_missing_input_shape(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = write_small_network(tmp_path / "free.onnx", batch="N")
    make = TensorRTEngine._make_context

    def without_shape(self: TensorRTEngine) -> Any:
        self._free_batch = False
        return make(self)

    monkeypatch.setattr(TensorRTEngine, "_make_context", without_shape)
    with pytest.raises(EngineError, match=r"does not start .*Input tensor image has no shape set"):
        open_engine(build_plan(graph, tmp_path / "free.plan", batch=2))


def test_replaying_a_graph_after_an_address_changed(plan: Path, simulator: Simulator) -> None:
    with open_engine(plan, slots=2) as engine:
        one, other = engine._slots
        engine._device.owner.call(one.context.set_tensor_address, "image", other.input.address)
        with pytest.raises(EngineError, match="illegal memory access"):
            engine(IMAGE)
    assert simulator.mistakes == ["a graph is replayed after an address or a shape of its context was changed"]


def test_capturing_what_has_not_run_before(plan: Path, simulator: Simulator) -> None:
    """TensorRT reserves memory when it first runs, which a capture forbids."""
    with open_engine(plan, slots=1) as engine:

        def capture() -> None:
            context = engine._make_context()
            for name in ("image", "translated"):
                context.set_tensor_address(name, engine._slots[0].input.address)
            engine._device.capture(engine._compute, lambda: context.execute_async_v3(engine._compute.handle))

        with pytest.raises(EngineError, match="STREAM_CAPTURE_INVALIDATED"):
            engine._device.owner.call(capture)


# Wrong order of destruction


def test_freeing_buffers_before_the_execution_context(plan: Path, simulator: Simulator) -> None:
    engine = open_engine(plan, slots=1)
    slot = engine._slots[0]
    engine._device.owner.call(lambda: (slot.graph.free(), slot.input.free(), slot.output.free()))
    slot.graph = slot.input = slot.output = None
    engine.close()
    assert simulator.mistakes == ["a buffer was freed before the execution context that uses it"]


def test_freeing_the_execution_context_before_its_graph(plan: Path, simulator: Simulator) -> None:
    engine = open_engine(plan, slots=1)
    engine._device.owner.call(lambda: setattr(engine._slots[0], "context", None))
    engine.close()
    assert simulator.mistakes == ["an execution context was destroyed before the graph that was captured from it"]


def test_destroying_the_engine_in_another_thread(plan: Path, simulator: Simulator) -> None:
    engine = open_engine(plan, slots=1)
    slot = engine._slots[0]
    engine._device.owner.call(slot.graph.free)
    slot.graph = slot.context = None  # here, where no context is current
    engine.close()
    assert simulator.mistakes[0] == "an execution context was destroyed in a thread without a CUDA context"
    assert "2 device memory" in simulator.mistakes[1]  # what TensorRT could not free


def test_giving_the_context_back_first(context: Any, simulator: Simulator, driver: Any) -> None:
    memory, stream = driver.mem_alloc(16), driver.Stream()
    driver.Context.pop()
    context.detach()
    assert simulator.mistakes[0].startswith("the context was given back while these live: 1 stream, 1 device memory")
    del memory, stream
    assert simulator.gpu.leftovers()[:2] == ["1 stream", "1 device memory"]  # pycuda leaks what outlives its context


def test_destroying_a_stream_with_work_on_it(context: Any, simulator: Simulator, driver: Any) -> None:
    stream, event = driver.Stream(), driver.Event()
    event.record(stream)
    del stream
    assert simulator.mistakes == ["a stream was destroyed with work that nobody waited for"]


def test_freeing_in_another_thread(context: Any, simulator: Simulator, driver: Any) -> None:
    held = [driver.mem_alloc(16)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert simulator.gpu.leftovers()[0] == "1 device memory"  # pycuda leaks it, and says so on stderr


@pytest.mark.parametrize("thread", [False, True])
def test_what_ends_with_a_context_pushed(tmp_path: Path, thread: bool) -> None:
    push = "driver.Device(0).retain_primary_context().push()"
    if thread:
        push = f"worker = threading.Thread(target=lambda: {push})\nworker.start()\nworker.join()\n"
    script = tmp_path / "careless.py"
    script.write_text(f"import threading\nimport pycuda.driver as driver\ndriver.init()\n{push}\n")
    done = run_simulated(script)
    assert done.returncode in (-signal.SIGABRT, 134)
    assert "context stack was not empty" in done.stderr if thread else "1 context on the stack" in done.stderr


def test_freeing_twice_and_reading_what_was_freed(context: Any, driver: Any) -> None:
    memory, pinned = driver.mem_alloc(16), driver.pagelocked_empty((4,), np.uint8)
    pinned[:] = 1
    memory.free()
    pinned.base.free()
    assert (pinned == 0xA5).all()
    with pytest.raises(driver.LogicError, match="invalid resource handle"):
        memory.free()


def test_running_over_the_end_of_a_buffer(context: Any, simulator: Simulator, driver: Any) -> None:
    memory, stream = driver.mem_alloc(16), driver.Stream()
    with pytest.raises(driver.LogicError, match="cuMemcpyHtoDAsync failed: invalid argument"):
        driver.memcpy_htod_async(memory, driver.pagelocked_empty((32,), np.uint8), stream)
    assert simulator.mistakes == ["cuMemcpyHtoDAsync of 32 bytes that are not reserved on the GPU"]


def test_giving_tensorrt_host_memory_that_is_not_mapped(plan: Path, simulator: Simulator) -> None:
    with open_engine(plan, slots=1) as engine:
        slot = engine._slots[0]
        with pytest.raises(SimulatorError, match="host memory that is not mapped"):
            engine._device.owner.call(slot.context.set_tensor_address, "image", slot.input.host.ctypes.data)
