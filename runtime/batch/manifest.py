"""What a batch has done: SINK/manifest/, a Parquet data set with a row for each picture, written in parts."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.batch.places import get, is_remote, join, listed, put
from pix2pix_edge.runtime.errors import InputError

FOLDER = "manifest"


@dataclass(frozen=True)
class Entry:
    """One picture. sha256: of the file written. ms: the engine's time; None where it was there already. error: "" or
    why there is no output.
    """

    source: str
    output: str
    sha256: str
    ms: float | None
    error: str


def table_of(entries: Iterable[Entry]) -> Any:
    """Return the entries as a pyarrow.Table."""
    import pyarrow

    kinds = {"source": "string", "output": "string", "sha256": "string", "ms": "float64", "error": "string"}
    return pyarrow.Table.from_pylist([asdict(entry) for entry in entries], pyarrow.schema(list(kinds.items())))


class Manifest:
    """The parts of an earlier run of the same engine, and those that this one adds."""

    def __init__(self, sink: str, engine_sha256: str) -> None:
        """Read what is there. Raises InputError when it was written with another engine, or is damaged."""
        self._folder, self._engine = join(sink, FOLDER), engine_sha256
        self._waiting: list[Entry] = []
        self._part = 0
        self.done: set[str] = set()
        for name in self._parts():
            self._part = max(self._part, int(name.rpartition("-")[2].partition(".")[0]) + 1)
            self._read(name)

    def _parts(self) -> list[str]:
        if is_remote(self._folder):
            found = listed(f"{self._folder}/part-*.parquet")
        else:
            found = sorted(str(path) for path in Path(self._folder).glob("part-*.parquet"))
        return [name for name in found if re.fullmatch(r"part-[0-9]+\.parquet", Path(name).name)]

    def _read(self, name: str) -> None:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(io.BytesIO(get(name) or b""))
            about = json.loads((table.schema.metadata or {})[b"pix2pix_edge"])
            rows = zip(table["output"].to_pylist(), table["error"].to_pylist(), strict=True)
            self.done |= {str(output) for output, error in rows if not error}
        except (pyarrow.ArrowException, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{name} is no part of a manifest ({error}); take it away, its pictures are found again; or, where it"
                " is the only part, choose another --sink"
            ) from error
        if about.get("engine") != self._engine:
            raise InputError(f"{self._folder} is of another engine; choose another --sink for this one")

    def begin(self, outputs: Iterable[str]) -> None:
        """Write down at once whose pictures these will be; the same engine's earlier run may have been killed.

        Raises InputError where pictures are there of which no manifest says that.
        """
        if self._part:
            return
        if is_remote(self._folder):
            there: set[str] = set(listed(self._folder.rpartition("/")[0]))
        else:
            there = {output for output in outputs if Path(output).exists()}
        if foreign := sorted(there.intersection(outputs)):
            raise InputError(f"{foreign[0]} is there already, and no batch wrote it; choose another --sink")
        self._write([])

    def add(self, entry: Entry) -> None:
        """Take a row; it is on disk after flush()."""
        self._waiting.append(entry)

    def flush(self) -> None:
        """Write what was added as one more part."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def _write(self, entries: list[Entry]) -> None:
        import pyarrow.parquet

        about = {"engine": self._engine, "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        content = io.BytesIO()
        described = table_of(entries).replace_schema_metadata({"pix2pix_edge": json.dumps(about)})
        pyarrow.parquet.write_table(described, content)
        put(join(self._folder, f"part-{self._part:05d}.parquet"), content.getvalue())
        self._part += 1
