"""CUDA for the TensorRT engine, and the only module that knows pycuda and cuda-bindings.

All CUDA work happens in threads of our own that hold the GPU's primary context: one makes, starts and frees everything,
one waits for the GPU. The caller's threads only exchange numpy arrays with them. So any thread may use an engine, and
Ctrl-C, which Python delivers to the main thread alone, can never leave a context pushed: pycuda would abort the
process at its end.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.errors import EngineError, MissingPackageError
from pix2pix_edge.runtime.nvidia.capabilities import probe

Result = TypeVar("Result")

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: other libraries' work on the default stream does not hold this stream up."""


class GpuMemoryError(EngineError):
    """The GPU has not enough free memory."""


class CaptureError(EngineError):
    """Work cannot be captured as a CUDA graph; run it without."""


def pycuda_driver() -> ModuleType:
    """Return the initialised `pycuda.driver`.

    Raises EngineError without a driver or a GPU, MissingPackageError without pycuda.
    """
    probe().require_gpu()
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        raise MissingPackageError(
            f"running a plan needs the package pycuda, which {'is not installed' if missing else 'is broken'}"
            f" ({error}); run: PATH=/usr/local/cuda/bin:$PATH pip install pycuda"
        ) from error
    with explained("start CUDA"):
        driver.init()
    return driver


@contextlib.contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn pycuda's errors into EngineError; `action` completes "cannot …"."""
    import pycuda.driver as driver

    try:
        yield
    except driver.MemoryError as error:
        raise GpuMemoryError(f"cannot {action}: the GPU is out of memory; close other programs that use it") from error
    except driver.Error as error:
        text = str(error)
        if "busy or unavailable" in text or "exclusive" in text:
            raise EngineError(
                f"cannot {action}: another process holds the GPU for itself;"
                " end it, or allow sharing with: sudo nvidia-smi -c DEFAULT"
            ) from error
        raise EngineError(f"cannot {action}: {text}; run nvidia-smi, and restart the program") from error


class CudaThread:
    """A thread that has a CUDA context current and runs, in order, what it is given."""

    def __init__(self, name: str, enter: Callable[[], None], leave: Callable[[], None]) -> None:
        """`enter` makes the context current and `leave` takes it off again, both in the thread.

        Raises what `enter` raises.
        """
        self._jobs: SimpleQueue[tuple[Callable[..., Any], Any] | None] = SimpleQueue()
        self._leave: Callable[[], None] | None = None
        # A daemon: Python joins other threads before the exit handlers that close an engine.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        try:
            self.call(self._enter, enter, leave)
        except BaseException:
            self.close()
            raise

    def _enter(self, enter: Callable[[], None], leave: Callable[[], None]) -> None:
        enter()
        self._leave = leave

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, argument = job
            function(argument)
            del job, function, argument  # kept until the next job, they would keep CUDA objects alive
        if self._leave is not None:
            self._leave()

    def post(self, function: Callable[[Any], None], argument: Any) -> None:
        """Run `function(argument)` in the thread, and do not wait. It must not raise."""
        self._jobs.put((function, argument))

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run `function` in the thread, wait, and return its result or raise its error."""
        answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def run(_: None) -> None:
            try:
                answers.put((function(*arguments), None))
            except BaseException as error:
                _release_frames(error)
                answers.put((None, error))

        self.post(run, None)
        value, error = answers.get()
        if error is not None:
            raise error
        result: Result = value
        return result

    def close(self) -> None:
        """Finish what was given, leave the context, end the thread. A second call, after Ctrl-C say, waits again."""
        self._jobs.put(None)
        self._thread.join()


def _release_frames(error: BaseException | None) -> None:
    """Drop the local variables that a traceback keeps: CUDA objects must be freed in the thread that made them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Device:
    """The first GPU (CUDA_VISIBLE_DEVICES chooses) with its primary context, an owning and a waiting thread.

    TensorRT takes the primary context too, and so do other libraries. Streams, events, buffers and graphs are made,
    used and freed inside `owner`; inside `waiter` events may be waited for. `zero_copy`: the GPU shares the CPU's
    memory.
    """

    def __init__(self, release: Callable[[], None] = lambda: None) -> None:
        """`release` is called in the owning thread before the context is given back, and frees what was made under it.

        Raises MissingPackageError without pycuda, EngineError without a driver or a GPU, or when another has taken it.
        """
        self._driver = pycuda_driver()
        self._release = release
        self.owner = CudaThread("cuda", self._retain, self._give_back)
        try:
            self.waiter = CudaThread("cuda-wait", self._context.push, self._driver.Context.pop)
        except BaseException:
            self.owner.close()
            raise

    def _retain(self) -> None:
        with explained("use the GPU"):
            device = self._driver.Device(0)
            self.zero_copy = bool(device.get_attribute(self._driver.device_attribute.INTEGRATED))
            self._context = device.retain_primary_context()
            self._context.push()

    def _give_back(self) -> None:
        try:
            self._release()
        finally:
            self._driver.Context.pop()
            self._context.detach()

    def close(self) -> None:
        """Wait for what was given to both threads, free everything, and end them. A second call does nothing."""
        self.waiter.close()  # its context must be off its stack before the owner detaches
        self.owner.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stream(self) -> Any:
        """Make a stream (`pycuda.driver.Stream`)."""
        return self._driver.Stream(NON_BLOCKING)

    def drain(self, streams: Iterable[Any]) -> None:
        """Wait for streams, to free what they use; errors of their work were reported where its results are taken."""
        for stream in streams:
            with contextlib.suppress(self._driver.Error):
                stream.synchronize()

    def timer(self) -> Any:
        """Make an event (`pycuda.driver.Event`) that keeps time."""
        return self._driver.Event()

    def signal(self) -> Any:
        """Make an event that keeps no time, and lets a waiting CPU core sleep."""
        flags = self._driver.event_flags
        return self._driver.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """Make a buffer; raises GpuMemoryError."""
        return Buffer(self._driver, shape, dtype, self.zero_copy)

    def capture(self, stream: Any, start: Callable[[], None]) -> Graph:
        """Capture what `start()` starts on `stream`; raises CaptureError."""
        return Graph(stream, start)


