"""A policy without a network, for tests of the graph: it finds what a sentence names by colour, in the cloud alone.

Run as a script it is the policy node with this policy in place of a checkpoint.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidiffuser_ros.bringup_runner import ProcessSpec
from minidiffuser_ros.contract.errors import InstructionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_yaw, quat_multiply
from minidiffuser_ros.policy.settings import WalkSettings
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE, BUTTON_CAP_TOP
from minidiffuser_ros.simulation.tasks.stack_pair import COLORS as PLAYED
from minidiffuser_ros.simulation.world import COLORS

OPEN, CLOSED = 1.0, 0.0
FINGERTIP_BELOW_TOOL = 0.0085
STARTS_ABOVE = 0.4  # m: the tool's height at home


@dataclass(frozen=True)
class Choice:
    """A decision, as the policy node reads it."""

    keypose: Keypose
    candidate_keyposes: tuple[Keypose, ...]
    holds: bool = False
    chosen: int = 0
    spread: float = 0.003
    encode_ms: float = 0.1
    denoise_ms: float = 0.1
    steps: int = 1
    pruned: float = 0.0
    sampler: str = "ddim"
    fell_back: bool = False
    doubt: str = ""
    mask: np.ndarray | None = None
    branches: tuple[str, ...] = ()

    @property
    def candidates(self) -> np.ndarray:
        """Positions [N, 3] m."""
        return np.stack([keypose.position for keypose in self.candidate_keyposes])


class ColorPolicy:
    """Plans from the first observation of a run, taken at home, and follows the plan."""

    spec = ObservationSpec()

    def __init__(self) -> None:
        self._plan: list[Keypose] = []

    def require(self, settings: WalkSettings) -> None:
        """It has no walks, so none is missing."""

    def decide(
        self, observation: Observation, instruction: str, seed: int, before: Observation | None, settings: WalkSettings
    ) -> Choice:
        """The next keypose of the plan, with a few neighbours as candidates; holds when the plan is done."""
        if observation.tool_position[2] > STARTS_ABOVE:
            self._plan = plan(observation, instruction)
        holds = not self._plan
        goal = self._plan.pop(0) if self._plan else down(observation.tool_position, observation.opening, 0.0)
        rng = np.random.default_rng(seed)
        others = [replace(goal, position=goal.position + rng.normal(0.0, 0.003, 3)) for _ in range(5)]
        return Choice(goal, (goal, *others), holds)


def plan(observation: Observation, instruction: str) -> list[Keypose]:
    """Keyposes for "push the X button" or "stack the X block on the Y block"."""
    colors = [word for word in re.findall(r"[a-z]+", instruction) if word in PLAYED]
    if "button" in instruction and len(colors) == 1:
        x, y, _ = locate(observation, colors[0])
        top = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
        return [down((x, y, top + height), CLOSED, 0.0) for height in (0.07, -0.012, 0.07)]
    if "block" in instruction and len(colors) == 2:
        (x, y, yaw), (u, v, turn) = (locate(observation, color) for color in colors)
        z = BLOCK_HALF_SIZE
        return [
            down((x, y, z + 0.10), OPEN, yaw),
            down((x, y, z), CLOSED, yaw),
            down((x, y, z + 0.14), CLOSED, yaw),
            down((u, v, z + 0.10), CLOSED, turn),
            down((u, v, 3 * z + 0.003), OPEN, turn),
            down((u, v, 3 * z + 0.103), OPEN, turn),
        ]
    raise InstructionError(f"only buttons and blocks of known colours are understood, got '{instruction}'")


def locate(observation: Observation, color: str) -> tuple[float, float, float]:
    """Centre x, y in metres and yaw in rad of what has this colour: its tightest upright box, seen from above."""
    directions = np.stack(
        [np.array(c) / np.linalg.norm(c) for c in (*(COLORS[name] for name in PLAYED), (0.5, 0.47, 0.43))]
    )
    colors = observation.colors.astype(float) + 1.0
    nearest = (colors / np.linalg.norm(colors, axis=1, keepdims=True) @ directions.T).argmax(axis=1)
    seen = observation.points[nearest == PLAYED.index(color)]
    if len(seen) < 5:
        raise InstructionError(f"nothing {color} is to be seen")
    xy = seen[np.linalg.norm(seen[:, :2] - np.median(seen[:, :2], axis=0), axis=1) < 0.05, :2]
    boxes = []
    for yaw in np.deg2rad(np.arange(-45, 45, 3)):
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        local = xy @ turn
        low, high = local.min(axis=0), local.max(axis=0)
        boxes.append((np.prod(high - low), yaw, turn @ (0.5 * (low + high))))
    _, yaw, center = min(boxes, key=lambda box: box[0])
    return float(center[0]), float(center[1]), float(yaw)


def down(position: Any, opening: float, yaw: float) -> Keypose:
    """The hand pointing down, turned by `yaw` rad."""
    return Keypose(np.asarray(position, float), quat_multiply(quat_from_yaw(yaw), POINTING_DOWN_WXYZ), opening)


def with_scripted_policy(spec: ProcessSpec) -> ProcessSpec:
    """The policy's process with this policy in it; any other as it is."""
    if spec.name != "policy":
        return spec
    arguments = spec.command[spec.command.index("--ros-args") :]
    return replace(spec, command=(sys.executable, str(Path(__file__)), *arguments))


def load(path: Path, device: str, threads: int) -> Any:
    """Stands in for the loading of a checkpoint."""
    return ColorPolicy()


if __name__ == "__main__":
    from minidiffuser_ros.bridge.process import run_node
    from minidiffuser_ros.nodes.policy import PolicyNode

    sys.exit(run_node(lambda: PolicyNode(load=load)))
