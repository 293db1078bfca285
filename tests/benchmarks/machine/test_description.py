"""The machine's description, from the files that Linux keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pix2pix_edge.benchmarks.machine import description as machine
from pix2pix_edge.benchmarks.machine.description import (
    Shares,
    State,
    Usage,
    cpu_times,
    describe_machine,
    machine_state,
    shares,
    with_sensors,
)
from pix2pix_edge.benchmarks.machine.power import Reading
from pix2pix_edge.runtime.board import cpu_name
from pix2pix_edge.runtime.sidecar import to_json
from tests.conftest import eventually

CPUINFO = "processor\t: 0\nmodel name\t: Example  CPU 9000\nflags\t\t: fpu hypervisor\n\nprocessor\t: 1\n"


def _write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_description_fits_into_json_and_names_no_person_host_or_folder(tmp_path: Path) -> None:
    _write(tmp_path, "proc/cpuinfo", CPUINFO)
    _write(tmp_path, "proc/meminfo", "MemTotal:       16384000 kB\n")
    _write(tmp_path, "etc/os-release", 'NAME="X"\nPRETTY_NAME="Example Linux 1"\n')
    for cpu in range(4):
        _write(
            tmp_path,
            f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list",
            f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}\n",
        )
    found = json.loads(json.dumps(to_json(describe_machine(tmp_path))))
    assert found["cpu"] == "Example CPU 9000"
    assert found["cores"] == 2
    assert found["virtual"] is True
    assert found["memory_gb"] == 15.6
    assert found["system"].startswith("Example Linux 1 ")
    assert "numpy" in found["packages"]
    assert str(Path.home()) not in json.dumps(found) or str(Path.home()) == "/"


def test_this_machine_is_described() -> None:
    found = describe_machine()
    assert found.cpu and found.cores and found.python


def test_a_state_holds_what_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOAD_WINDOW_S", 0)
    _write(tmp_path, "sys/class/devfreq/17000000.gpu/cur_freq", "612000000\n")
    _write(tmp_path, "sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n")
    _write(tmp_path, "sys/class/devfreq/15340000.vic/cur_freq", "1\n")
    for zone, millidegrees in enumerate((48_000, 61_250, -256_000)):
        _write(tmp_path, f"sys/class/thermal/thermal_zone{zone}/temp", f"{millidegrees}\n")
    for cpu, kilohertz in enumerate((1_000_000, 2_000_000)):
        _write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
        _write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count", "3\n")
    found = machine_state(tmp_path)
    assert (found.gpu_mhz, found.gpu_mhz_max) == (612, 1020)
    assert (found.temperature_c, found.cpu_mhz, found.throttled) == (61.25, 1500, 6)
    assert found.busy is None


def test_shares_of_cpu_time(tmp_path: Path) -> None:
    _write(tmp_path, "proc/stat", "cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1 2 3\n")
    start = cpu_times(tmp_path)
    assert start == (10, 0, 10, 70, 0, 0, 0, 10)
    busy, stolen = shares(start, (30, 0, 20, 130, 0, 0, 0, 20))
    assert (busy, stolen) == (pytest.approx(0.4), pytest.approx(0.1))
    assert shares((), start) == shares(start, start) == (None, None)
    assert cpu_times(tmp_path / "nothing") == ()


def test_an_arm_board_has_a_name_too(tmp_path: Path) -> None:
    _write(tmp_path, "proc/cpuinfo", "processor : 0\nBogoMIPS : 62.5\n\nModel : Example Board\n")
    assert cpu_name(tmp_path) == "Example Board"


def test_usage_tells_others_from_ourselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage()
    assert eventually(lambda: usage.so_far().others is not None), "a clock tick goes by"
    found = usage.so_far()
    assert 0 <= found.others <= 1 and found.stolen is not None and 0 <= found.stolen <= 1
    _write(tmp_path, "proc/stat", "cpu  10 0 10 70 0 0 0 10 0 0\n")
    # Ours is counted in clock ticks: one that ends within these few milliseconds would count as all the time there was.
    monkeypatch.setattr(machine, "_own_seconds", lambda: 0.0)
    usage = Usage(tmp_path)
    _write(tmp_path, "proc/stat", "cpu  80 0 10 90 0 0 0 20 0 0\n")
    found = usage.so_far()  # 80 of 100 ticks busy, 10 of them stolen; ours were none
    assert (found.others, found.stolen) == (pytest.approx(0.7), 0.1)
    assert Usage(tmp_path / "nothing").so_far() == Shares()


def test_a_meter_tells_the_gpus_clock_and_temperature() -> None:
    readings = [Reading(1, gpu_mhz=300.0), Reading(2, gpu_mhz=1530.0, temperature_c=61.0)]
    assert with_sensors(State(load=1.0), readings) == State(load=1.0, gpu_mhz=1530.0, temperature_c=61.0)
    assert with_sensors(State(temperature_c=70.0), readings).temperature_c == 70.0  # the hottest sensor of all
    assert with_sensors(State(load=1.0), []) == with_sensors(State(load=1.0), [Reading(1)]) == State(load=1.0)


@pytest.mark.parametrize("words", [["run", "--out", "a b"], ["bench", "run", "--out", "a b"]])
def test_the_command_is_repeated_as_the_checkout_takes_it(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x", *words])
    assert machine.command_line() == "python -m benchmarks run --out 'a b'"
