"""Refusing a plan by its header and sidecar: no TensorRT, no GPU and no simulator is needed for that."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.capabilities import Capabilities, Gpu
from pix2pix_edge.runtime.nvidia.plan import read_plan, rebuild_command
from pix2pix_edge.runtime.sidecar import BuiltBy, Sidecar, Source, write_sidecar

ORIN = Gpu("Orin", (8, 7), True, 8 << 30)


def header(*version: int) -> bytes:
    """Return the first bytes of a plan, laid out as trtexec reads them."""
    return b"ftrt" + bytes(20) + bytes(version) + b"the rest"


def machine(tensorrt: str) -> Capabilities:
    return replace(capabilities.probe(), tensorrt=tensorrt, gpu=ORIN)


@pytest.mark.parametrize(
    ("built", "here"),
    [((10, 3, 0, 26), "10.3.0"), ((10, 3, 0, 26), "10.3.0.26"), ((11, 4, 0, 106), "11.4.0.106")],
)
def test_a_plan_of_this_version_is_read(tmp_path: Path, built: tuple[int, ...], here: str) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(header(*built))
    assert read_plan(plan, machine(here), ORIN) == (header(*built), Sidecar())
    write_sidecar(plan, Sidecar("plan", tensorrt=BuiltBy(gpu="Orin", compute_capability="8.7")))
    assert read_plan(plan, machine(here), ORIN)[1].kind == "plan"


@pytest.mark.parametrize(
    ("built", "here"),
    [
        ((10, 3, 0, 26), "10.3.1"),
        ((10, 3, 0, 26), "10.3.0.30"),
        ((10, 16, 1, 11), "11.4.0.106"),
        ((8, 6, 1, 6), "10.3.0"),
    ],
)
def test_a_plan_of_another_version_is_not(tmp_path: Path, built: tuple[int, ...], here: str) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(header(*built))
    version = ".".join(map(str, built))
    with pytest.raises(EngineError, match=f"was built by TensorRT {version}, but {here} is here; build it here with: "):
        read_plan(plan, machine(here), ORIN)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"ftrt", "is not a TensorRT plan"),
        (b"\x08\x09\x12\x0cpix2pix-edge" + bytes(40), "is an ONNX graph under another name"),
        (b"PK\x03\x04" + bytes(40), "is not a TensorRT plan"),
    ],
)
def test_what_is_no_plan(tmp_path: Path, content: bytes, said: str) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(content)
    with pytest.raises(EngineError, match=said):
        read_plan(plan, machine("10.3.0"), ORIN)


def test_the_rebuild_command_can_be_pasted(tmp_path: Path) -> None:
    plan = tmp_path / "my plans" / "a.plan"
    words = shlex.split(rebuild_command(plan, Sidecar()))
    assert words == ["python", "-m", "export", "build", str(plan.with_suffix(".onnx")), "--out", str(plan)]
    words = shlex.split(rebuild_command(plan, Sidecar(source=Source("a.int8.onnx"))))
    assert words[4] == str(tmp_path / "my plans" / "a.int8.onnx")


@settings(max_examples=200)
@given(st.sampled_from([b"", b"ftrt", header(10, 3, 0, 26), b"\x08\x0a"]), st.binary(max_size=40), st.integers(0, 70))
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes, length: int
) -> None:
    plan = tmp_path_factory.getbasetemp() / "any.plan"
    plan.write_bytes((start + rest)[:length])
    try:
        read_plan(plan, machine("10.3.0"), ORIN)
    except EngineError as error:
        assert "\n" not in str(error) and "build it here with" in str(error)
