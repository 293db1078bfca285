"""On a real GPU: buffers, streams, events, graphs, threads and teardown, with pycuda and cuda-bindings.

pytest -m gpu
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.cuda import CaptureError, Device, GpuMemoryError
from tests.conftest import in_threads
from tests.gpu.inverting_tensorrt import Inverter

pytestmark = pytest.mark.gpu


def test_buffers_go_to_the_gpu_and_back(device: Device) -> None:
    def round_trips() -> None:
        stream, buffer = device.stream(), device.buffer((3, 100, 7), np.float32)
        for value in np.random.default_rng(0).normal(size=(50, *buffer.host.shape)).astype(np.float32):
            buffer.host[:] = value
            if not device.zero_copy:
                buffer.upload(stream)
                stream.synchronize()
                buffer.host[:] = 0
                buffer.download(stream)
            stream.synchronize()
            np.testing.assert_array_equal(buffer.host, value)
        buffer.free()

    device.owner.call(round_trips)


def invert(device: Device, start: Callable[[Callable[[], None]], None]) -> None:
    """Invert random bytes in the owning thread; `start` decides how the kernel is started."""

    def work() -> None:
        stream, kernel = device.stream(), Inverter()
        source, target = device.buffer((1000,), np.uint8), device.buffer((1000,), np.uint8)
        before, after, done = device.timer(), device.timer(), device.signal()

        def once() -> None:
            assert kernel.start(source.address, target.address, 1000, stream.handle)

        launch = start(once) if start else once
        values = np.random.default_rng(0)
        for _ in range(100):
            source.host[:] = values.integers(0, 256, 1000)
            if not device.zero_copy:
                source.upload(stream)
            before.record(stream)
            launch()
            after.record(stream)
            if not device.zero_copy:
                target.download(stream)
            done.record(stream)
            done.synchronize()
            np.testing.assert_array_equal(target.host, 255 - source.host)
            assert 0 < before.time_till(after) < 1000
        source.free()
        target.free()

    device.owner.call(work)


def test_a_kernel_on_a_stream_timed_by_events(device: Device) -> None:
    invert(device, None)


def test_zero_copy_buffers_are_seen_by_both_sides(device: Device) -> None:
    device.zero_copy = True  # a discrete GPU reads mapped memory too, over the bus
    invert(device, None)


def test_a_captured_kernel_replays(device: Device) -> None:
    pytest.importorskip("cuda.bindings")

    def work() -> None:
        stream, kernel = device.stream(), Inverter()
        source, target = device.buffer((1000,), np.uint8), device.buffer((1000,), np.uint8)
        graph = device.capture(
            stream, lambda: kernel.start(source.address, target.address, 1000, stream.handle, times=5) or None
        )
        for value in range(50):
            source.host[:] = value
            if not device.zero_copy:
                source.upload(stream)
            graph.launch()
            if not device.zero_copy:
                target.download(stream)
            stream.synchronize()
            assert (target.host == 255 - value).all()
        graph.free()
        source.free()
        target.free()

    device.owner.call(work)


def test_a_failed_capture_leaves_the_stream_usable(device: Device) -> None:
    pytest.importorskip("cuda.bindings")

    def work() -> None:
        stream, buffer = device.stream(), device.buffer((1000,), np.uint8)

        def forbidden() -> None:
            with pytest.raises(Exception, match=r"captur"):
                stream.synchronize()

        def refused() -> None:
            raise EngineError("refused")

        with pytest.raises(CaptureError):
            device.capture(stream, forbidden)
        with pytest.raises(EngineError, match="refused"):
            device.capture(stream, refused)
        if not device.zero_copy:
            buffer.upload(stream)
        stream.synchronize()
        buffer.free()

    device.owner.call(work)


def test_more_memory_than_there_is(device: Device) -> None:
    with pytest.raises(GpuMemoryError, match="the GPU is out of memory; close other programs"):
        device.owner.call(device.buffer, (1 << 44,), np.uint8)
    device.owner.call(lambda: device.buffer((10,), np.uint8).free())


def test_many_devices_in_many_threads() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                with Device() as device:
                    invert(device, None)
        except BaseException as error:
            failures.append(error)

    with in_threads(*[work] * 4):
        pass
    assert not failures and not any(thread.name.startswith("cuda") for thread in threading.enumerate())


def test_an_event_is_waited_for_in_the_other_thread(device: Device) -> None:
    held: list[Any] = []

    def start() -> None:
        stream, done = device.stream(), device.signal()
        done.record(stream)
        held.extend((stream, done))

    device.owner.call(start)
    device.waiter.call(lambda: held[1].synchronize() and None)
    device.owner.call(held.clear)


def test_the_probe_agrees_with_pycuda(gpu: capabilities.Gpu) -> None:
    import pycuda.driver as driver

    driver.init()
    device = driver.Device(0)
    assert (gpu.name, gpu.compute_capability) == (device.name(), device.compute_capability())
    assert gpu.total_memory == device.total_memory()
    assert gpu.integrated == bool(device.get_attribute(driver.device_attribute.INTEGRATED))


def test_another_library_may_use_the_primary_context_meanwhile(device: Device) -> None:
    library = ctypes.CDLL("libcuda.so.1")
    context = ctypes.c_void_p()
    assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    invert(device, None)
    assert library.cuDevicePrimaryCtxRelease_v2(0) == 0
    invert(device, None)
