"""Power readings: recorded lines of tegrastats from JetPack 4 to 7, a real process that prints them, and NVML."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pix2pix_edge.benchmarks.machine.power import (
    Meter,
    NvmlMeter,
    Reading,
    TegrastatsMeter,
    mean_watts,
    open_meter,
    parse_tegrastats,
    throttle_reasons,
)
from tests.conftest import eventually

# Recorded on boards; the list of CPUs is shortened.
NANO_4 = (
    "RAM 2462/3964MB (lfb 2x2MB) SWAP 362/1982MB (cached 8MB) CPU [27%@1479,22%@1479,17%@1479,51%@1479] EMC_FREQ 0%"
    " GR3D_FREQ 76% PLL@36C CPU@39C PMIC@100C GPU@37C AO@43.5C thermal@38.25C POM_5V_IN 5336/4970 POM_5V_GPU 1040/936"
    " POM_5V_CPU 847/758"
)
AGX_ORIN_5 = (
    "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729] EMC_FREQ"
    " 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C CPU@42.593C Tboard@32C SOC2@39.343C"
    " Tdiode@33.25C GPU@-256C tj@42.593C VDD_GPU_SOC 2399mW/2399mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4032mW/4032mW"
    " NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
ORIN_NANO_6 = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729] EMC_FREQ"
    " 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@53.968C soc2@52.437C"
    " gpu@53.343C tj@53.968C VDD_IN 12479mW/12479mW VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW"
)
AGX_ORIN_7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 GR3D_FREQ"
    " 12%@[1300,1300] NVENC0 off VIC off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C"
    " gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW"
    " VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
THOR_7 = (
    "05-14-2026 21:36:35 RAM 26063/125772MB (lfb 35x4MB) CPU [2%@972,1%@972] GR3D_FREQ @[1574,1574,1574]"
    " cpu@49.75C/49.75C tj@51.218C/51.218C VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 3924mW/3835mW"
    " VIN_SYS_5V0 5064mW/5055mW VIN 15004mW/15096mW"
)


@pytest.mark.parametrize(
    ("line", "watts", "gpu_mhz", "gpu_busy", "temperature_c"),
    [
        (NANO_4, 5.336, None, 0.76, 43.5),
        (AGX_ORIN_5, 2.399 + 0.4 + 4.032, 0.0, 0.0, 42.593),
        (ORIN_NANO_6, 12.479, 621.0, 0.63, 53.968),
        (AGX_ORIN_7, 5.139 + 3.268 + 5.5, 1300.0, 0.12, 52.968),
        (THOR_7, 15.004, 1574.0, None, 51.218),
        (THOR_7.replace(" VIN 15004mW/15096mW", ""), -0.392 + 3.924 + 5.064, 1574.0, None, 51.218),
        ("AO@31C CPU@26C PMIC@50C thermal@24C", None, None, None, 31.0),
        ("VDD_IN " + "9" * 5000 + "/1 GR3D_FREQ " + "9" * 5000 + "% cpu@" + "9" * 5000 + "C", None, None, None, None),
        ("VDD_IN 4865 mW/4865 mW/5200 mW gpu@47.6C", 4.865, None, None, 47.6),
        ("VDD_IN 5765mW VDD_CPU_GPU_CV 1548mW", 5.765, None, None, None),
        ("RAM 3456/7620MB (lfb 4x4MB) CPU [off,off]", None, None, None, None),
        ("", None, None, None, None),
    ],
)
def test_tegrastats(
    line: str, watts: float | None, gpu_mhz: float | None, gpu_busy: float | None, temperature_c: float | None
) -> None:
    reading = parse_tegrastats(line, 7)
    assert reading.at_ns == 7
    assert reading.watts == pytest.approx(watts)
    assert (reading.gpu_mhz, reading.gpu_busy, reading.temperature_c) == (gpu_mhz, gpu_busy, temperature_c)


def test_memory_and_unconnected_rails_are_not_power() -> None:
    assert set(parse_tegrastats(AGX_ORIN_5).rails_w) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert set(parse_tegrastats(NANO_4).rails_w) == {"POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"}


def test_a_meter_reads_a_process_and_ends_it() -> None:
    endless = f"import time\nwhile True: print({ORIN_NANO_6!r}, flush=True); time.sleep(0.01)"
    with TegrastatsMeter([sys.executable, "-c", endless]) as meter:
        start, before = time.perf_counter_ns(), len(meter.readings)
        assert eventually(lambda: len(meter.readings) > before + 2)
        end = time.perf_counter_ns()
    assert meter._process.poll() is not None
    assert mean_watts(meter.readings, [(start, end)]) == pytest.approx(12.479)


def test_mean_power_is_taken_inside_the_windows_only() -> None:
    readings = [Reading(at, watts) for at, watts in ((1, 5.0), (2, 10.0), (3, None), (4, 20.0), (9, 99.0))]
    assert mean_watts(readings, [(2, 3), (4, 5)]) == 15.0
    assert mean_watts(readings, [(6, 7)]) is None


def _unsupported(handle: str) -> None:
    raise RuntimeError("Not Supported")


def test_nvml_gives_what_the_gpu_answers() -> None:
    nvml = SimpleNamespace(
        NVMLError=RuntimeError, NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetHandleByIndex="gpu {}".format,
        nvmlDeviceGetPowerUsage={"gpu 0": 71_500}.__getitem__,
        nvmlDeviceGetUtilizationRates=_unsupported,
        nvmlDeviceGetClockInfo=lambda handle, which: 1530,
        nvmlDeviceGetTemperature=lambda handle, which: 61,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x4 | 0x20,
    )  # fmt: skip
    reading = NvmlMeter(nvml)._read()
    assert (reading.watts, reading.gpu_mhz, reading.gpu_busy, reading.temperature_c) == (71.5, 1530, None, 61)
    assert reading.throttled == "power cap, heat"


def test_idle_and_user_limits_are_no_throttling() -> None:
    assert throttle_reasons(0x1 | 0x2) == ""
    assert throttle_reasons(0x20 | 0x40) == "heat"


def test_where_nothing_measures_there_are_no_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=lambda: 1 / 0))
    with open_meter(lambda name: None) as meter:
        assert type(meter) is Meter and meter.readings == []
    assert isinstance(open_meter(lambda name: "/usr/bin/tegrastats"), TegrastatsMeter)


@pytest.mark.parametrize(
    ("line", "watts", "megahertz", "celsius"),
    [
        ("GR3D_FREQ 0%@[0,1300] cpu@47C VDD_IN 4011mW/4011mW", 4.011, 1300, 47),  # one cluster is off
        ("GR3D 23%@76 EDP limit 0", None, 76, None),  # JetPack 3
        ("\x1b[1mGR3D_FREQ 9%@305\x1b(B\x1b[m \x1b[31mVDD_IN 4011/4011\x1b[0m \x1b[33mcpu@46C\x1b[0m", 4.011, 305, 46),
        ("GR3D_FREQ 9%@99999999999 CPU-therm@46C PMIC-Die@100C VDD_IN -12mW/-12mW", None, None, 46),
        ("GR3D_FREQ 9%@305 VDD_IN 4011/4011RAM GR3D_FREQ 9%@999 VDD_IN 9011/9011", 4.011, 305, None),  # two in one
    ],
)
def test_odd_lines_are_read(line: str, watts: float | None, megahertz: int | None, celsius: int | None) -> None:
    reading = parse_tegrastats(line)
    assert (reading.watts, reading.gpu_mhz, reading.temperature_c) == (watts, megahertz, celsius)


def test_bytes_that_are_no_text_end_no_meter(tmp_path: Path) -> None:
    (tmp_path / "said").write_bytes(b"\xff\xfe GR3D_FREQ 10%@305\nGR3D_FREQ 10%@306\n")
    with TegrastatsMeter(["cat", str(tmp_path / "said")]) as meter:
        eventually(lambda: len(meter.readings) == 2)
    assert [reading.gpu_mhz for reading in meter.readings] == [305, 306]
