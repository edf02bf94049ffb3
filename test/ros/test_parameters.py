"""Parameters of a real node follow the dataclass they were declared from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from minidiffuser_ros.bridge.parameters import NodeParameters, check_parameter_file, parameter_names
from minidiffuser_ros.contract.errors import ConfigurationError

pytestmark = pytest.mark.ros


@dataclass(frozen=True)
class Box:
    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigurationError(f"low {self.low} must lie below high {self.high}")


@dataclass(frozen=True)
class Settings:
    speed: float = field(default=0.3, metadata={"description": "How fast", "unit": "m/s", "range": (0.0, 1.0)})
    tries: int = field(default=3, metadata={"range": (1, 10)})
    mode: str = field(default="fast", metadata={"choices": ("fast", "slow")})
    folder: Path = field(default=Path("models"), metadata={"read_only": True})
    enabled: bool = True
    box: Box = field(default_factory=Box)


@pytest.fixture
def node(context: Context) -> Iterator[Node]:
    node = Node("tested", context=context)
    yield node
    node.destroy_node()


def change(node: Node, name: str, value: object) -> tuple[bool, str]:
    result = node.set_parameters([Parameter(name, value=value)])[0]
    return result.successful, result.reason


def test_undisturbed_parameters_read_back_as_the_defaults(node: Node) -> None:
    assert NodeParameters(node, Settings()).value == Settings()
    assert set(parameter_names(Settings())) <= set(node._parameters)


def test_the_description_tells_unit_range_and_choices(node: Node) -> None:
    NodeParameters(node, Settings())
    speed, mode = node.describe_parameters(["speed", "mode"])
    assert speed.description == "How fast [m/s]"
    assert (speed.floating_point_range[0].from_value, speed.floating_point_range[0].to_value) == (0.0, 1.0)
    assert "one of fast, slow" in mode.description


@pytest.mark.parametrize(
    ("name", "good", "bad"), [("speed", 0.9, 1.1), ("tries", 10, 11), ("mode", "slow", "medium"), ("enabled", False, 1)]
)
def test_what_is_out_of_range_is_refused_and_changes_nothing(node: Node, name: str, good: object, bad: object) -> None:
    parameters = NodeParameters(node, Settings())
    assert change(node, name, good)[0]
    refused, reason = change(node, name, bad)
    assert not refused
    assert reason
    assert getattr(parameters.value, name) == good


def test_what_the_dataclass_refuses_the_parameter_refuses_in_its_words(node: Node) -> None:
    parameters = NodeParameters(node, Settings())
    accepted, reason = change(node, "box.low", [0.5, 2.0])
    assert not accepted
    assert "must lie below" in reason
    assert change(node, "box.low", [0.5, 0.6])[0]
    assert parameters.value.box == Box(low=(0.5, 0.6))


def test_read_only_parameters_do_not_change(node: Node) -> None:
    parameters = NodeParameters(node, Settings())
    assert not change(node, "folder", "elsewhere")[0]
    assert parameters.value.folder == Path("models")


def test_a_prefix_keeps_two_sets_apart(node: Node) -> None:
    left, right = NodeParameters(node, Settings(), "left"), NodeParameters(node, Settings(), "right")
    assert change(node, "left.tries", 7)[0]
    assert (left.value.tries, right.value.tries) == (7, 3)


@pytest.mark.parametrize(
    ("name", "value"), [("speed", 5.0), ("speed", "fast"), ("mode", "medium"), ("box.low", [2.0, 0.0])]
)
def test_a_wrong_start_value_is_refused_before_the_node_starts(context: Context, name: str, value: object) -> None:
    node = Node("tested", context=context, parameter_overrides=[Parameter(name, value=value)])
    with pytest.raises(ConfigurationError):
        NodeParameters(node, Settings())
    node.destroy_node()


def test_a_parameter_file_with_a_slip_is_refused(tmp_path: Path) -> None:
    known = {"arm": parameter_names(Settings()), "policy": ["seed"]}
    path = tmp_path / "file.yaml"
    path.write_text("/**:\n  ros__parameters: {speed: 0.2, box: {low: [0.1, 0.1]}, seed: 3}\n")
    check_parameter_file(path, known)
    path.write_text("arm:\n  ros__parameters: {sped: 0.2}\n")
    with pytest.raises(ConfigurationError, match="sped"):
        check_parameter_file(path, known)
    path.write_text("arn:\n  ros__parameters: {speed: 0.2}\n")
    with pytest.raises(ConfigurationError, match="arn"):
        check_parameter_file(path, known)
