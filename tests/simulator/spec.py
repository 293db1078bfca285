"""The Python API of TensorRT by version: every class, overload, property and enum value, in api.json.

Taken from the docstrings that pybind11 writes into NVIDIA's own wheels. To add the version that is installed here:

    python -m tests.simulator.spec
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

API = Path(__file__).with_name("api.json")

Class = dict[str, Any]
"""Member -> "read-only" or "read-write" (a property), or a list of overloads "(flags: int = 0) -> Network"; the member
"enum" of an enum -> {name: value}."""

_SAME_TYPE = (
    ("typing_extensions.", ""), ("collections.abc.", ""), ("typing.", ""), ("SupportsInt", "int"),
    ("SupportsFloat", "float"), ("Sequence[", "list["), ("List[", "list["), ("Dict[", "dict["), ("Tuple[", "tuple["),
    ("Buffer", "buffer"), ("nvinfer1::", ""), ("nvonnxparser::", ""), ("tensorrt_bindings.", ""), ("tensorrt.", ""),
)  # fmt: skip
"""pybind11 spells one and the same type differently from release to release."""


@functools.cache
def api(version: str) -> dict[str, Any]:
    """Return name -> Class, or list of overloads for a function, of a version in full ("10.3.0") or short ("10.3")."""
    number = full_version(version)
    found: dict[str, Any] = {}
    for name, entry in json.loads(API.read_text())["names"].items():
        if isinstance(entry, list):
            value = _choose(entry, number)
        else:
            value = {member: v for member, e in entry.items() if (v := _choose(e, number)) is not None}
        if value:
            found[name] = value
    return found


def versions() -> list[str]:
    """Return every version in full, oldest first."""
    return list(json.loads(API.read_text())["versions"])


def full_version(version: str) -> str:
    """Return "10.3.0" for "10.3"."""
    return next(v for v in versions() if v == version or v.startswith(f"{version}."))


def compact(signature: str) -> str:
    """Return "(flags: int = 0) -> Network" for "create_network(self: Builder, flags: SupportsInt = 0) -> Network"."""
    for old, new in _SAME_TYPE:
        signature = signature.replace(old, new)
    return re.sub(r"^\w+\((?:self: [\w:.]+(?:, )?)?", "(", signature)


def installed_api(trt: ModuleType) -> dict[str, Class]:
    """Read the API of the `tensorrt` module given out of its docstrings."""
    found: dict[str, Any] = {}
    for name, value in vars(trt).items():
        if isinstance(value, type) and value.__module__.startswith("tensorrt") and name == value.__name__:
            found[name] = _class(value)
        elif type(value).__name__ in ("builtin_function_or_method", "builtin_method"):
            found[name] = _overloads(name, value)
    return found


def _class(cls: type) -> Class:
    if hasattr(cls, "__members__"):
        return {"enum": {name: int(value) for name, value in sorted(cls.__members__.items())}}
    found: Class = {}
    for name, value in vars(cls).items():
        value = getattr(value, "__func__", value)  # of a static method
        if isinstance(value, property):
            found[name] = "read-write" if value.fset else "read-only"
        elif name in ("__init__", "__getitem__", "__len__") or (
            not name.startswith("_") and callable(value) and not isinstance(value, type)
        ):
            found[name] = _overloads(name, value)
    return found


def _overloads(name: str, function: Any) -> list[str]:
    return [
        compact(re.sub(r"^\d+\. ", "", line))
        for line in (function.__doc__ or "").splitlines()
        if re.match(rf"(\d+\. )?{re.escape(name)}\(.*\) -> ", line) and "*args" not in line
    ]


def _choose(entry: list[list[Any]], version: str) -> Any:
    """An entry lists [value, versions that have it]."""
    return next((value for value, having in entry if version in having), None)


def write(apis: dict[str, dict[str, Class]]) -> None:
    """Write api.json from version -> API; what several versions share is written once."""
    names: dict[str, Any] = {}
    for version, classes in apis.items():
        for name, members in classes.items():
            if isinstance(members, list):
                _add(names.setdefault(name, []), members, version)
            else:
                for member, value in members.items():
                    _add(names.setdefault(name, {}).setdefault(member, []), value, version)
    lines = [f"{json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}" for name, entry in sorted(names.items())]
    API.write_text('{"versions": ' + json.dumps(list(apis)) + ',\n"names": {\n' + ",\n".join(lines) + "\n}}\n")


def _add(entry: list[list[Any]], value: Any, version: str) -> None:
    having = next((having for known, having in entry if known == value), None)
    if having is None:
        entry.append([value, [version]])
    else:
        having.append(version)


if __name__ == "__main__":
    tensorrt = importlib.import_module("tensorrt")
    known = {version: api(version) for version in versions()}
    write({**known, tensorrt.__version__: installed_api(tensorrt)})
