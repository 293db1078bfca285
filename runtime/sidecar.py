"""The sidecar: FILE.json beside every exported file and plan, saying what it is and how it was made.

Never a header inside the file itself: trtexec, Triton and every other tool must be able to read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import sha256_of, written_beside

FORMAT = "pix2pix-edge/1"

Sidecar = dict[str, Any]
"""Keys, each present when known:

format        FORMAT
kind          "onnx" or "plan"
sha256        of the file it describes
source        {"file", "sha256"} of what it was made from
precision     {"asked": "fp32" | "fp16" | "int8", "layers": {layer: found precision}}
input, output {"name", "shape", "dtype"}
rewrites      one entry per changed layer: {"layer", "rewrite", "form", "multiply_adds": [before, after]}
calibration   {"images_sha256", "images", "method"}
fidelity      {"reference", "images", "psnr_db", "ssim", "max_difference"} as measured when it was made
backends      for an .onnx: {"openvino": {"passed": bool, "bf16": bool}}, what may run it besides ONNX Runtime
tools         {package: version}
tensorrt      for a plan: {"version", "gpu", "compute_capability", "cuda", "driver"}, with --batch "max_batch"

No clock time: the same inputs give the same bytes.
"""


def sidecar_path(file: str | Path) -> Path:
    """Return where the sidecar of `file` is: its full name plus .json."""
    return Path(f"{file}.json")


def write_sidecar(file: str | Path, content: Sidecar, *, described: str | Path | None = None) -> None:
    """Write the sidecar of `file`, adding format and sha256; `described` is where the file's bytes are now."""
    whole = {"format": FORMAT, "sha256": sha256_of(described or file), **content}
    with written_beside(sidecar_path(file)) as temporary:
        temporary.write_text(json.dumps(whole, indent=2) + "\n")


def read_sidecar(file: str | Path) -> Sidecar | None:
    """Return the sidecar of `file`, or None where there is none. Raises InputError when it is not one of ours."""
    path = sidecar_path(file)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); export {file} again, or delete {path}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} was not written by this version (it must say {FORMAT}); export {file} again")
    return content
