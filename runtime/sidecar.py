"""The sidecar: FILE.json beside every exported file and plan, saying what it is and how it was made.

Never a header inside the file itself: trtexec, Triton and every other tool must be able to read it. No clock time: the
same inputs give the same bytes. Anyone may have written it, so the one reader of JSON here, from_json(), takes nothing
that is not of the declared type.
"""

from __future__ import annotations

import functools
import json
import os
import stat
import sys
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pix2pix_edge.runtime.errors import InputError, printable
from pix2pix_edge.runtime.files import sha256_of, written_beside

FORMAT = "pix2pix-edge/1"
MOST_BYTES = 64 << 20
"""No JSON file of ours comes near this size."""
MOST = sys.float_info.max

T = TypeVar("T")


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape [N, H, W, C] and dtype ("uint8") of an engine's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Source:
    """What a file was made from: the name of a file beside it ("" where it is unknown), and its SHA-256."""

    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.file and (Path(self.file).name != self.file or self.file == ".."):
            raise ValueError("file must be the plain name of a file")


@dataclass(frozen=True)
class Precision:
    """asked: "fp32", "fp16" or "int8", "" where it is unknown. layers: layer -> the precision found in it."""

    asked: str = ""
    layers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewrite:
    """One change of the graph, exact.

    layer: the node that was changed. rewrite: "upsampling", "transposed" (convolution), "scale", "shift", "batch
    norm", "clip", "idle taps". form: what became of it, "none" where it was left alone, then with a reason where that
    was no choice. multiply_adds, weight_bytes: before and after.
    """

    layer: str
    rewrite: str
    form: str
    multiply_adds: tuple[int, int] = (0, 0)
    weight_bytes: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass(frozen=True)
class CalibratedOn:
    """What INT8 ranges were chosen by. images_sha256: of the images' hashes, in order."""

    images_sha256: str
    images: int
    method: str


@dataclass(frozen=True)
class FidelitySummary:
    """How alike pictures were to the reference's.

    psnr_db, ssim: means over the images. worst_psnr_db: of the image that lost most. max_difference: in levels of 255.
    """

    images: int
    psnr_db: float
    ssim: float
    max_difference: int
    reference: str = ""
    worst_psnr_db: float | None = None


@dataclass(frozen=True)
class Gate:
    """The least that was asked for: of the means over the images, and of the worst image."""

    min_psnr_db: float
    min_ssim: float
    min_worst_db: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What the gate said of a file in one engine, and the shortest time for a picture there while it was judged.

    All verdicts of one file were timed on one machine, so that they can be compared with each other only.
    """

    passed: bool
    psnr_db: float | None = None
    ssim: float | None = None
    worst_psnr_db: float | None = None
    ms: float | None = None


@dataclass(frozen=True)
class BuiltBy:
    """Where a plan was built, and may run. max_batch: None where the batch is fixed."""

    version: str = ""
    gpu: str = ""
    compute_capability: str = ""
    cuda: str = ""
    driver: str = ""
    max_batch: int | None = None


@dataclass(frozen=True)
class Colour:
    """A colour that means something to the network: its name and its RGB levels, 0 to 255."""

    name: str
    colour: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not all(0 <= level <= 255 for level in self.colour):
            raise ValueError("colour must be three levels from 0 to 255")


@dataclass(frozen=True)
class Sidecar:
    """What is known of a file; a key that is unknown is left out of the JSON.

    kind: "onnx" or "plan". sha256: of the file itself. sensitivity: layer -> PSNR in dB with that layer alone in INT8.
    backends: "onnxruntime", "openvino" or "openvino-bf16" -> its verdict. tools: package -> version. tensorrt: for a
    plan. palette: the colours of the label maps that it was trained on, for those who draw.
    """

    kind: str = "onnx"
    sha256: str = ""
    source: Source = Source()
    precision: Precision = Precision()
    input: TensorSpec | None = None
    output: TensorSpec | None = None
    rewrites: tuple[Rewrite, ...] = ()
    calibration: CalibratedOn | None = None
    gate: Gate | None = None
    sensitivity: dict[str, float] = field(default_factory=dict)
    fidelity: FidelitySummary | None = None
    backends: dict[str, Verdict] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    tensorrt: BuiltBy | None = None
    palette: tuple[Colour, ...] = ()


def sidecar_path(file: str | Path) -> Path:
    """Return where the sidecar of `file` is: its full name plus .json; of a link without one, that of its target."""
    beside = Path(f"{file}.json")
    if Path(file).is_symlink() and not os.path.lexists(beside):
        return Path(f"{Path(file).resolve()}.json")
    return beside


def write_sidecar(file: str | Path, content: Sidecar, *, described: str | Path | None = None) -> Sidecar:
    """Write the sidecar of `file` with its SHA-256, and return it; `described` is where the file's bytes are now."""
    whole = replace(content, sha256=sha256_of(described or file))
    with written_beside(Path(f"{file}.json")) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **to_json(whole)}, indent=2) + "\n")
    return whole


