"""The benchmarks' JSON files, read by one validated reader and written by one writer.

Anyone may have made a file that is read here. So it must have the types of its dataclass throughout, numbers that a
measurement can give, and no character that would steer a terminal; anything else is refused in a sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pix2pix_edge.benchmarks.report.schema import FORMAT, Report
from pix2pix_edge.runtime.errors import InputError, printable, require
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.sidecar import to_json

FILE = "report.json"
LARGEST_FILE = 64 << 20
LEAST, MOST = 1e-30, 1e18
"""A number other than 0 whose size is outside of these was not measured, not even as a rounding error; it would only
overflow in a table or plot."""

T = TypeVar("T")


def read(path: Path, kind: type[T], form: str, command: str) -> T:
    """Read the JSON file of a dataclass whose key `format` says `form`. Raises InputError for anything else.

    command: what makes such a file. Keys that this version does not know are left out.
    """
    msgspec = require("msgspec", "benchmarks", f"reading {path}")
    again = f"make it with: {command}"
    try:
        if not path.is_file():
            raise InputError(f"there is no file {path}; {again}")
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path} is larger than {LARGEST_FILE >> 20} MB, as no such file is; {again}")
        content = msgspec.json.decode(path.read_bytes())
        found = content.get("format") if isinstance(content, dict) else None
        if found != form:
            was = printable(str(found or "it names none"))[:80]
            raise InputError(f"{path} is of another schema ({was}; this version reads {form}); {again}")
        value: T = msgspec.convert(_checked(content), kind)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {again}") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply; {again}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(f"{path} is not whole ({printable(str(error))}); {again}") from error
    return value


def _checked(value: Any) -> Any:
    """Return JSON without control characters. Raises ValueError for a number that was never measured."""
    if isinstance(value, dict):
        return {printable(key): _checked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_checked(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, int | float) and value and not LEAST <= abs(value) <= MOST:
        raise ValueError(f"{value!r:.40} is no measured number")
    return value


class Formatted(Protocol):
    """A dataclass that is a file of its own."""

    @property
    def format(self) -> str:
        """What the file says that it is."""
        ...


def as_json(value: Formatted) -> dict[str, Any]:
    """Return a dataclass as what json.dumps takes, without the fields that have their default."""
    return {"format": value.format, **to_json(value)}


def write(value: Formatted, path: Path) -> None:
    """Write a dataclass as JSON. Raises InputError when the file cannot be written."""
    with written_beside(path) as temporary:
        text = json.dumps(as_json(value), indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_report(path: str | Path) -> Report:
    """Read a report, its folder or its JSON file. Raises InputError when it is missing, broken or of another schema."""
    path = Path(path)
    command = "python -m benchmarks run --engine FILE --data DIR --out DIR"
    return read(path / FILE if path.is_dir() else path, Report, FORMAT, command)


def new_folder(folder: Path) -> None:
    """Make the folder of a report, if it is missing. Raises InputError when it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from error