class Buffer:
    """A tensor in page-locked host memory and on the GPU; where the GPU shares the CPU's memory, only once.

    `host`: the array (any thread may use it). `address`: where the GPU finds it.
    """

    def __init__(self, driver: ModuleType, shape: tuple[int, ...], dtype: Any, zero_copy: bool) -> None:
        self._driver = driver
        self._device: Any = None
        flags = driver.host_alloc_flags.DEVICEMAP if zero_copy else 0
        with explained("reserve buffers"):
            self.host: NDArray[Any] = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
            self._pinned: Any = self.host.base  # of this very array: a view's base is the array
            if zero_copy:
                self.address = int(self._pinned.get_device_pointer())
            else:
                self._device = driver.mem_alloc(self.host.nbytes)
                self.address = int(self._device)
        self.host.fill(0)

    def upload(self, stream: Any) -> None:
        """Start the copy to the GPU."""
        self._driver.memcpy_htod_async(self._device, self.host, stream)

    def download(self, stream: Any) -> None:
        """Start the copy to the host."""
        self._driver.memcpy_dtoh_async(self.host, self._device, stream)

    def free(self) -> None:
        """Give the memory back; `host` must not be used any more."""
        if self._device is not None:
            self._device.free()
        self.host = np.empty(0)
        self._pinned.free()


class Graph:
    """Captured work, started by one call to the driver instead of one a kernel.

    pycuda knows no graphs; cuda-bindings does (12.6 to 13, which agree on these calls).
    """

    def __init__(self, stream: Any, start: Callable[[], None]) -> None:
        """Raises CaptureError, and what `start` raises."""
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise CaptureError(f"cuda-bindings cannot be loaded ({error})") from error
        self._driver = driver
        self._stream = driver.CUstream(stream.handle)
        self._executable: Any = None
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._check(driver.cuStreamBeginCapture(self._stream, mode)[0])
        try:
            start()
        except BaseException:
            status, graph = driver.cuStreamEndCapture(self._stream)  # or the stream could not be used again
            if status == driver.CUresult.CUDA_SUCCESS:
                driver.cuGraphDestroy(graph)
            raise
        status, graph = driver.cuStreamEndCapture(self._stream)
        self._check(status)
        status, self._executable = driver.cuGraphInstantiate(graph, 0)
        driver.cuGraphDestroy(graph)
        self._check(status)

    def launch(self) -> None:
        """Start the captured work on the stream it was captured from; raises EngineError."""
        (status,) = self._driver.cuGraphLaunch(self._executable, self._stream)
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise EngineError(f"the CUDA graph does not start ({status.name})")

    def free(self) -> None:
        """Destroy the graph; before the buffers and the execution context that it uses."""
        self._driver.cuGraphExecDestroy(self._executable)

    def _check(self, status: Any) -> None:
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise CaptureError(status.name)
