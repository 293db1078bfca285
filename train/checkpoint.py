"""Checkpoints: everything the next step depends on, in one file that is replaced whole."""

from __future__ import annotations

import dataclasses
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.sidecar import from_json

Row = dict[str, float]


@dataclasses.dataclass
class Progress:
    """How far a run is: whole epochs done, steps and processor seconds of the epoch begun, a row for each whole one.

    settled: batch norm's statistics were measured anew after the last epoch but those that finish the run.
    """

    epoch: int = 0
    step: int = 0
    cpu_seconds: float = 0.0
    history: list[Row] = dataclasses.field(default_factory=list)
    settled: bool = False


def checkpoint_path(run: Path) -> Path:
    return run / "checkpoint.npz"


def save_checkpoint(run: Path, progress: Progress, state: list[Any]) -> None:
    """Write RUN/checkpoint.npz: the variables' values in order, and the progress. A kill leaves the former file.

    Random numbers need no state of their own: dropout's are variables, and the data's follow from seed and epoch.
    """
    values = {f"v{index:04}": value for index, value in enumerate(state)}
    with written_beside(checkpoint_path(run)) as temporary, temporary.open("wb") as file:
        np.savez(file, progress=json.dumps(dataclasses.asdict(progress)), **values)


def progress_of(content: Any) -> Progress:
    """Return what a checkpoint tells of the progress. Raises ValueError for anything of another type."""
    if not isinstance(content, dict):
        raise ValueError("its progress must be an object with names and values")
    history = from_json(tuple[Row, ...], content.pop("history", []), "history")
    whole: list[Row] = [{**row, "epoch": int(row.get("epoch", 0))} for row in history]
    return dataclasses.replace(from_json(Progress, content), history=whole)


def load_checkpoint(run: Path, variables: list[Any]) -> Progress:
    """Assign the saved values to the variables and return the progress; of a run that has none yet, change nothing.

    Raises InputError when the file is missing, not whole or does not fit the networks.
    """
    path = checkpoint_path(run)
    history = run / "history.csv"
    lost = history.exists() and len(history.read_bytes().splitlines()) > 2  # the first epoch's row is there before it
    if not (path.exists() or lost):
        return Progress()
    try:
        with np.load(path) as saved:
            progress = progress_of(json.loads(str(saved["progress"])))
            values = [saved[f"v{index:04}"] for index in range(len(saved.files) - 1)]
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise ValueError("it holds other networks")
    except (ValueError, KeyError, OSError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        weights = shlex.quote(str(run / "generator.keras"))
        raise InputError(
            f"{path} cannot be resumed from ({error}); start a new run in another folder, with --init {weights}"
        ) from error
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress
