from __future__ import annotations

from pathlib import Path

from pix2pix_edge.runtime.board import Board, read_board


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / "sys/class" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    assert read_board(tmp_path) == Board(None, None)


def test_the_hottest_zone_counts_and_one_without_power_does_not(tmp_path: Path) -> None:
    write(tmp_path, thermal__thermal_zone0__temp="48500", thermal__thermal_zone1__temp="51250",
          thermal__thermal_zone2__temp="-256000", thermal__thermal_zone3__temp="")  # fmt: skip
    assert read_board(tmp_path) == Board(51.25, None)


def test_a_power_chip_s_limit_is_no_temperature(tmp_path: Path) -> None:
    write(tmp_path, thermal__thermal_zone0__type="CPU-therm", thermal__thermal_zone0__temp="41000",
          thermal__thermal_zone1__type="PMIC-Die", thermal__thermal_zone1__temp="100000")  # fmt: skip
    assert read_board(tmp_path) == Board(41.0, None)


def test_a_thor_without_a_sensor_of_its_input_is_summed(tmp_path: Path) -> None:
    for number, label in enumerate(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), 1):
        write(tmp_path, **{"hwmon__hwmon1__name": "ina3221", f"hwmon__hwmon1__in{number}_label": label,
                           f"hwmon__hwmon1__in{number}_input": "20000",
                           f"hwmon__hwmon1__curr{number}_input": "150"})  # fmt: skip
    assert read_board(tmp_path) == Board(None, 9.0)


def test_the_input_rail_of_an_orin_nano(tmp_path: Path) -> None:
    write(tmp_path, hwmon__hwmon0__name="cpu_thermal", hwmon__hwmon1__name="ina3221",
          hwmon__hwmon1__in1_label="VDD_IN", hwmon__hwmon1__in1_input="5000", hwmon__hwmon1__curr1_input="1200",
          hwmon__hwmon1__in2_label="VDD_CPU_GPU_CV", hwmon__hwmon1__in2_input="4990",
          hwmon__hwmon1__curr2_input="400")  # fmt: skip
    assert read_board(tmp_path) == Board(None, 6.0)


def test_the_rails_of_an_agx_orin_are_summed(tmp_path: Path) -> None:
    for chip, number, label in ((1, 1, "VDD_GPU_SOC"), (1, 2, "VDD_CPU_CV"), (1, 3, "VIN_SYS_5V0"), (2, 1, "NC")):
        base = f"hwmon__hwmon{chip}__"
        write(tmp_path, **{f"{base}name": "ina3221", f"{base}in{number}_label": label,
                           f"{base}in{number}_input": "20000", f"{base}curr{number}_input": "150"})  # fmt: skip
    assert read_board(tmp_path) == Board(None, 9.0)


def test_rails_that_do_not_tell_the_whole(tmp_path: Path) -> None:
    write(tmp_path, hwmon__hwmon1__name="ina3221", hwmon__hwmon1__in1_label="VDD_SOC",
          hwmon__hwmon1__in1_input="5000", hwmon__hwmon1__curr1_input="100")  # fmt: skip
    assert read_board(tmp_path) == Board(None, None)
