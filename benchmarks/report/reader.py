"""The benchmarks' JSON files, read by one validated reader and written by one writer.

Anyone may have made a file that is read here. So it must have the types of its dataclass throughout, numbers that a
measurement can give, and no character that would steer a terminal; anything else is refused in a sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pix2pix_edge.benchmarks.report.schema import FORMAT, Report
from pix2pix_edge.runtime.errors import InputError, printable
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.sidecar import from_json, read_json, to_json

FILE = "report.json"
LEAST, MOST = 1e-30, 1e18
"""A number other than 0 whose size is outside of these was not measured, not even as a rounding error; it would only
overflow in a table or plot."""

T = TypeVar("T")


def read(path: Path, kind: type[T], form: str, command: str) -> T:
    """Read the JSON file of a dataclass whose key `format` says `form`. Raises InputError for anything else.

    command: what makes such a file. Keys that this version does not know are left out.
    """
    try:
        content = read_json(path, form)
        _refuse_unmeasured(content)
        return from_json(kind, content)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
        raise InputError(f"{path} cannot be read ({why}); make it with: {command}") from error


def _refuse_unmeasured(value: Any) -> None:
    """Raise ValueError for a number that was never measured."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_unmeasured(inner)
    if isinstance(value, int | float) and value and not LEAST <= abs(value) <= MOST:
        raise ValueError(f"{value!r:.40} is no measured number")


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
