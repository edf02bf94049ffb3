"""`turn_tap`: a tap with two levers; turn the left one or the right one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.parts import CERAMIC, STEEL, box, capsule, child, cylinder, hinge
from minidiffuser_ros.simulation.stage import FINGERS, Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, STILL, Task, down
from minidiffuser_ros.simulation.tasks.objects import FIRM
from minidiffuser_ros.simulation.world import SceneBuilder

TAP, SIDES = "tap", ("left", "right")
HANDLES = tuple(f"{side}_handle" for side in SIDES)
SPACING = 0.085  # m from the middle of the tap to each handle
PILLAR_TOP, LEVER_BOTTOM, LEVER_TOP = 0.065, 0.073, 0.095
LEVER_HALF_WIDTH, LEVER_END, LEVER_BACK = 0.010, 0.046, 0.016  # m; the ends from the hinge
GRIP = 0.086  # m above the table: the fingertips stay above the hub
TURNED, ASTRAY, STOP = np.deg2rad([90.0, 20.0, 115.0])
TURN = np.deg2rad(105.0)
MAX_YAW = np.deg2rad(30.0)
HOVER = 0.10
ASTRIDE = 0.02  # m from the tool to the hinge: nearer there is no room for fingers that are not on both sides


class TurnTap(Task):
    """Success: the named lever stands 90 degrees or more against the clock from shut, the other does not; released.

    It must have been turned between the fingers: an arm that sweeps over the table may knock a lever round by chance.
    Left and right as the robot sees them, that is +y and -y: the spout points at the robot, and so do both levers when
    they are shut. Both open against the clock, as valves do.
    """

    name = "turn_tap"
    num_variations = len(SIDES)
    max_keyposes = 7

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        tap = scene.fixture(TAP)
        box(tap, (0.030, SPACING + 0.028, 0.009), (0, 0, 0.009), color=STEEL)
        for start, end in (
            ((0, 0, 0.02), (0, 0, 0.08)),
            ((0, 0, 0.08), (-0.10, 0, 0.08)),
            ((-0.10, 0, 0.08), (-0.11, 0, 0.055)),
        ):
            capsule(tap, 0.013, start, end, color=STEEL)
        for name, y in zip(HANDLES, (SPACING, -SPACING), strict=True):
            cylinder(tap, 0.018, 0.5 * PILLAR_TOP, (0, y, 0.5 * PILLAR_TOP), color=STEEL)
            _add_handle(tap, name, y)
            scene.let_pass(TAP, name)

    def instructions(self) -> Sequence[str]:
        side = SIDES[self.variation]
        return (
            f"turn the {side} tap",
            f"rotate the {side} tap",
            f"open the {side} tap",
            f"grasp the {side} handle of the tap and turn it",
            f"turn the lever on the {side} side",
        )

    def held_out_instructions(self) -> Sequence[str]:
        side = SIDES[self.variation]
        return (f"twist the {side} tap open", f"let the water run with the {side} handle")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        x, y, yaw = rng.uniform([0.42, -0.20, -MAX_YAW], [0.60, 0.20, MAX_YAW])
        stage.place(TAP, (x, y, 0.0), yaw)
        self._handle, self._other = HANDLES if self.variation == 0 else HANDLES[::-1]
        self._angle = self._knocked = 0.0

    def update(self, stage: Stage) -> None:
        angle = stage.joint(f"{self._handle}_hinge")
        if np.linalg.norm((stage.tool - stage.position(self._handle))[:2]) > ASTRIDE:
            self._knocked += abs(angle - self._angle)
        self._angle = angle

    def success(self, stage: Stage) -> bool:
        turned = stage.joint(f"{self._handle}_hinge") >= TURNED
        at_rest = abs(float(stage.data.joint(f"{self._handle}_hinge").qvel[0])) < STILL
        released = not any(stage.touching(self._handle, finger) for finger in FINGERS)
        return bool(turned and at_rest and released and self._knocked < ASTRAY and not self.mistake(stage))

    def mistake(self, stage: Stage) -> str:
        return "wrong object" if stage.joint(f"{self._other}_hinge") > ASTRAY else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, _), yaw = stage.position(self._handle), stage.yaw(self._handle)
        yield down(x, y, GRIP + HOVER, OPEN, yaw)
        yield down(x, y, GRIP, CLOSED, yaw)
        yield down(x, y, GRIP, OPEN, yaw + TURN)


def _add_handle(tap: ET.Element, name: str, y: float) -> None:
    """A lever on a pillar, shut where its long end points along -x: joint `<name>_hinge`."""
    handle = child(tap, name, (0, y, 0))
    hinge(handle, f"{name}_hinge", (0, 0, 1), (0.0, STOP), damping=0.02, armature=0.001, frictionloss=0.04)
    half, height = 0.5 * (LEVER_TOP - LEVER_BOTTOM), 0.5 * (LEVER_TOP + LEVER_BOTTOM)
    hub = 0.5 * (LEVER_BOTTOM - PILLAR_TOP)
    cylinder(handle, 0.016, hub, (0, 0, PILLAR_TOP + hub), color=STEEL, mass=0.02)
    length, middle = 0.5 * (LEVER_END + LEVER_BACK), 0.5 * (LEVER_BACK - LEVER_END)
    box(handle, (length, LEVER_HALF_WIDTH, half), (middle, 0, height), color=CERAMIC, mass=0.03, **FIRM)
    cylinder(handle, LEVER_HALF_WIDTH, half, (-LEVER_END, 0, height), color=CERAMIC, mass=0.01, **FIRM)
