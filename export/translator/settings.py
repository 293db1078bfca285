"""A Keras model's settings rewritten: to FP32, a free batch, another size; and layers that a user registers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.export.graph.trace import reason
from pix2pix_edge.runtime.errors import InputError

HALVES = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")
SHAPES = ("batch_shape", "batch_input_shape", "build_input_shape", "input_shape")


def rewritten(value: Any, old: tuple[Any, ...], size: tuple[int, int] | None, halves: bool) -> Any:
    """Return a config in FP32, with a free batch, and pictures of `size` where they were of `old`."""
    if isinstance(value, list | tuple):
        return type(value)(rewritten(entry, old, size, halves) for entry in value)
    if not isinstance(value, dict):
        return value
    if halves and value.get("class_name") in ("DTypePolicy", "Policy") and policy_name(value) in HALVES:
        return {**value, "config": {"name": "float32"}}
    found = {}
    for key, entry in value.items():
        if halves and key == "dtype" and entry in HALVES:
            entry = "float32"
        if key in SHAPES and isinstance(entry, list | tuple):
            if len(entry) == 4:
                entry = [None, *(size if size and tuple(entry[1:3]) == old else entry[1:3]), entry[3]]
        else:
            entry = rewritten(entry, old, size, halves)
        found[key] = entry
    return found


def policy_name(value: Any) -> str:
    if isinstance(value, dict):
        config = value.get("config")
        value = config.get("name") if isinstance(config, dict) else ""
    return str(value)


def in_single(weight: Any) -> Any:
    return weight.astype(np.float32) if weight.dtype.kind not in "iub" else weight


def run_file(path: Path) -> dict[str, Any]:
    """Run a Python file of the user's, as the option says that names it, and return its classes by their names."""
    if not path.is_file():
        raise InputError(f"--custom {path} does not exist; give the Python file that holds the layers")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"--custom {path} fails: {type(error).__name__}: {reason(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return {
        name: kind for name, kind in vars(module).items() if isinstance(kind, type) and kind.__module__ == path.stem
    }
