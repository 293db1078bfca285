"""CUDA threads, buffers and graphs over real pycuda and cuda-bindings on a fake driver; tests/gpu asks a GPU."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import EngineError, MissingPackageError
from pix2pix_edge.runtime.nvidia.cuda import CaptureError, CudaThread, Device, GpuMemoryError, explained, pycuda_driver
from tests.simulator import Start


def nothing() -> None:
    """A context that needs no entering."""


# Threads


def test_a_thread_runs_what_it_is_given_in_order() -> None:
    seen: list[Any] = []
    thread = CudaThread("worker", lambda: seen.append("enter"), lambda: seen.append("leave"))
    for i in range(3):
        thread.post(seen.append, i)
    assert thread.call(lambda a, b: (threading.current_thread().name, a + b), 1, 2) == ("worker", 3)
    thread.close()
    thread.close()
    assert seen == ["enter", 0, 1, 2, "leave"]


def test_errors_come_back_to_the_caller_and_the_thread_lives_on() -> None:
    thread = CudaThread("worker", nothing, nothing)
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert thread.call(lambda: 5) == 5
    thread.close()


def test_an_error_keeps_nothing_of_its_frames_alive() -> None:
    """CUDA objects must be freed in the thread that made them, and a traceback would carry them out."""

    class Resource:
        pass

    alive: list[weakref.ref[Resource]] = []
    freed_in: list[str] = []

    def fail() -> None:
        resource = Resource()
        alive.append(weakref.ref(resource))
        weakref.finalize(resource, lambda: freed_in.append(threading.current_thread().name))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    thread = CudaThread("worker", nothing, nothing)
    with pytest.raises(ValueError, match="outer") as caught:
        thread.call(fail)
    assert caught.value.__traceback__ is not None and alive[0]() is None
    assert freed_in == ["worker"]
    thread.close()


def test_a_thread_whose_context_fails_ends_and_does_not_leave_it() -> None:
    seen: list[str] = []

    def enter() -> None:
        raise EngineError("no context")

    with pytest.raises(EngineError, match="no context"):
        CudaThread("failing-worker", enter, lambda: seen.append("leave"))
    assert seen == [] and not any(t.name == "failing-worker" for t in threading.enumerate())


def test_ctrl_c_while_closing_can_be_made_good(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    thread = CudaThread("worker", nothing, lambda: seen.append("leave"))
    join, calls = thread._thread.join, iter([KeyboardInterrupt()])

    def interrupted() -> None:
        for error in calls:
            raise error
        join()

    monkeypatch.setattr(thread._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        thread.close()
    thread.close()
    assert seen == ["leave"]


# Devices, buffers


@pytest.mark.parametrize("integrated", [False, True])
def test_a_buffer_goes_to_the_gpu_and_back(simulated_tensorrt: Start, integrated: bool) -> None:
    simulator = simulated_tensorrt("10.3", integrated=integrated)

    def round_trip(device: Device) -> list[int]:
        stream, buffer = device.stream(), device.buffer((2, 3), np.uint8)
        assert buffer.host.shape == (2, 3) and not buffer.host.any()
        assert (buffer.address == buffer.host.ctypes.data) is integrated
        buffer.host[:] = 7
        if not integrated:
            buffer.upload(stream)
            stream.synchronize()
            buffer.host[:] = 0
            buffer.download(stream)
            stream.synchronize()
        found = simulator.gpu.device_bytes(buffer.address, 6, "test").tolist() + buffer.host.reshape(-1).tolist()
        buffer.free()
        return found

    with Device() as device:
        assert device.zero_copy is integrated
        assert device.owner.call(round_trip, device) == [7] * 12


def test_events_time_work_and_signal_its_end(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")

    def start(device: Device) -> Any:
        stream, before, after, done = device.stream(), device.timer(), device.timer(), device.signal()
        before.record(stream)
        after.record(stream)
        done.record(stream)
        return stream, before, after, done

    with Device() as device:
        held = list(device.owner.call(start, device))
        assert device.waiter.call(lambda: held[3].synchronize() is held[3])
        assert device.waiter.call(lambda: held[1].time_till(held[2])) >= 0
        device.owner.call(held.clear)


def test_release_runs_in_the_owning_thread_while_its_context_is_current(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")
    import pycuda.driver as driver

    seen: list[str] = []

    def release() -> None:
        driver.Stream()  # needs a context
        seen.append(threading.current_thread().name)

    device = Device(release)
    device.close()
    device.close()
    assert seen == ["cuda"]


def test_too_large_a_buffer_says_so_and_leaves_nothing(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3", total_memory=1000)
    with Device() as device, pytest.raises(GpuMemoryError, match="the GPU is out of memory; close other programs"):
        device.owner.call(device.buffer, (2000,), np.uint8)


# Graphs


def test_a_graph_replays_what_was_captured(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")

    def replay(device: Device) -> list[int]:
        stream, buffer = device.stream(), device.buffer((4,), np.uint8)
        graph = device.capture(stream, lambda: buffer.upload(stream))
        found = []
        for value in (3, 4):
            buffer.host[:] = value
            graph.launch()
            stream.synchronize()  # the download would overwrite what the upload still has to read
            buffer.download(stream)
            stream.synchronize()
            found.append(int(buffer.host[0]))
        graph.free()
        buffer.free()
        return found

    with Device() as device:
        assert device.owner.call(replay, device) == [3, 4]


def test_a_failed_capture_leaves_the_stream_usable(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")

    def capture(device: Device) -> str:
        stream, buffer = device.stream(), device.buffer((4,), np.uint8)
        with pytest.raises(EngineError, match="does not start"):
            device.capture(stream, lambda: (_ for _ in ()).throw(EngineError("does not start")))
        with pytest.raises(CaptureError, match="STREAM_CAPTURE_INVALIDATED"):
            device.capture(stream, lambda: _ignore(stream.synchronize))
        buffer.upload(stream)
        stream.synchronize()
        buffer.free()
        return "usable"

    with Device() as device:
        assert device.owner.call(capture, device) == "usable"


def _ignore(action: Callable[[], Any]) -> None:
    with pytest.raises(Exception, match="not permitted when stream is capturing"):
        action()


# Bad input


@pytest.mark.parametrize(
    ("machine", "kind", "said"),
    [
        ({"pycuda": False}, MissingPackageError, r"pycuda, which is not installed.*run: .*pip install pycuda"),
        ({"driver": False}, EngineError, "no NVIDIA driver here"),
        ({"present": False}, EngineError, "finds no GPU"),
        ({"taken": True}, EngineError, "cannot use the GPU: another process holds the GPU for itself; end it, or"),
    ],
)
def test_what_keeps_a_gpu_from_being_used(
    simulated_tensorrt: Start, machine: dict[str, bool], kind: type[Exception], said: str
) -> None:
    simulated_tensorrt("10.3", **machine)
    threads = threading.active_count()
    with pytest.raises(kind, match=said):
        Device()
    assert threading.active_count() == threads


def test_other_errors_keep_the_drivers_words(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")
    driver = pycuda_driver()
    said = "cannot look: cuDeviceGet failed: invalid device ordinal; run nvidia-smi"
    with pytest.raises(EngineError, match=said), explained("look"):
        driver.Device(7)
