from __future__ import annotations

from pathlib import Path

import pytest

from pix2pix_edge.runtime.board import Board, read_board


def write(root: Path, folder: str, **files: object) -> None:
    (root / "sys/class" / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / "sys/class" / folder / name).write_text(f"{text}\n")


def rail(root: Path, chip: int, number: int, label: str, millivolts: int, milliamperes: int) -> None:
    write(root, f"hwmon/hwmon{chip}", name="ina3221", **{f"in{number}_label": label, f"in{number}_input": millivolts,
                                                        f"curr{number}_input": milliamperes})  # fmt: skip


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    assert read_board(tmp_path) == Board(None, None)


def test_the_hottest_zone_counts_and_one_without_power_does_not(tmp_path: Path) -> None:
    for zone, temp in enumerate((48500, 51250, -256000, "")):
        write(tmp_path, f"thermal/thermal_zone{zone}", temp=temp)
    assert read_board(tmp_path) == Board(51.25, None)


def test_a_power_chip_s_limit_is_no_temperature(tmp_path: Path) -> None:
    write(tmp_path, "thermal/thermal_zone0", type="CPU-therm", temp=41000)
    write(tmp_path, "thermal/thermal_zone1", type="PMIC-Die", temp=100000)
    assert read_board(tmp_path) == Board(41.0, None)


THOR = [(1, number, label, 20000, 150) for number, label in enumerate(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), 1)]
AGX_ORIN = [(1, 1, "VDD_GPU_SOC", 20000, 150), (1, 2, "VDD_CPU_CV", 20000, 150), (1, 3, "VIN_SYS_5V0", 20000, 150),
            (2, 1, "NC", 20000, 150)]  # fmt: skip


@pytest.mark.parametrize(
    ("rails", "watts"),
    [
        pytest.param(THOR, 9.0, id="a Thor without a sensor of its input is summed"),
        pytest.param(AGX_ORIN, 9.0, id="an AGX Orin's are summed, but those that are not connected"),
        pytest.param([(1, 1, "VDD_IN", 5000, 1200), (1, 2, "VDD_CPU_GPU_CV", 4990, 400)], 6.0, id="an input's is all"),
        pytest.param([(1, 1, "VDD_SOC", 5000, 100)], None, id="they do not tell the whole"),
    ],
)
def test_rails(tmp_path: Path, rails: list[tuple[int, int, str, int, int]], watts: float | None) -> None:
    rail(tmp_path, 0, 1, "VDD_IN", 5000, 9000)
    write(tmp_path, "hwmon/hwmon0", name="another chip")
    for each in rails:
        rail(tmp_path, *each)
    assert read_board(tmp_path) == Board(None, watts)
