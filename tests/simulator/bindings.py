"""Makes a module `tensorrt` with exactly the API of one version out of api.json, over classes that say what calls do.

A behaviour is a plain class of the same name. Its methods run after the arguments were checked against the version's
overloads. `values` are its simple properties with their first values. What the API has and no behaviour simulates
raises NotImplementedError; what the API has not is an AttributeError, as it is with the real module.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tests.simulator.spec import Class, api

BASES = {"Logger": "ILogger", "Dims2": "Dims", "Dims3": "Dims", "Dims4": "Dims", "DimsHW": "Dims2"}
"""api.json does not say who derives from whom; this much of it matters here."""

SUBCLASSED = ("ILogger", "IProgressMonitor", "IErrorRecorder", "IProfiler")
"""Classes that an application derives from; Python may set attributes on their objects."""


class PybindEnum:
    """A value of a pybind11 enum: it has name and value, turns into int, and equals only its own kind."""

    __members__: dict[str, Any]

    def __init__(self, value: int) -> None:
        found = next((m for m in type(self).__members__.values() if m.value == int(value)), None)
        if found is None:
            raise ValueError(f"{value} is not a valid {type(self).__name__}")
        self.__dict__.update(found.__dict__)

    def __int__(self) -> int:
        return self.value

    __index__ = __hash__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self.value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def make_enum(name: str, members: Mapping[str, int], *, ordered: bool = False) -> type:
    """Return an enum class; `ordered`, as py::arithmetic makes it, can be compared."""
    extra: dict[str, Any] = {"__module__": "tensorrt", "__members__": {}}
    if ordered:
        for symbol in ("__lt__", "__le__", "__gt__", "__ge__"):
            compare = getattr(operator, symbol)
            extra[symbol] = lambda self, other, compare=compare: compare(int(self), int(other))
    cls: Any = type(name, (PybindEnum,), extra)
    for key, value in members.items():
        member = object.__new__(cls)
        member.__dict__.update(name=key, value=value)
        cls.__members__[key] = member
        setattr(cls, key, member)
    return cls


class Tensorrt(ModuleType):
    """The module made, with `new` for what only TensorRT itself can construct."""

    def new(self, name: str, *args: Any) -> Any:
        cls = getattr(self, name)
        made = cls._make(cls, *args) if hasattr(cls, "_make") else object.__new__(cls)
        object.__setattr__(made, "_values", dict(cls._behaviour.values))
        made._start(*args)
        return made


def make_module(version: str, behaviours: Mapping[str, type], functions: Mapping[str, Callable[..., Any]]) -> Tensorrt:
    """Return the module `tensorrt` of a version; `behaviours` by class name, `functions` of the module."""
    module = Tensorrt("tensorrt", f"The simulated TensorRT {version}")
    waiting = dict(api(version))
    while waiting:
        name = next(n for n in waiting if _base(n) not in waiting)
        members = waiting.pop(name)
        if isinstance(members, list):
            value: Any = _checked(module, name, members, functions.get(name))
        elif "enum" in members:
            value = make_enum(name, members["enum"])
        else:
            value = _make_class(module, name, members, behaviours.get(name, Unsimulated))
        setattr(module, name, value)
    # Nested in the real module, and therefore missing from api.json: the severity levels.
    levels = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    logger: Any = module.ILogger
    logger.Severity = make_enum("Severity", {level: i for i, level in enumerate(levels)}, ordered=True)
    for level in levels:
        setattr(logger, level, getattr(logger.Severity, level))
    return module


def _base(name: str) -> str | None:
    layer = re.fullmatch(r"I\w+Layer", name) and name != "ILayer"
    return "ILayer" if layer else BASES.get(name)


class Simulated:
    """What behaviours derive from. `values`: the simple properties, each with its first value."""

    values: tuple[tuple[str, Any], ...] = ()

    def _start(self) -> None:
        """Take what the constructor, or Tensorrt.new, was given."""


class Unsimulated(Simulated):
    """The behaviour of a class that nothing here needs."""


def _make_class(module: Tensorrt, name: str, members: Class, behaviour: Any) -> type:
    base = _base(name)
    parent = getattr(module, base) if base else object
    inherited = {**vars(Simulated), **vars(behaviour)}
    space = {k: v for k, v in inherited.items() if k.startswith("_") and k not in ("__dict__", "__weakref__")}
    space.update(__module__="tensorrt", __qualname__=name, _behaviour=behaviour)
    space["__init__"] = _constructor(module, name, members.get("__init__", []), behaviour)
    for member, overloads in members.items():
        if isinstance(overloads, str):
            space[member] = _property(name, member, overloads, behaviour)
        elif member != "__init__":
            space[member] = _checked(module, f"{name}.{member}", overloads, getattr(behaviour, member, None))
    if not any(cls in SUBCLASSED for cls in (name, base)):
        space["__setattr__"] = _set_only_known
    bases = (bytes,) if issubclass(behaviour, bytes) else (parent,)
    return type(name, bases, space)


def _set_only_known(self: Any, name: str, value: Any) -> None:
    """Refuse what a class of pybind11 refuses: its objects have no attributes of their own."""
    if not name.startswith("_") and not isinstance(getattr(type(self), name, None), property):
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
    object.__setattr__(self, name, value)


def _constructor(module: Tensorrt, name: str, overloads: list[str], behaviour: Any) -> Callable[..., None]:
    if not overloads:

        def refuse(self: Any, *args: Any, **named: Any) -> None:
            raise TypeError(f"tensorrt.{name}: No constructor defined!")

        return refuse
    check = _checked(module, f"{name}.__init__", overloads, lambda self, *args: args)

    def construct(self: Any, *args: Any, **named: Any) -> None:
        values = check(self, *args, **named)
        object.__setattr__(self, "_values", dict(behaviour.values))
        if behaviour is Unsimulated:
            raise NotImplementedError(f"tensorrt.{name} is in the API, and the simulator does not simulate it")
        self._start(*values)

    return construct


def _property(name: str, member: str, access: str, behaviour: Any) -> property:
    own = vars(behaviour).get(member)
    simulated = member in dict(behaviour.values)

    def read(self: Any) -> Any:
        if isinstance(own, property) and own.fget:
            return own.fget(self)
        if not simulated:
            raise NotImplementedError(f"{name}.{member} is in the API, and the simulator does not simulate it")
        return self._values[member]

    def write(self: Any, value: Any) -> None:
        if isinstance(own, property) and own.fset:
            own.fset(self, value)
        elif not simulated:
            raise NotImplementedError(f"{name}.{member} is in the API, and the simulator does not simulate it")
        else:
            self._values[member] = value

    return property(read, write if access == "read-write" else None)


Parameter = tuple[str, str, bool]
"""Name, type, whether it has a default."""


@functools.cache
def parameters(signature: str) -> list[Parameter]:
    """Return the parameters of "(name: type, name: type = default) -> type"."""
    found: list[Parameter] = []
    text, depth, part = signature[1 : signature.rindex(") ->")], 0, ""
    for character in [*text, ","]:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0 and part.strip():
            name, _, kind = part.partition(":")
            kind, equals, _ = kind.partition("=")
            found.append((name.strip(), kind.strip(), bool(equals)))
            part = ""
        else:
            part += character
    return found


def _checked(
    module: Tensorrt, name: str, overloads: list[str], action: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return a function that takes only what one of `overloads` takes; `action` gets the values in order."""
    method = "." in name

    def call(*args: Any, **named: Any) -> Any:
        own, given = (args[:1], args[1:]) if method else ((), args)
        if method and not name.endswith("__init__") and not hasattr(own[0], "_values"):
            raise TypeError(f"{name.partition('.')[0]}.__init__() must be called when overriding __init__")
        for overload in overloads:
            values = _bind(module, parameters(overload), given, named)
            if values is not None:
                break
        else:
            supported = "; ".join(overloads)
            raise TypeError(f"{name}(): incompatible function arguments. The following are supported: {supported}")
        if action is None:
            raise NotImplementedError(f"tensorrt.{name} is in the API, and the simulator does not simulate it")
        return action(*own, *values)

    call.__name__ = name.rpartition(".")[2]
    return call


