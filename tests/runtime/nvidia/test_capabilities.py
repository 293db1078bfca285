"""What a machine has, from files as real boards have them and a stand-in for the driver library and for tensorrt."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pix2pix_edge.runtime.errors import EngineError, MissingPackageError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.capabilities import Gpu, memory, probe, version_numbers

ORIN_NANO = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64,"
    " DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build"
    "  (buildbrain@mobile-u64-6336-d8000)  Tue Jan  7 17:33:43 PST 2025\nGCC version:  collect2: error\n",
    "proc/meminfo": "MemTotal:        7802840 kB\nMemFree:          301016 kB\nMemAvailable:    5242880 kB\n",
}
WORKSTATION = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC"
    " 2023\nGCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
    "proc/meminfo": "MemAvailable:   33554432 kB\n",
}
RASPBERRY = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}


def board(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


NUMBERS = {"cuDeviceGet": 7, "cuDriverGetVersion": 12060, "cuDeviceTotalMem": 8 << 30, "cuDevicePrimaryCtxRetain": 99}


class FakeLibrary:
    """libcuda as ctypes shows it, for one device; `fails` maps a call to the error that it returns."""

    def __init__(self, name: bytes = b"Orin", capability: tuple[int, int] = (8, 7), integrated: int = 1) -> None:
        self.name, self.attributes = name, {75: capability[0], 76: capability[1], 18: integrated}
        self.fails: dict[str, int] = {}
        self.calls: list[str] = []
        self.current = False

    def __getattr__(self, call: str):
        def answer(*arguments: object) -> int:
            self.calls.append(call)
            if call not in self.fails:
                self._answer(call.removesuffix("_v2"), *arguments)
            return self.fails.get(call, 0)

        return answer

    def _answer(self, call: str, first: Any, second: Any = None, third: Any = None) -> None:
        if call in NUMBERS:
            first._obj.value = NUMBERS[call]
        elif call == "cuDeviceGetName":
            first.value = self.name
        elif call == "cuDeviceGetAttribute":
            first._obj.value = self.attributes[second]
        elif call == "cuGetErrorString":
            second._obj.value = b"initialization error"
        elif call == "cuMemGetInfo":
            assert self.current, "no context is current"
            first._obj.value, second._obj.value = 1 << 30, 8 << 30
        elif call in ("cuCtxPushCurrent", "cuCtxPopCurrent"):
            self.current = call == "cuCtxPushCurrent"
            assert not self.current or first.value == 99
        elif call == "cuDevicePrimaryCtxRelease":
            assert not self.current, "released while current"
        else:
            assert call == "cuInit", call


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch):
    """Nothing is remembered from or for another test; neither TensorRT nor a driver unless a test brings one."""
    probe.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    yield
    probe.cache_clear()


def no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file: No such file or directory")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    return library


def install_tensorrt(monkeypatch: pytest.MonkeyPatch, version: str, **flags: int) -> None:
    module = SimpleNamespace(__version__=version, NetworkDefinitionCreationFlag=SimpleNamespace(**flags))
    monkeypatch.setitem(sys.modules, "tensorrt", module)


def test_a_jetson_is_recognised_from_its_files(tmp_path: Path) -> None:
    found = probe(board(tmp_path, ORIN_NANO))
    assert found.jetson_model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (found.l4t, found.jetpack, found.driver) == ("36.4.3", "6.2", "540.4.0")


@pytest.mark.parametrize(
    ("release", "l4t", "jetpack"),
    [
        ("# R39 (release), REVISION: 2.0, GCID: 1", "39.2.0", "7.2"),
        ("# R39 (release), REVISION: 2.1, GCID: 1", "39.2.1", "7.2.1"),
        ("# R38 (release), REVISION: 4.0, GCID: 1", "38.4.0", "7.1"),
        ("# R36 (release), REVISION: 5.0, GCID: 1", "36.5.0", "6.2.2"),
        ("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic", "36.4.0", "6.1"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", "35.4.1", "5"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref", "32.7.1", "4"),
        ("# R77 (release), REVISION: 0.0, GCID: 1", "77.0.0", ""),
        ("something else", "", ""),
    ],
)
def test_jetpack_comes_from_the_l4t_release(tmp_path: Path, release: str, l4t: str, jetpack: str) -> None:
    found = probe(board(tmp_path, {"etc/nv_tegra_release": release}))
    assert (found.l4t, found.jetpack) == (l4t, jetpack)


def test_other_machines_are_no_jetson(tmp_path: Path) -> None:
    assert probe(board(tmp_path / "pc", WORKSTATION)).jetson_model == ""
    assert probe(board(tmp_path / "pc", WORKSTATION)).driver == "535.104.05"
    assert probe(board(tmp_path / "pi", RASPBERRY)).jetson_model == ""


def test_a_machine_without_anything_says_what_is_missing(tmp_path: Path) -> None:
    found = probe(tmp_path)
    assert found.tensorrt_version is None and found.gpu is None and not found.int8
    with pytest.raises(MissingPackageError, match=r"TensorRT is not installed; run: pip install"):
        found.require_tensorrt()
    with pytest.raises(EngineError, match=r"no NVIDIA driver here \(libcuda\.so\.1 cannot be loaded\)"):
        found.require_gpu()


def test_on_a_jetson_tensorrt_never_comes_from_pip(tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError) as error:
        probe(board(tmp_path, ORIN_NANO)).require_tensorrt()
    assert "sudo apt install" in str(error.value) and "pip install" not in str(error.value)


def test_tensorrt_rtx_takes_the_place_of_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_tensorrt(monkeypatch, "11.4.0", STRONGLY_TYPED=0)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingPackageError, match=r"TensorRT-RTX .*; run: pip install tensorrt-rtx$"):
        probe(tmp_path, "tensorrt_rtx").require_tensorrt()
    with pytest.raises(MissingPackageError, match="a Jetson's plan is built on the Jetson, without --rtx"):
        probe(board(tmp_path / "jetson", ORIN_NANO), "tensorrt_rtx").require_tensorrt()
    module = SimpleNamespace(__version__="1.6.1")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    found = probe(tmp_path / "old", "tensorrt_rtx")
    with pytest.raises(EngineError, match=r"TensorRT-RTX 1\.6\.1 is too old.* run: pip install --upgrade tensorrt-rtx"):
        found.require_tensorrt()
    assert found.trt() is module and probe(tmp_path / "old").tensorrt == "11.4.0"


def test_a_broken_tensorrt_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "tensorrt.py"
    broken.write_text('raise ImportError("libnvinfer.so.10: cannot open shared object file")')
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingPackageError, match=r"cannot be loaded \(libnvinfer\.so\.10: cannot open"):
        probe(tmp_path).require_tensorrt()


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1", "9.3.0"])
def test_old_tensorrt_is_refused_with_the_upgrade(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    install_tensorrt(monkeypatch, version, EXPLICIT_BATCH=0)
    with pytest.raises(EngineError, match=rf"TensorRT {version} is too old.*pip install --upgrade 'tensorrt>=10,<12'"):
        probe(tmp_path / "pc").require_tensorrt()
    jetson = {"etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 1"} | {
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin\0"
    }
    with pytest.raises(EngineError, match=r"flash JetPack 6\.1 or newer \(this board runs JetPack 5, L4T 35\.4\.1\)"):
        probe(board(tmp_path / "jetson", jetson)).require_tensorrt()


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ("10.3.0", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 2),
        ("11.4.0.106", {"STRONGLY_TYPED": 0}, 1),
        ("12.0.0", {}, 0),
    ],
)
def test_network_flags_are_probed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, flags: dict[str, int], expected: int
) -> None:
    install_tensorrt(monkeypatch, version, **flags)
    found = probe(tmp_path)
    found.require_tensorrt()
    assert (found.tensorrt, found.network_flags) == (version, expected)


def test_the_gpu_is_asked_through_the_driver(driver: FakeLibrary, tmp_path: Path) -> None:
    found = probe(board(tmp_path, ORIN_NANO))
    assert found.gpu == Gpu("Orin", (8, 7), integrated=True, total_memory=8 << 30)
    assert found.require_gpu() is found.gpu
    assert (found.cuda, found.int8, found.gpu_missing) == ("12.6", True, "")


@pytest.mark.parametrize(("capability", "int8"), [((5, 3), False), ((6, 1), True), ((6, 2), False), ((7, 5), True)])
def test_int8_needs_hardware(driver: FakeLibrary, tmp_path: Path, capability: tuple[int, int], int8: bool) -> None:
    driver.attributes |= {75: capability[0], 76: capability[1]}
    assert probe(tmp_path).int8 is int8


def test_no_gpu_and_a_sick_driver_are_told_apart(driver: FakeLibrary, tmp_path: Path) -> None:
    driver.fails["cuInit"] = 100
    with pytest.raises(EngineError, match=r"finds no GPU; check CUDA_VISIBLE_DEVICES"):
        probe(tmp_path / "none").require_gpu()
    driver.fails["cuInit"] = 803
    with pytest.raises(EngineError, match=r"cuInit: error 803, initialization error\); run nvidia-smi"):
        probe(tmp_path / "sick").require_gpu()


def test_memory_of_an_integrated_gpu_is_what_the_board_can_give(driver: FakeLibrary, tmp_path: Path) -> None:
    board(tmp_path, ORIN_NANO)
    assert memory(tmp_path).free == 5242880 * 1024
    assert memory(tmp_path).total == 8 << 30
    assert driver.calls[-1] == "cuDevicePrimaryCtxRelease_v2"


def test_memory_of_a_graphics_card_is_its_own(driver: FakeLibrary, tmp_path: Path) -> None:
    driver.attributes[18] = 0
    assert memory(board(tmp_path, WORKSTATION)).free == 1 << 30


def test_memory_releases_the_context_when_asking_fails(driver: FakeLibrary, tmp_path: Path) -> None:
    driver.fails["cuMemGetInfo_v2"] = 2
    with pytest.raises(EngineError, match=r"cuMemGetInfo: error 2"):
        memory(tmp_path)
    assert driver.calls[-3:] == ["cuGetErrorString", "cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_memory_without_a_gpu_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        memory(tmp_path)


def test_a_machine_is_looked_at_once(driver: FakeLibrary, tmp_path: Path) -> None:
    assert probe(tmp_path) is probe(tmp_path)
    assert driver.calls.count("cuInit") == 1


def test_optional_packages_are_found_without_importing_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("pycuda", "cuda"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    (tmp_path / "pycuda.py").write_text("raise SystemExit('imported')")
    (tmp_path / "cuda" / "bindings").mkdir(parents=True)
    (tmp_path / "cuda" / "bindings" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = probe(tmp_path)
    assert found.pycuda and found.cuda_graphs


def test_version_numbers() -> None:
    assert version_numbers("10.13.3.9") == (10, 13, 3, 9)
    assert version_numbers("11.0.0rc1") == (11, 0, 0)
    assert version_numbers("") == ()
    assert capabilities.OLDEST["tensorrt"] == (10, 0)
