"""The service and the image: what they say must hold without a board too."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.conftest import REPOSITORY

SERVICE = REPOSITORY / "docker" / "pix2pix-edge.service"


def test_the_service_is_exposed_little_and_keeps_camera_and_gpu() -> None:
    settings = dict(line.split("=", 1) for line in SERVICE.read_text().splitlines() if re.match(r"\w+=", line))
    hiding = {"PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock", "PrivateTmp", "MemoryDenyWriteExecute"}
    assert not hiding & set(settings) and settings["SupplementaryGroups"] == "video render"
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", SERVICE], capture_output=True, text=True, check=False
    ).stdout
    level = re.search(r"exposure level for pix2pix-edge\.service: ([\d.]+)", said)
    if level is None:
        pytest.skip("this systemd-analyze judges no files")
    assert float(level[1]) <= 4


def test_a_changed_command_is_shown_with_the_empty_one_before_it() -> None:
    page = (REPOSITORY / "docs" / "jetson.md").read_text()
    assert re.search(r"\n    ExecStart=\n    ExecStart=/", page)


def test_pycuda_has_one_lower_bound() -> None:
    files = ("pyproject.toml", "docker/Dockerfile", "docs/jetson.md")
    bounds = {bound for name in files for bound in re.findall(r"pycuda>=([\d.]+)", (REPOSITORY / name).read_text())}
    assert len(bounds) == 1
