"""What this machine has: TensorRT, GPU, driver, board. Found once, by probing; nowhere else is a version compared.

The GPU is asked through the driver itself (libcuda), so that the answer does not depend on pycuda, and a machine
where pycuda is missing can still be told apart from one where the GPU is.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pix2pix_edge.runtime.errors import EngineError, MissingPackageError
from pix2pix_edge.runtime.files import text_of

PRODUCTS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""Packages with one API: the second is for PCs with RTX cards, and builds for them on a machine without any."""

OLDEST = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 7)}
"""From TensorRT 10.0 on networks can be strongly typed, and nothing is named by number; JetPack 6.1 brings 10.3. From
TensorRT-RTX 1.7 on it builds convolutions in INT8: 1.4, 1.5 and 1.6 refuse them in CHECK(dtype == …)."""

JETPACKS = {
    (39, 2, 1): "7.2.1", (39, 2): "7.2", (38, 4): "7.1", (38, 2): "7.0",
    (36, 5): "6.2.2", (36, 4, 7): "6.2.1", (36, 4, 4): "6.2.1", (36, 4, 3): "6.2", (36, 4): "6.1", (36, 3): "6.0",
    (35,): "5", (32,): "4",
}  # fmt: skip
"""Jetson Linux (L4T) release -> JetPack, longest match first (NVIDIA's JetPack archive)."""

_ATTRIBUTES = {"major": 75, "minor": 76, "integrated": 18}  # CUdevice_attribute in cuda.h
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Memory:
    """Bytes of GPU memory; on an integrated GPU that is the board's own memory."""

    total: int
    free: int


@dataclass(frozen=True)
class Gpu:
    """The GPU that will be used: the first one the driver shows (CUDA_VISIBLE_DEVICES chooses)."""

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    total_memory: int


@dataclass(frozen=True)
class Capabilities:
    """What probe() found. A "…_missing" text says why something is absent, and is "" where it is present."""

    package: str  # of PRODUCTS: which one "tensorrt" means in what follows
    tensorrt: str  # "10.3.0", as tensorrt.__version__ says; "" where it is absent
    tensorrt_missing: str
    network_flags: int  # what Builder.create_network takes to be strongly typed
    gpu: Gpu | None
    gpu_missing: str
    cuda: str  # newest CUDA that the driver supports, "12.6"
    driver: str  # driver release, "540.4.0"
    jetson_model: str
    l4t: str  # Jetson Linux release, "36.4.3"
    jetpack: str  # "6.2"
    pycuda: bool
    cuda_graphs: bool  # cuda-bindings is installed: pycuda itself cannot capture a graph

    @property
    def tensorrt_version(self) -> tuple[int, ...] | None:
        """(10, 3, 0), or None where TensorRT is absent."""
        return version_numbers(self.tensorrt) if self.tensorrt else None

    @property
    def product(self) -> str:
        """TensorRT or TensorRT-RTX."""
        return PRODUCTS[self.package]

    def trt(self) -> ModuleType:
        """Import the package."""
        return importlib.import_module(self.package)

    @property
    def int8(self) -> bool:
        """Whether the GPU multiplies INT8: from compute capability 6.1 on, but for the Jetson TX2 (6.2)."""
        return self.gpu is not None and self.gpu.compute_capability >= (6, 1) and self.gpu.compute_capability != (6, 2)

    def require_tensorrt(self) -> None:
        """Raise MissingPackageError when TensorRT cannot be imported, EngineError when it is too old."""
        if self.tensorrt_version is None:
            raise MissingPackageError(f"{self.product} {self.tensorrt_missing}; {self._install_tensorrt()}")
        if self.tensorrt_version[:2] < OLDEST[self.package]:
            oldest = ".".join(map(str, OLDEST[self.package]))
            new = "networks are strongly typed" if self.package == "tensorrt" else "it builds INT8"
            raise EngineError(
                f"{self.product} {self.tensorrt} is too old, because {new} only from {oldest} on;"
                f" {self._upgrade_tensorrt()}"
            )

    def require_gpu(self) -> Gpu:
        """Return the GPU; raises EngineError when there is none or its driver is missing."""
        if self.gpu is None:
            raise EngineError(self.gpu_missing)
        return self.gpu

    def _install_tensorrt(self) -> str:
        if self.package == "tensorrt_rtx":
            return (
                "it is for PCs with RTX cards; a Jetson's plan is built on the Jetson, without --rtx"
                if self.jetson_model
                else "run: pip install tensorrt-rtx"
            )
        if self.jetson_model:  # wheels on the package index are for servers, not for Jetson Linux
            return (
                "on a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, then use the system's"
                " Python or: python3 -m venv --system-site-packages .venv"
            )
        return "run: pip install 'pix2pix-edge[tensorrt]'"

    def _upgrade_tensorrt(self) -> str:
        if self.package == "tensorrt_rtx":
            return "run: pip install --upgrade tensorrt-rtx"
        if self.jetson_model:
            return f"flash JetPack 6.1 or newer (this board runs JetPack {self.jetpack or 'unknown'}, L4T {self.l4t})"
        return "run: pip install --upgrade 'tensorrt>=10,<12'"


