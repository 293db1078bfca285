from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import BESIDE, free_bytes, leftovers, sha256_of, written_beside
from tests.commands import python


def test_a_file_appears_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.mp4"
    with written_beside(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".mp4"
        temporary.write_text("whole")
        assert not target.exists()
    (ordinary := tmp_path / "ordinary").touch()
    assert target.read_text() == "whole" and target.stat().st_mode == ordinary.stat().st_mode
    assert [p.name for p in target.parent.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), written_beside(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"cannot write .*file/a\.txt: .*; choose a folder"),
        written_beside(tmp_path / "file" / "a.txt"),
    ):
        pass


def test_what_cannot_be_written_is_an_input_error_and_what_else_fails_is_not(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"a\.txt: No space left on device; make room"),
        written_beside(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match="Is a directory; choose another name"), written_beside(tmp_path):
        pass
    with pytest.raises(FileNotFoundError), written_beside(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()
    assert not list(tmp_path.iterdir())


def test_sha256_of_a_file_larger_than_a_block(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_free_bytes(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert 0 < free_bytes(tmp_path) <= found.f_blocks * found.f_frsize


def test_what_a_killed_process_left_is_found_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pix2pix_edge.runtime.files import written_beside\n"
        "with written_beside(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    python("-c", program, tmp_path / "killed.png")
    with written_beside(tmp_path / "living.png"):
        assert len(list(tmp_path.iterdir())) == 2
        time.sleep(1.1)  # one that has just been made may not be locked yet
        assert [path.name[len(BESIDE) + 8 :] for path in leftovers(tmp_path)] == ["killed.png"]
