"""Refuse a plan that cannot run here, before any work: by its header and its sidecar.

A plan runs only with the TensorRT that built it, on the kind of GPU it was built on; one of TensorRT-RTX on the kinds
that it was built for (both have the same header, but for the first byte).
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia.capabilities import Capabilities, Gpu
from pix2pix_edge.runtime.sidecar import BuiltBy, Sidecar, read_sidecar

MAGICS = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
"""First bytes of a plan -> the package that built it, and runs it."""

VERSION_BYTES = slice(24, 28)
"""Where a plan of TensorRT 10 and 11 says major, minor, patch and build (trtexec --getPlanVersionOnly)."""


def read_plan(path: Path, capabilities: Capabilities, gpu: Gpu) -> tuple[bytes, Sidecar]:
    """Return a plan's bytes and its sidecar (an empty one where there is none).

    Raises EngineError when it is no plan, or was built by another TensorRT or for another GPU. Whether the file is
    the one that its sidecar describes, open_engine has looked.
    """
    data = path.read_bytes()
    sidecar = read_sidecar(path) or Sidecar()
    rebuild = f"build it here with: {rebuild_command(path, sidecar)}"
    if MAGICS.get(data[:4]) != capabilities.package or len(data) < VERSION_BYTES.stop:
        kind = "an ONNX graph under another name" if _looks_like_onnx(data) else "not a TensorRT plan"
        raise EngineError(f"{path} is {kind if data else 'empty'}; {rebuild}")
    built, here = tuple(data[VERSION_BYTES]), capabilities.tensorrt_version or ()
    if built[: len(here)] != here[: len(built)]:
        version = ".".join(map(str, built))
        raise EngineError(
            f"{path} was built by {capabilities.product} {version}, but {capabilities.tensorrt} is here; {rebuild}"
        )
    origin = sidecar.tensorrt or BuiltBy()
    capability = ".".join(map(str, gpu.compute_capability))
    for what, there, found in (
        ("compute capability", origin.compute_capability, capability),
        ("GPU", origin.gpu, gpu.name),
    ):
        if there and found not in there.split(", "):
            raise EngineError(f"{path} was built for the {what} {there}, but here it is {found}; {rebuild}")
    return data, sidecar


def package_of(path: Path) -> str:
    """Return the package that runs a plan, "tensorrt" for what is none."""
    with open(path, "rb") as file:
        return MAGICS.get(file.read(4), "tensorrt")


def rebuild_command(path: Path, sidecar: Sidecar) -> str:
    """Return the command that builds `path` again, from the graph that its sidecar names."""
    onnx = path.parent / sidecar.source.file if sidecar.source.file else path.with_suffix(".onnx")
    rtx = ["--rtx"] if path.is_file() and package_of(path) == "tensorrt_rtx" else []
    return shlex.join(["python", "-m", "export", "build", str(onnx), "--out", str(path), *rtx])


def _looks_like_onnx(data: bytes) -> bool:
    """Whether the file begins as an ONNX ModelProto does: field 1, the IR version, a small number."""
    return len(data) > 2 and data[0] == 0x08 and data[1] < 0x20
