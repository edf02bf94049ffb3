"""Dataclasses from plain values of a file, with nothing taken on trust."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from minidiffuser_ros.contract.errors import ConfigurationError

T = TypeVar("T")


def from_plain(kind: type[T], values: object, name: str = "config") -> T:
    """An instance of a dataclass from a mapping of numbers, strings, lists, mappings, and None where a field may be.

    Raises ConfigurationError naming a field that does not exist or has another type; the dataclass itself judges
    ranges. Fields that are missing keep their defaults.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"'{name}' must be a table, is {type(values).__name__}")
    hints = get_type_hints(kind)
    if unknown := sorted(set(values) - set(hints)):
        raise ConfigurationError(f"'{name}' has no setting {unknown}; it has {sorted(hints)}")
    return kind(**{key: _as(hints[key], value, f"{name}.{key}") for key, value in values.items()})


def _as(hint: Any, value: object, name: str) -> Any:
    if is_dataclass(hint):
        return from_plain(hint, value, name)  # type: ignore[arg-type]
    if get_origin(hint) is UnionType:
        if value is None and NoneType in get_args(hint):
            return None
        return _as(_kind_with([kind for kind in get_args(hint) if kind is not NoneType], value), value, name)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = get_args(hint)
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if len(kinds) == len(value):
            return tuple(_as(kind, item, name) for kind, item in zip(kinds, value, strict=True))
    elif get_origin(hint) is Literal and value in get_args(hint):
        return value
    elif hint is float and type(value) in (int, float) and math.isfinite(value):  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    elif hint in (int, bool, str) and type(value) is hint:
        return value
    raise ConfigurationError(f"'{name}' must be {getattr(hint, '__name__', hint)}, is {value!r:.60}")


def _kind_with(kinds: list[Any], value: object) -> Any:
    """Of several dataclasses the first that has all these settings; the first of all where none has."""
    fitting = (
        k for k in kinds if isinstance(value, Mapping) and is_dataclass(k) and value.keys() <= get_type_hints(k).keys()
    )
    return next(fitting, kinds[0])
