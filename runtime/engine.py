"""open_engine: the right engine for a file, after its sidecar was asked."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from pix2pix_edge.runtime.engines import openvino
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.engines.onnx_file import read_onnx
from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pix2pix_edge.runtime.errors import EngineError, InputError, ToolkitError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.sidecar import Sidecar, read_sidecar, sidecar_path

WAYS = ("openvino-bf16", "openvino", "onnxruntime")
"""How an .onnx file runs on a CPU, the fastest first where no time was taken."""

MODELS = (".onnx", ".keras", ".h5")
"""What convert makes an engine of, besides SavedModel folders."""


def open_engine(
    path: str | Path,
    *,
    backend: str = "auto",
    precision: str = "auto",
    slots: int = 2,
    threads: int | None = None,
) -> Engine:
    """Open an exported graph or plan: .plan with TensorRT, .onnx on the CPU, http://HOST/v2/models/NAME on a server.

    backend: for .onnx: "onnxruntime", "openvino", or "auto" (the faster of those that passed the gate with this file).
    precision: for the layers of an .onnx that are not INT8: "fp32", "bf16", or "auto" (BF16 where it passed the gate,
    and the CPU has it). threads: CPU threads, None for all cores. Raises InputError (no such file, unknown ending, more
    threads than CPUs) and EngineError (it cannot be opened here).
    """
    if re.match(r"https?:/", str(path), re.IGNORECASE):
        from pix2pix_edge.runtime.engines.remote import RemoteEngine

        if backend != "auto" or precision != "auto" or threads is not None:
            raise InputError("--backend, --precision and --threads are the server's to choose; leave them out")
        return RemoteEngine(str(path), slots=slots)
    path = Path(path)
    if threads is not None and not 1 <= threads <= (most := os.cpu_count() or threads):
        # they spin while they wait for one another: with more than there are CPUs the whole machine stands still
        raise InputError(f"--threads is from 1 to {most} on this machine, not {threads}; leave it out for all cores")
    check_file(path)
    sidecar = read_sidecar(path) or Sidecar()
    if sidecar.sha256 not in ("", sha256_of(path)):
        raise EngineError(
            f"{path} was altered after it was exported (its SHA-256 is not the one in {sidecar_path(path).name});"
            f" export it again with: {_command_that_makes(path, sidecar)}"
        )
    if path.suffix == ".plan":
        from pix2pix_edge.runtime.engines.tensorrt import TensorRTEngine

        try:
            return TensorRTEngine(path, slots=slots)
        except ToolkitError as error:
            raise type(error)(f"{error}{_instead_of(path)}") from error
    way = _way_to_run(path, sidecar, backend, precision)
    if way != "onnxruntime":
        return openvino.OpenVinoEngine(path, slots=slots, threads=threads, bf16=way == "openvino-bf16")
    return OnnxRuntimeEngine(path, slots=slots, threads=threads)


def check_file(path: Path, endings: Sequence[str] = (".onnx", ".plan")) -> None:
    """Raise InputError unless a file is there with one of the endings, with what to do with this very one."""
    if not path.exists():
        raise InputError(f"there is no file {path}; make one with: python -m export convert MODEL --out DIR")
    if path.suffix in endings and path.is_file():
        return
    remedy = f"make one of it with: python -m export convert {shlex.quote(str(path))} --out DIR"
    if path.suffix == ".plan":
        remedy = "only TensorRT can open a plan; give the .onnx that it was built from"
    elif path.suffix in (".pt", ".pth", ".ckpt"):
        remedy = "export it from PyTorch with torch.onnx.export(model.eval(), …), and convert that (docs/models.md)"
    elif path.suffix not in MODELS and not (path / "saved_model.pb").is_file():
        remedy = "give a file written by: python -m export"
    raise InputError(f"{path} is no {' or '.join(endings)} file; {remedy}")


def _way_to_run(path: Path, sidecar: Sidecar, backend: str, precision: str) -> str:
    """Return the fastest of WAYS that was asked for, is there, and may be trusted with this very file.

    Asked for by name, a way needs no trust. Otherwise what the gate said of the file decides, and of those that passed
    the time that each took then; without times, the order of WAYS. BF16 must have passed; OpenVINO, which has given
    wrong pictures with INT8 graphs, must have with those. ONNX Runtime is the fallback, on any machine.
    """
    if backend == "onnxruntime":
        if precision == "bf16":
            raise InputError("ONNX Runtime does not compute in BF16; leave --precision bf16 out, or --backend")
        return "onnxruntime"
    if precision == "bf16":
        return "openvino-bf16"
    if importlib.util.find_spec("openvino") is None:
        return "openvino" if backend == "openvino" else "onnxruntime"
    verdicts = sidecar.backends
    trusted = []
    if precision == "auto" and (verdict := verdicts.get("openvino-bf16")) and verdict.passed and openvino.has_bf16():
        trusted.append("openvino-bf16")
    verdict = verdicts.get("openvino")
    if backend == "openvino" or (verdict.passed if verdict else not read_onnx(path).quantized):
        trusted.append("openvino")
    if backend == "auto":
        trusted.append("onnxruntime")
    times = [verdicts[way].ms for way in trusted if way in verdicts]
    if len(times) == len(trusted) and all(times):
        return min(trusted, key=lambda way: verdicts[way].ms or 0)
    return trusted[0]


def _command_that_makes(path: Path, sidecar: Sidecar) -> str:
    if path.suffix == ".plan":
        from pix2pix_edge.runtime.nvidia.plan import rebuild_command

        return rebuild_command(path, sidecar)
    source = sidecar.source.file
    if sidecar.precision.asked == "int8":
        model = str(path.parent / source) if source else "NAME.fp32.onnx"
        return shlex.join(["python", "-m", "export", "quantize", model, "--data", "DIR"])
    return shlex.join(["python", "-m", "export", "convert", source or "GENERATOR.keras", "--out", str(path.parent)])


def _instead_of(plan: Path) -> str:
    """Return how to run the same generator on the CPU: "; meanwhile …", or "" with no .onnx beside the plan."""
    name = plan.name.partition(".")[0]
    for candidate in (plan.with_suffix(".cpu.onnx"), plan.with_suffix(".onnx"), plan.with_name(f"{name}.fp32.onnx")):
        if candidate.is_file():
            return f"; meanwhile it runs on the CPU with: --engine {shlex.quote(str(candidate))}"
    return "; meanwhile give --engine the .onnx file that the plan was built from, which runs on any CPU"
