"""The processor's name, and the board's temperature and power, as Linux shows them; what it does not tell is None."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pix2pix_edge.runtime.files import text_of

BOARD_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry the whole board, where it has such a sensor (Orin NX and Nano, Xavier NX, TX2; Nano; Thor)."""

SUMMED = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor on a carrier board without a sensor of its input
)
"""Rails that add up to the whole board, where no one sensor sees it (jetson-stats, jtop/core/power.py)."""

NO_SENSOR = "PMIC"
"""A zone of this name says 50 or 100 °C for ever: the power chip's own limit, not a measurement."""


@dataclass(frozen=True)
class Board:
    """temperature_c: of its hottest sensor, degrees Celsius. watts: what the whole board takes."""

    temperature_c: float | None
    watts: float | None


def read_board(root: Path = Path("/")) -> Board:
    """Read the sensors now; takes a millisecond or so, because they answer over a slow bus. `root` is where /sys is."""
    zones = root.glob("sys/class/thermal/thermal_zone*")
    celsius = (
        (text_of(zone / "type"), value / 1000) for zone in zones if (value := _number(zone / "temp")) is not None
    )
    return Board(hottest(celsius), board_watts(_rails(root)))


def cpu_name(root: Path = Path("/")) -> str:
    """Return the processor's name, as "AMD EPYC", or the architecture's where nobody tells. root: where /proc is."""
    cpuinfo = text_of(root / "proc/cpuinfo")
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine()


def hottest(sensors: Iterable[tuple[str, float]]) -> float | None:
    """Return the temperature of the hottest sensor, from (name, degrees Celsius) of each; None without any.

    Left out are PMIC zones, and sensors without power, which say -256.
    """
    found = [celsius for name, celsius in sensors if not name.upper().startswith(NO_SENSOR) and 0 < celsius < 150]
    return max(found, default=None)


def board_watts(rails: dict[str, float]) -> float | None:
    """Return the power of the whole board from its rails (name -> W), or None where they do not tell."""
    for name in BOARD_INPUTS:
        if rails.get(name, -1) >= 0:  # a sensor of little load may say less than nothing
            return rails[name]
    for names in SUMMED:
        if names[0] in rails and names[1] in rails:
            return sum(rails.get(name, 0.0) for name in names)
    return None


def _rails(root: Path) -> dict[str, float]:
    """Return the watts of each rail of a Jetson's INA3221 sensors: inN_input in mV times currN_input in mA."""
    rails = {}
    for chip in root.glob("sys/class/hwmon/hwmon*"):
        if text_of(chip / "name") != "ina3221":
            continue
        for label in chip.glob("in[0-9]*_label"):
            number = re.sub(r"\D", "", label.name)
            millivolts, milliamperes = _number(chip / f"in{number}_input"), _number(chip / f"curr{number}_input")
            if millivolts is not None and milliamperes is not None:
                rails[text_of(label).upper()] = millivolts * milliamperes / 1e6
    return rails


def _number(path: Path) -> int | None:
    try:
        return int(text_of(path))
    except ValueError:
        return None