class CudaDriver:
    """The few calls of NVIDIA's driver library that answer without a CUDA context."""

    def __init__(self) -> None:
        """Load and initialise libcuda; raises EngineError when it is absent or finds no GPU."""
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise EngineError(
                "there is no NVIDIA driver here (libcuda.so.1 cannot be loaded); install the driver, or in a container"
                " run it with: docker run --gpus all … (on a Jetson: --runtime nvidia)"
            ) from error
        status = self._library.cuInit(0)
        if status == _NO_DEVICE:
            raise EngineError("the NVIDIA driver finds no GPU; check CUDA_VISIBLE_DEVICES, and run: nvidia-smi")
        self._check(status, "cuInit")
        self._device = self._integer("cuDeviceGet", 0)

    def version(self) -> int:
        """Newest CUDA that the driver supports, as 12060 for 12.6."""
        return self._integer("cuDriverGetVersion")

    def gpu(self) -> Gpu:
        """Describe the first GPU."""
        name = ctypes.create_string_buffer(256)
        self._check(self._library.cuDeviceGetName(name, len(name), self._device), "cuDeviceGetName")
        total = ctypes.c_size_t()
        self._check(self._library.cuDeviceTotalMem_v2(ctypes.byref(total), self._device), "cuDeviceTotalMem")
        found = {k: self._integer("cuDeviceGetAttribute", a, self._device) for k, a in _ATTRIBUTES.items()}
        capability = (found["major"], found["minor"])
        return Gpu(name.value.decode(), capability, bool(found["integrated"]), total.value)

    def free_memory(self) -> int:
        """Bytes free on the first GPU; makes its primary context current while it asks."""
        context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
        library = self._library
        self._check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), self._device), "cuDevicePrimaryCtxRetain")
        try:
            self._check(library.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
            try:
                self._check(library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "cuMemGetInfo")
            finally:
                library.cuCtxPopCurrent_v2(ctypes.byref(context))
        finally:
            library.cuDevicePrimaryCtxRelease_v2(self._device)
        return free.value

    def _integer(self, call: str, *arguments: int) -> int:
        value = ctypes.c_int()
        self._check(getattr(self._library, call)(ctypes.byref(value), *arguments), call)
        return value.value

    def _check(self, status: int, call: str) -> None:
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            reason = (text.value or b"unknown error").decode()
            raise EngineError(
                f"the NVIDIA driver does not answer ({call}: error {status}, {reason}); run nvidia-smi,"
                " and reboot if the driver was updated since the last boot"
            )


@functools.cache
def probe(root: Path = Path("/"), package: str = "tensorrt") -> Capabilities:
    """Look once, and return what this machine has. `root` is where /etc and /proc are read from.

    package: of PRODUCTS, what is meant by "tensorrt".
    """
    tensorrt, missing, flags = _tensorrt(package)
    gpu, gpu_missing, cuda = None, "", ""
    try:
        driver = CudaDriver()
        gpu = driver.gpu()
        cuda = "{}.{}".format(*divmod(driver.version() // 10, 100))
    except EngineError as error:
        gpu_missing = str(error)
    l4t = _l4t(text_of(root / "etc/nv_tegra_release"))
    model = text_of(root / "proc/device-tree/model").strip("\0\n ")
    return Capabilities(
        package=package,
        tensorrt=tensorrt,
        tensorrt_missing=missing,
        network_flags=flags,
        gpu=gpu,
        gpu_missing=gpu_missing,
        cuda=cuda,
        driver=_driver_release(text_of(root / "proc/driver/nvidia/version")),
        jetson_model=model if "NVIDIA" in model or l4t else "",
        l4t=l4t,
        jetpack=_jetpack(l4t),
        pycuda=_installed("pycuda"),
        cuda_graphs=_installed("cuda.bindings"),
    )


def memory(root: Path = Path("/")) -> Memory:
    """Ask for GPU memory now. Raises EngineError without a GPU.

    An integrated GPU can also take what the kernel only caches, which the driver does not count as free.
    """
    gpu = probe(root).require_gpu()
    free = CudaDriver().free_memory()
    if gpu.integrated:
        found = re.search(r"MemAvailable:\s+(\d+) kB", text_of(root / "proc/meminfo"))
        free = max(free, int(found[1]) * 1024) if found else free
    return Memory(gpu.total_memory, free)


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "10.13.3.9" -> (10, 13, 3, 9), "11.0.0rc1" -> (11, 0, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _tensorrt(package: str) -> tuple[str, str, int]:
    """Return version, why it is missing, and the flags of a strongly typed network."""
    try:
        trt = importlib.import_module(package)
        version = str(trt.__version__)
    except Exception as error:  # a broken library raises anything, from ImportError to RuntimeError
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = " ".join(str(error).split())
        return "", "is not installed" if absent else f"cannot be loaded ({reason})", 0
    # Numbers of the flags differ between 10 and 11, and 11 is going to drop the flag.
    flag = getattr(getattr(trt, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    return version, "", 0 if flag is None else 1 << int(flag)


def _installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _l4t(release: str) -> str:
    """Return "36.4.3" from "# R36 (release), REVISION: 4.3, GCID: …", or "" where this is not a Jetson."""
    found = re.search(r"R(\d+) \(\w+\), REVISION: ([\d.]+)", release)
    return f"{found[1]}.{found[2]}" if found else ""


def _jetpack(l4t: str) -> str:
    """Return the JetPack of a Jetson Linux release, or "" where it is not known."""
    numbers = version_numbers(l4t)
    return next((JETPACKS[numbers[:n]] for n in (3, 2, 1) if numbers[:n] in JETPACKS), "")


def _driver_release(text: str) -> str:
    """Return "540.4.0" from /proc/driver/nvidia/version."""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else ""
