"""Rollouts as pictures: what the front camera saw before each decision, and what was decided."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from minidiffuser_ros.evaluation.contact_sheet import Shot, Strip, draw_contact_sheet
from minidiffuser_ros.evaluation.rollout import Scene, roll_out
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.world import CAMERA

VIEW = "front"


def sheet_of(world: Tabletop, policy: Policy, scenes: Sequence[Scene]) -> Image.Image:
    """One row an episode; marks are drawn from where the camera stands in the first scene."""
    strips = [_strip(world, policy, scene) for scene in scenes]
    scenes[0].lay_out(world)
    return draw_contact_sheet(strips, CAMERA, next(v.T_policy_camera for v in world.views() if v.name == VIEW))


def _strip(world: Tabletop, policy: Policy, scene: Scene) -> Strip:
    shots: list[Shot] = []

    def watch(decision: Decision) -> None:
        openings = [keypose.opening > 0.5 for keypose in decision.candidate_keyposes]
        shots.append(Shot(world.picture(VIEW), decision.candidates, openings, decision.keypose))  # type: ignore[arg-type]

    rollout = roll_out(world, policy, scene, watch)
    ending = "done" if rollout.success else rollout.failure
    strip = Strip(f"{rollout.instruction}  (seed {scene.seed}: {ending})", rollout.success, shots)
    strip.final = world.picture(VIEW)
    return strip
