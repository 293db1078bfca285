"""CUDA threads, buffers and graphs over real pycuda and cuda-bindings on a fake driver; tests/gpu asks a GPU."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest

from pix2pix_edge.runtime.errors import EngineError, MissingPackageError
from pix2pix_edge.runtime.nvidia.cuda import CudaThread, Device, explained, pycuda_driver
from tests.runtime.doubles import leaves_nothing
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


# Devices; tests/gpu has their buffers, events and graphs, and runs on this driver too


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
    with leaves_nothing(), pytest.raises(kind, match=said):
        Device()


def test_other_errors_keep_the_drivers_words(simulated_tensorrt: Start) -> None:
    simulated_tensorrt("10.3")
    driver = pycuda_driver()
    said = "cannot look: cuDeviceGet failed: invalid device ordinal; run nvidia-smi"
    with pytest.raises(EngineError, match=said), explained("look"):
        driver.Device(7)