def read_sidecar(file: str | Path) -> Sidecar | None:
    """Return the sidecar of `file`, or None where there is none. Raises InputError when it is not one of ours."""
    path = sidecar_path(file)
    if not os.path.lexists(path):
        return None
    try:
        return from_json(Sidecar, read_json(path, FORMAT))
    except ValueError as error:
        raise InputError(f"{path} is no sidecar ({error}); export {file} again, or delete {path}") from error


def read_json(path: Path, file_format: str) -> dict[str, Any]:
    """Return a JSON object that says "format": file_format, of one file of ours. Raises ValueError for anything else.

    A pipe, a device or a folder in the file's place is refused, not waited for.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is not a file")
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except OSError as error:
        raise ValueError(error.strerror) from error
    found = content.get("format", "nothing") if isinstance(content, dict) else "nothing"
    if not isinstance(content, dict) or found != file_format:
        raise ValueError(f"it says {printable(str(found))[:80]}, not {file_format}, so this version has not written it")
    return content


def from_json(kind: type[T], value: Any, where: str = "it") -> T:
    """Return `value`, as json.loads() gives it, as the declared type: a dataclass, or what its fields are made of.

    Keys that the dataclass does not know are left out. Raises ValueError, naming the place, for any other type, for
    what is missing, for numbers that are not finite, and whatever the dataclass itself refuses.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        chosen = [t for t in inner if t is not type(None)]
        return typing.cast(T, None if value is None else from_json(chosen[0], value, where))
    if is_dataclass(kind):
        return _dataclass_from_json(kind, value, where)
    if origin in (tuple, list) and isinstance(value, list):
        each = [inner[0]] * len(value) if origin is list or inner[-1] is Ellipsis else list(inner)
        if len(each) == len(value):
            found = (from_json(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(each, value, strict=True)))
            return typing.cast(T, origin(found))
    if origin is typing.Literal and value in inner:
        return typing.cast(T, value)
    if origin is dict and isinstance(value, dict):
        entries = {printable(name): from_json(inner[1], v, f"{where}.{name}"[:80]) for name, v in value.items()}
        return typing.cast(T, entries)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST:
        return typing.cast(T, float(value))
    if kind is str and isinstance(value, str):
        return typing.cast(T, printable(value))
    if type(value) is kind and kind in (int, bool):
        return value
    raise ValueError(f"{printable(where)} must be {_described(kind)}")


_hints = functools.cache(typing.get_type_hints)  # of each kind once: they cost more than all the rest of the reading


def _dataclass_from_json(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, dict):
        raise ValueError(f"{printable(where)} must be an object with names and values")
    hints = _hints(kind)  # type: ignore[arg-type]
    found = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        name = entry.name
        if name in value:
            found[name] = from_json(hints[name], value[name], name if where == "it" else f"{where}.{name}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{printable(where)} does not tell {name}")
    try:
        return kind(**found)
    except ValueError as error:
        raise ValueError(f"{printable(where)}: {error}") from error


def to_json(value: Any) -> Any:
    """Return a dataclass as what json.dumps() takes; fields that have their default value are left out."""
    if isinstance(value, dict):
        return {name: to_json(entry) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(entry) for entry in value]
    if not is_dataclass(value):
        return value
    found = {}
    for entry in fields(value):
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if (kept := getattr(value, entry.name)) != default:
            found[entry.name] = to_json(kept)
    return found


def _described(kind: Any) -> str:
    words: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    words |= {tuple: "a list of the right length", list: "a list", typing.Literal: f"of {typing.get_args(kind)}"}
    return words.get(kind) or words.get(typing.get_origin(kind), "an object")