def _bind(module: Tensorrt, wanted: list[Parameter], given: tuple[Any, ...], named: dict[str, Any]) -> list[Any] | None:
    """Return the values in order, without trailing defaults, or None where they do not fit."""
    if len(given) > len(wanted) or not set(named) <= {name for name, _, _ in wanted[len(given) :]}:
        return None
    values = list(given)
    for name, _, optional in wanted[len(given) :]:
        if name in named:
            values.append(named[name])
        elif optional:
            break
        else:
            return None
    if len(values) - len(given) < len(named):
        return None  # a named argument after one left out: nothing here does it
    return values if all(_fits(module, v, kind) for v, (_, kind, _) in zip(values, wanted, strict=False)) else None


def _fits(module: Tensorrt, value: Any, kind: str) -> bool:
    """Whether pybind11 would convert `value` to the C++ type behind `kind`."""
    if kind == "int":
        return hasattr(value, "__index__") and not isinstance(value, PybindEnum)
    if kind == "float":
        return hasattr(value, "__float__")
    if kind in ("str", "bool", "tuple", "list"):
        return isinstance(value, {"str": str, "bool": bool, "tuple": tuple, "list": list}[kind]) or (
            kind == "str" and value is None
        )
    if kind == "buffer":
        try:
            memoryview(value)
        except TypeError:
            return False
        return True
    if kind.startswith("list["):
        return isinstance(value, list | tuple) and all(_fits(module, v, kind[5:-1]) for v in value)
    if kind == "Dims" and isinstance(value, list | tuple):
        return all(hasattr(v, "__index__") for v in value)
    cls = module.ILogger.Severity if kind.endswith("Severity") else getattr(module, kind, None)
    if cls is None or value is None:  # a type that is none of the module's; a null pointer
        return True
    if isinstance(value, cls) and not isinstance(value, PybindEnum) and not hasattr(value, "_values"):
        raise TypeError(f"{kind}.__init__() must be called when overriding __init__")
    return isinstance(value, cls)
