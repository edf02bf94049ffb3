"""ROS parameters declared from a dataclass, so that each default lives once, in the core.

A field tells about itself through its metadata, all of it optional:

    speed: float = field(default=0.3, metadata={"description": "…", "unit": "m/s", "range": (0.0, 1.0)})

`description` (text), `unit` (text), `range` (lowest, highest), `choices` (allowed values), `read_only` (bool).
A field that is a dataclass itself becomes a prefix: `workspace.minimum`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from minidiffuser_ros.contract.errors import ConfigurationError, MinidiffuserError

T = TypeVar("T")


class NodeParameters(Generic[T]):
    """The settings of a node: declared once, checked on every change, read back as the dataclass."""

    def __init__(
        self,
        node: Node,
        defaults: T,
        prefix: str = "",
        read_only: bool = False,
        check: Callable[[T], object] = lambda settings: None,
    ) -> None:
        """Declare a parameter per field of the dataclass instance `defaults`.

        read_only: declare all of them so, whatever their metadata says. check: is asked about every later change, and
        raises a MinidiffuserError for settings that cannot be had as things are.
        Raises ConfigurationError if a value from the command line or a YAML file has the wrong type, is out of range,
        or makes the dataclass refuse itself.
        """
        self._node = node
        self._defaults = defaults
        self._prefix = f"{prefix}." if prefix else ""
        self._check = check
        for name, field, value in _leaves(defaults):
            self._declare(self._prefix + name, field, value, read_only)
        self.value  # noqa: B018  # the dataclass's own checks see the start values here
        node.add_on_set_parameters_callback(self._validate)

    @property
    def value(self) -> T:
        """The settings as they are now."""
        names = [name for name, _, _ in _leaves(self._defaults)]
        values = {name: self._node.get_parameter(self._prefix + name).value for name in names}
        settings: T = _rebuilt(self._defaults, values)
        return settings

    def _declare(self, name: str, field: dataclasses.Field[Any], value: Any, read_only: bool) -> None:
        try:
            self._node.declare_parameter(name, _plain(value), descriptor(field, value, read_only))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigurationError(
                f"parameter '{name}' of {self._node.get_fully_qualified_name()} takes "
                f"{_expected(field, value)}: {error}"
            ) from error
        _check_choice(name, field, self._node.get_parameter(name).value)

    def _validate(self, changes: list[Parameter]) -> SetParametersResult:
        fields = {self._prefix + name: (name, field) for name, field, _ in _leaves(self._defaults)}
        proposed = {name: self._node.get_parameter(full).value for full, (name, _) in fields.items()}
        try:
            for change in changes:
                if change.name in fields:
                    name, field = fields[change.name]
                    _check_choice(change.name, field, change.value)
                    proposed[name] = change.value
            self._check(_rebuilt(self._defaults, proposed))
        except (MinidiffuserError, ValueError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def descriptor(field: dataclasses.Field[Any], value: Any, read_only: bool = False) -> ParameterDescriptor:
    """ROS's description of one field: text with unit and choices, range, whether it can change."""
    about = field.metadata
    text = str(about.get("description", field.name.replace("_", " ")))
    if unit := about.get("unit"):
        text += f" [{unit}]"
    if choices := about.get("choices"):
        text += f"; one of {', '.join(map(str, choices))}"
    result = ParameterDescriptor(description=text, read_only=read_only or bool(about.get("read_only", False)))
    if limits := about.get("range"):
        low, high = limits
        result.additional_constraints = f"from {low} to {high}"
        if isinstance(value, float):
            result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        elif isinstance(value, int):
            result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return result


def parameter_names(defaults: Any, prefix: str = "") -> list[str]:
    """Full names of the parameters that `NodeParameters` declares for this dataclass instance."""
    return [f"{prefix}.{name}" if prefix else name for name, _, _ in _leaves(defaults)]


def check_parameter_file(path: Path, known: Mapping[str, list[str]]) -> None:
    """Check a YAML parameter file against the names each node declares; `known` maps node name to names.

    Raises ConfigurationError for a section or a key that no node knows. `/**` may use the names of any node.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for section, body in content.items():
        names = {n for all_names in known.values() for n in all_names}
        node = section.strip("/").split("/")[-1]
        if node != "**":
            if node not in known:
                raise ConfigurationError(f"{path} has a section '{section}'; the nodes are {sorted(known)}")
            names = set(known[node])
        unknown = sorted(set(_flattened((body or {}).get("ros__parameters", {}))) - names)
        if unknown:
            raise ConfigurationError(f"{path} sets {unknown} in '{section}'; known are {sorted(names)}")


def _leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def _rebuilt(settings: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    changes = {}
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            changes[field.name] = _rebuilt(value, values, f"{name}.")
        else:
            changes[field.name] = _restored(values[name], value)
    return dataclasses.replace(settings, **changes)


def _plain(value: Any) -> Any:
    """The value as a type that ROS parameters have."""
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, bool | int | float | str):
        raise TypeError(
            f"a ROS parameter cannot hold {value!r}; use bool, int, float, str or a sequence of one of them"
        )
    return value


def _restored(value: Any, default: Any) -> Any:
    """A parameter's value as the type of the field's default."""
    if isinstance(default, tuple):
        return tuple(value)
    if isinstance(default, list):
        return list(value)
    if isinstance(default, Path):
        return Path(value)
    return value


def _check_choice(name: str, field: dataclasses.Field[Any], value: Any) -> None:
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise ConfigurationError(f"parameter '{name}' must be one of {', '.join(map(str, choices))}, got '{value}'")


def _expected(field: dataclasses.Field[Any], value: Any) -> str:
    kind = f"a list of {type(value[0]).__name__}" if isinstance(value, tuple | list) and value else type(value).__name__
    limits = field.metadata.get("range")
    return f"{kind} from {limits[0]} to {limits[1]}" if limits else kind


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key
