from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.batch.places import get, outputs_of, put, read, sources_of
from pix2pix_edge.runtime.errors import InputError, MissingPackageError
from pix2pix_edge.runtime.images import encode_image
from tests.conftest import picture, write_rgb


def test_a_folder_gives_its_pictures_and_those_below_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "in/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_rgb(tmp_path / name, picture(1))
    (tmp_path / "notes.md").write_text("x")
    root, found = sources_of(str(tmp_path))
    assert [Path(p).relative_to(root).as_posix() for p in found] == ["2.png", "10.png", "in/1.jpg"]
    assert outputs_of(root, found, "/out") == ["/out/2.png", "/out/10.png", "/out/in/1.png"]


def test_a_glob_keeps_what_lies_below_its_fixed_part(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir()
        write_rgb(tmp_path / name, picture(1))
    root, found = sources_of(f"{tmp_path}/*/x.png")
    assert outputs_of(root, found, "out") == ["out/a/x.png", "out/b/x.png"]


def test_one_picture_is_a_source(tmp_path: Path) -> None:
    file = write_rgb(tmp_path / "one.png", picture(1))
    assert outputs_of(*sources_of(str(file)), "out") == ["out/one.png"]


def test_names_that_differ_in_their_ending_alone_keep_it() -> None:
    names = outputs_of("/r", ["/r/a.jpg", "/r/a.png", "/r/b.png"], "out")
    assert names == ["out/a.jpg.png", "out/a.png.png", "out/b.png"]
    names = outputs_of("/r", ["/r/a.jpg", "/r/a.png", "/r/a.jpg.png", "/r/a.jpg.png.png"], "out")
    assert len(set(names)) == 4
    with pytest.raises(InputError, match=r"two pictures would be written to out/one/1\.png"):
        outputs_of("", ["s3://one/1.png", "gs://one/1.png"], "out")


def test_a_list_names_pictures_from_anywhere_once(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("/data/a/1.png\n\n/data/b/1.png\n/data/a/1.png\n")
    root, found = sources_of(str(tmp_path / "list.txt"))
    assert (root, found) == ("/data", ["/data/a/1.png", "/data/b/1.png"])
    assert outputs_of(root, found, "out") == ["out/a/1.png", "out/b/1.png"]
    assert outputs_of("", ["s3://one/1.png", "s3://two/1.png"], "out") == ["out/one/1.png", "out/two/1.png"]


def test_a_list_from_another_system_is_read_and_its_paths_hold_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = "\ufeff/data/a b/1.png\r\n  ../up.png \r\n\r\n/data/./a b/1.png\r\nodd\x0bname.png"
    (tmp_path / "list.txt").write_bytes(content.encode())
    root, found = sources_of("list.txt")
    assert found == ["/data/a b/1.png", str(tmp_path.parent / "up.png"), f"{tmp_path}/odd\x0bname.png"]
    assert all(".." not in Path(output).parts for output in outputs_of(root, found, "/out"))


def test_a_name_with_a_glob_s_signs_is_a_name_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a[1]*").mkdir()
    write_rgb(tmp_path / "a[1]*" / "x.png", picture(1))
    assert outputs_of(*sources_of(str(tmp_path / "a[1]*")), "out") == ["out/x.png"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a.png\0b.png\0", "a\r\n".encode("utf-16")])
def test_a_list_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match="give one path a line"):
        sources_of(str(tmp_path / "list.txt"))


def test_a_source_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        sources_of(str(tmp_path))
    with pytest.raises(InputError, match="absent does not exist"):
        sources_of(f"{tmp_path}/absent")


def test_local_files_are_read_and_written_whole(tmp_path: Path) -> None:
    put(str(tmp_path / "new" / "a.png"), encode_image(".png", picture(3)))
    assert np.array_equal(read(str(tmp_path / "new" / "a.png")), picture(3))
    assert get(str(tmp_path / "absent")) is None
    put(str(tmp_path / "b"), b"12")
    assert get(str(tmp_path / "b")) == b"12"


def test_an_address_is_read_and_written_through_fsspec() -> None:
    pytest.importorskip("fsspec")
    put("memory://bucket/in/a.png", encode_image(".png", picture(5)))
    root, found = sources_of("memory://bucket/in")
    assert len(found) == 1 and np.array_equal(read(found[0]), picture(5))
    assert outputs_of(root, found, "memory://bucket/out") == ["memory://bucket/out/a.png"]
    with pytest.raises(InputError, match="cannot be opened"):
        sources_of("nosuch://bucket")
    put("memory://bucket/in/bad.png", b"no picture")
    with pytest.raises(InputError, match=r"^memory://bucket/in/bad\.png is not"):
        read("memory://bucket/in/bad.png")


def test_a_store_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")

    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", refuse)
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "glob", refuse)
    for spec in ("memory://bucket/in", "memory://bucket/*.png"):
        with pytest.raises(InputError, match=r"cannot read memory://bucket/.*: The specified bucket does not exist"):
            sources_of(spec)


def test_without_fsspec_an_address_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingPackageError, match=r"pix2pix-edge\[batch\]"):
        sources_of("s3://bucket")
