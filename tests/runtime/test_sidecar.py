from __future__ import annotations

import json
import os
import string
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.sidecar import (
    FORMAT,
    BuiltBy,
    CalibratedOn,
    Colour,
    FidelitySummary,
    Gate,
    Precision,
    Rewrite,
    Sidecar,
    Source,
    TensorSpec,
    Verdict,
    from_json,
    read_sidecar,
    sidecar_path,
    to_json,
    write_sidecar,
)

FULL = Sidecar(
    "plan",
    "0" * 64,
    Source("a.fp32.onnx", "1" * 64),
    Precision("int8", {"c": "int8", "d": "fp16"}),
    TensorSpec("image", (1, 32, 32, 3), "uint8"),
    TensorSpec("translated", (1, 32, 32, 3), "uint8"),
    (Rewrite("c", "upsampling", "box", (9, 4), (8, 8)), Rewrite("d", "upsampling", "none", reason="odd")),
    CalibratedOn("2" * 64, 24, "entropy"),
    Gate(35.0, 0.97, 32.0),
    {"c": 41.5},
    FidelitySummary(3, 40.25, 0.99, 17, "a.fp32.onnx", 36.5),
    {"openvino": Verdict(True, 40.5, 0.99, 36.0, 5.25)},
    {"onnx": "1.23.2"},
    BuiltBy("10.3.0", "Orin", "8.7", "12.6", "540", 4),
    (Colour("wall", (0, 48, 255)), Colour("door", (0, 207, 255))),
)


def test_every_field_comes_back_as_written_and_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    file = tmp_path / "a.plan"
    file.write_bytes(b"plan")
    assert read_sidecar(file) is None
    assert all(getattr(FULL, entry.name) != getattr(Sidecar(), entry.name) for entry in fields(Sidecar))
    whole = write_sidecar(file, FULL)
    first = sidecar_path(file).read_bytes()
    assert sidecar_path(file).name == "a.plan.json" and json.loads(first)["format"] == FORMAT
    assert read_sidecar(file) == whole and whole.sha256 == sha256_of(file)
    write_sidecar(file, FULL)
    assert sidecar_path(file).read_bytes() == first


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"graph")
    write_sidecar(tmp_path / "a.onnx", Sidecar())
    assert json.loads(sidecar_path(tmp_path / "a.onnx").read_text()).keys() == {"format", "sha256"}


def test_the_hash_can_be_of_bytes_that_are_still_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"new")
    write_sidecar(tmp_path / "a.onnx", Sidecar(), described=tmp_path / "temporary")
    assert (read_sidecar(tmp_path / "a.onnx") or Sidecar()).sha256 == sha256_of(tmp_path / "temporary")


def test_a_link_to_a_file_has_the_file_s_sidecar_unless_it_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "a.onnx"
    file.write_bytes(b"graph")
    write_sidecar(file, FULL)
    link = tmp_path / "current.onnx"
    link.symlink_to("models/a.onnx")
    assert read_sidecar(link) == read_sidecar(file) != None  # noqa: E711
    write_sidecar(link, Sidecar(kind="onnx"))
    assert (read_sidecar(link) or FULL).kind == "onnx" and (read_sidecar(file) or Sidecar()).kind == "plan"


def telling(**changed: Any) -> bytes:
    return json.dumps({"format": FORMAT, **to_json(FULL), **changed}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "Expecting"),
        (b"[]", "says nothing, not"),
        (b'{"format": "other/1"}', "says other/1, not"),
        (b"\xff\xfe\x00", "decode"),
        (b"{}", "says nothing, not"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (65 << 20), "larger than 64 MiB"),
        (telling(source=[]), "source must be an object"),
        (telling(source={"file": "../../etc/passwd"}), "source: file must be the plain name"),
        (telling(source={"file": ".."}), "source: file must be the plain name"),
        (telling(precision={"layers": {"c": 8}}), r"precision\.layers\.c must be a text"),
        (telling(input={"name": "image", "shape": "1", "dtype": "uint8"}), r"input\.shape must be a list"),
        (telling(input={"shape": [], "dtype": "uint8"}), "input does not tell name"),
        (telling(rewrites=[{"layer": "c", "rewrite": "x", "form": "y", "multiply_adds": [1]}]), "the right length"),
        (telling(backends={"openvino": {"passed": 1}}), "passed must be true or false"),
        (telling(fidelity={"images": True}), r"fidelity\.images must be a whole number"),
        (telling(sensitivity={"c": 10**400}), "must be a number"),
        (b'{"format": "%s", "sensitivity": {"c": NaN}}' % FORMAT.encode(), "must be a number"),
        (b'{"format": "%s", "sensitivity": {"c": 1e999}}' % FORMAT.encode(), "must be a number"),
        (telling(palette=[{"name": "wall", "colour": [0, 0, 256]}]), "levels from 0 to 255"),
        (telling(kind=None), "kind must be a text"),
    ],
)
def test_what_is_not_ours_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    sidecar_path(tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.onnx\.json is no sidecar \(.*{said}.*\); export .* again") as caught:
        read_sidecar(tmp_path / "a.onnx")
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


def test_a_pipe_or_a_folder_in_its_place_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(sidecar_path(tmp_path / "a.onnx"))
    sidecar_path(tmp_path / "b.onnx").mkdir()
    sidecar_path(tmp_path / "c.onnx").symlink_to("nowhere")
    for name in ("a.onnx", "b.onnx", "c.onnx"):
        with pytest.raises(InputError, match="is no sidecar"):
            read_sidecar(tmp_path / name)


def test_no_control_character_comes_out(tmp_path: Path) -> None:
    sidecar_path(tmp_path / "a.onnx").write_bytes(
        telling(source={"file": "a\x1b[31m\n.onnx"}, tools={"\x07": "\u202e"})
    )
    found = read_sidecar(tmp_path / "a.onnx") or Sidecar()
    assert found.source.file == r"a\x1b[31m .onnx" and found.tools == {r"\x07": r"\u202e"}
    with pytest.raises(ValueError) as caught:
        from_json(dict[str, int], {"\x1b": "x"})
    assert "\x1b" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*string.ascii_lowercase[:3], "file", "shape", "name", "passed"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([entry.name for entry in fields(Sidecar)]), JSON)
def test_any_value_in_any_place_is_read_or_refused(name: str, value: Any) -> None:
    try:
        found = from_json(Sidecar, {**to_json(FULL), name: value})
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert from_json(Sidecar, to_json(found)) == found
