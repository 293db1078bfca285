"""A CUDA driver on the CPU, in C beside this file, for real pycuda and real cuda-bindings; see fake_cuda.h.

install.sh puts the two packages where only these tests look. The driver is compiled when it is first needed. One
process has one driver: loaded first, it is the libcuda.so.1 that everything loaded later finds.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

HOME = Path(sys.prefix) / "fake-cuda"
SITE = HOME / "site"
SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))

ILLEGAL_ADDRESS, LAUNCH_FAILED, UNKNOWN = 700, 719, 999  # CUresult; a lost device answers UNKNOWN


def missing() -> str:
    """Return why the driver cannot be used here, or ""."""
    if not (SITE / "pycuda").is_dir() or not shutil.which("cc"):
        return f"no pycuda for the fake CUDA driver; run: tests/fake_cuda/install.sh {sys.executable}"
    loaded = re.findall(r"\S*/libcuda\.so\S*", Path("/proc/self/maps").read_text())
    if any(not path.startswith(str(HOME)) for path in loaded):
        return "this process has loaded a real NVIDIA driver; run these tests in one of their own"
    return ""


@functools.cache
def build() -> Path:
    """Compile the driver if these sources never were, and return the folder of its libcuda.so.1."""
    folder = HOME / hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:12]
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=HOME) as temporary:
            (built := Path(temporary) / "built").mkdir()
            rest, library = Path(temporary) / "rest.c", built / "libcuda.so.1"
            rest.write_text("\n".join(f"int {name}(void) {{ return 801; }}" for name in _unwritten()))  # not supported
            command = ["cc", "-std=gnu11", "-O1", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
            sources = [*(path for path in SOURCES if path.suffix == ".c"), rest]
            subprocess.run([*command, f"-I{HOME / 'include'}", "-o", library, *sources, "-lpthread"], check=True)
            with contextlib.suppress(OSError):  # another process was the first
                built.rename(folder)
    return folder


def _unwritten() -> list[str]:
    """Name every call that pycuda links to and the driver has not."""
    (extension,) = (SITE / "pycuda").glob("_driver*.so")
    table = subprocess.run(["nm", "-D", "--undefined-only", extension], capture_output=True, text=True, check=True)
    written = set(re.findall(r"^CUresult (cu\w+)\(", "".join(path.read_text() for path in SOURCES), re.MULTILINE))
    return sorted(n for n in set(re.findall(r"\bcu[A-Z]\w*", table.stdout)) if re.sub(r"_v\d$", "", n) not in written)


def environment() -> dict[str, str]:
    """Return the environment of a process that finds the driver and the two packages as if they were installed."""
    path = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "LD_LIBRARY_PATH": str(build()), "PYTHONPATH": path}


@functools.cache
def packages() -> dict[str, ModuleType]:
    """Import pycuda and cuda-bindings, and take them out of sys.modules again; they cannot be loaded twice."""
    load()
    sys.path.insert(0, str(SITE))
    flags = sys.getdlopenflags()
    # TensorFlow, where it was loaded first, has functions of the same names, which would be called instead
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    import cuda.bindings.driver  # noqa: F401
    import pycuda.driver  # noqa: F401

    sys.setdlopenflags(flags)
    sys.path.remove(str(SITE))
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in ("pycuda", "cuda")}


class Settings(ctypes.Structure):
    """`struct Settings` of fake_cuda.h."""

    _fields_ = [
        ("name", ctypes.c_char * 64),
        *((name, ctypes.c_int) for name in ("major", "minor", "integrated", "present", "taken", "capturable")),
        ("driver_version", ctypes.c_int),
        ("total_memory", ctypes.c_ulonglong),
        *((name, ctypes.c_int) for name in ("fail_allocation", "fail_launch", "fault")),
    ]


@functools.cache
def load() -> ctypes.CDLL:
    """Load the driver into this process."""
    library = ctypes.CDLL(str(build() / "libcuda.so.1"), os.RTLD_NOW | os.RTLD_DEEPBIND)
    library.fake_mistakes.restype = ctypes.c_char_p
    library.fake_used_memory.restype = ctypes.c_ulonglong
    library.fake_on_device.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.fake_pinned.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.fake_graph_calls.argtypes = [ctypes.c_void_p]
    library.fake_note.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    return library


class FakeGpu:
    """The driver of this process, with one GPU as described; nothing on it, and no mistakes seen yet."""

    def __init__(
        self,
        name: str = "Simulated GPU",
        compute_capability: tuple[int, int] = (8, 7),
        integrated: bool = False,
        total_memory: int = 8 << 30,
        present: bool = True,
        driver: bool = True,
        taken: bool = False,
        capturable: bool = True,
    ) -> None:
        """present: there is a GPU. driver: libcuda is installed. taken: another process has the GPU for itself.
        capturable: stream capture works.
        """
        self.name, self.compute_capability, self.driver, self.present = name, compute_capability, driver, present
        self.cuda = load()
        self.cuda.fake_reset()
        self.settings = Settings.in_dll(self.cuda, "fake")
        described = Settings(name.encode(), *compute_capability, integrated, present, taken, capturable, 12060)
        ctypes.pointer(self.settings)[0] = described
        self.settings.total_memory = self.total_memory = total_memory

    @property
    def used_memory(self) -> int:
        return int(self.cuda.fake_used_memory())

    @property
    def mistakes(self) -> list[str]:
        """What a real GPU would have answered with a crash, a leak, a slow copy or wrong pictures."""
        return self.cuda.fake_mistakes().decode().splitlines()

    def note(self, mistake: str) -> None:
        """Add to the mistakes."""
        self.cuda.fake_note(b"%s", mistake.encode())

    def leftovers(self) -> list[str]:
        """Everything that was not given back."""
        text = ctypes.create_string_buffer(1024)
        self.cuda.fake_leftovers(text, len(text))
        return text.value.decode().split(", ") if text.value else []

    def device_bytes(self, address: int, nbytes: int, what: str) -> NDArray[np.uint8]:
        """Return the GPU's bytes at an address; raises SimulatorError where they are not its own."""
        if not self.cuda.fake_on_device(address, nbytes):
            pinned = self.cuda.fake_pinned(address, 1)
            why = "host memory that is not mapped" if pinned else "freed, or never reserved there"
            raise SimulatorError(f"{what} uses {nbytes} bytes at {address:#x}: {why}")
        return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.uint8)

    def has_context(self) -> bool:
        """Whether this thread has a context current."""
        return self.cuda.cuCtxGetDevice(ctypes.byref(ctypes.c_int())) == 0

    def reserve(self, nbytes: int) -> int:
        """Reserve memory as TensorRT does, where a context is current. Raises MemoryError."""
        address = ctypes.c_uint64()
        if self.has_context():
            status = self.cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(nbytes))
            if status:
                raise MemoryError(
                    "out of memory" if status == 2 else "operation not permitted when stream is capturing"
                )
        return address.value

    def free(self, address: int) -> None:
        """Free what was reserved."""
        if address:
            self.cuda.cuMemFree_v2(ctypes.c_uint64(address))

    def close(self) -> None:
        """Forget everything; from now on there is no GPU."""
        self.cuda.fake_reset()
        ctypes.pointer(self.settings)[0] = Settings()


class SimulatorError(Exception):
    """A mistake that a real GPU would not report: it would crash, or give wrong pictures."""
