"""A disk that is really full: a small file system of its own, mounted for one run of runtime/run.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY, read_video, write_rgb

MOUNT = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
"""A shell that may mount, and takes its mounts with it when it ends."""


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Pictures that no encoder makes small."""
    if (
        not shutil.which("unshare")
        or subprocess.run([*MOUNT, "mount -t tmpfs none /mnt"], capture_output=True).returncode
    ):
        pytest.skip("this system lets nobody mount a file system")
    (tmp_path / "noise").mkdir()
    for index in range(20):
        image = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
        write_rgb(tmp_path / f"noise/{index}.png", image)
    return tmp_path / "noise"


def run_on_a_disk_of(size: str, engine: Path, noise: Path, sink: str) -> tuple[int, str, list[Path]]:
    """Translate the pictures over and over; return exit status, standard error and what the disk held at the end."""
    disk, kept = noise.parent / "disk", noise.parent / "kept"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size="$1" none "$2" && shift && cd "$1" && shift && kept=$1 && shift; "$@"; code=$?;'
        ' cp -r . "$kept"; exit $code'
    )
    command = [sys.executable, str(REPOSITORY / "runtime/run.py"), "--engine", str(engine), "--source", str(noise)]
    done = subprocess.run(
        [*MOUNT, script, "sh", size, str(disk), str(kept), *command, "--loop", "0", "--sink", sink, "--sink", "null",
         "--backend", "onnxruntime"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr, sorted(path for path in kept.rglob("*") if path.is_file())


def test_a_video_ends_before_the_disk_is_full_and_plays(inverter: Path, noise: Path, encoder: str) -> None:
    code, stderr, files = run_on_a_disk_of("16600k", inverter, noise, "o.mp4")
    assert code == 2 and "o.mp4 is full; the video ends after" in stderr and stderr.count("\n") == 1
    assert [path.name for path in files] == ["o.mp4"]
    assert len(read_video(files[0])) == int(stderr.partition("ends after ")[2].split()[0]) > 20


def test_on_a_disk_without_room_there_is_no_video(inverter: Path, noise: Path) -> None:
    code, stderr, files = run_on_a_disk_of("100k", inverter, noise, "o.mp4")
    assert code == 2 and "is full; the video ends after 0 frames" in stderr and stderr.count("\n") == 1 and not files


def test_a_folder_keeps_whole_pictures_only(inverter: Path, noise: Path) -> None:
    code, stderr, files = run_on_a_disk_of("40k", inverter, noise, "out/")
    assert code == 2 and "No space left on device; make room" in stderr and stderr.count("\n") == 1
    assert files and all(path.suffix == ".png" and path.stat().st_size > 3000 for path in files)
