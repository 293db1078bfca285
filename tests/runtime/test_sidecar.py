from __future__ import annotations

from pathlib import Path

import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.sidecar import FORMAT, read_sidecar, sidecar_path, write_sidecar


def test_a_sidecar_comes_back_as_written_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    file = tmp_path / "a.fp32.onnx"
    file.write_bytes(b"graph")
    assert read_sidecar(file) is None
    write_sidecar(file, {"kind": "onnx", "precision": {"asked": "fp32"}})
    first = sidecar_path(file).read_bytes()
    assert sidecar_path(file).name == "a.fp32.onnx.json"
    assert read_sidecar(file) == {
        "format": FORMAT, "sha256": sha256_of(file), "kind": "onnx", "precision": {"asked": "fp32"},
    }  # fmt: skip
    write_sidecar(file, {"kind": "onnx", "precision": {"asked": "fp32"}})
    assert sidecar_path(file).read_bytes() == first


def test_the_hash_can_be_of_bytes_that_are_still_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"new")
    write_sidecar(tmp_path / "a.onnx", {}, described=tmp_path / "temporary")
    assert (read_sidecar(tmp_path / "a.onnx") or {})["sha256"] == sha256_of(tmp_path / "temporary")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "other/1"}', b"\xff\xfe\x00", b"{}"])
def test_what_is_not_ours_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    sidecar_path(tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.onnx\.json .*export .* again"):
        read_sidecar(tmp_path / "a.onnx")
