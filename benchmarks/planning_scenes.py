"""Questions for the planner, from the package's own simulated tasks: what is seen, where the arm is, where it shall go.

Three kinds of scenes: a cabinet with a drawer pulled out, a rack of three boards with items around, blocks in towers.
What is seen are the two cameras' pictures at home, lifted by the observation builder without the policy's limit of
points. An end is a tool pose around the thing in the way, from 10 cm to 30 cm beside its middle, the hand pointing
down or tilted by up to 60 degrees; every third goal lies in the drawer or between two boards. The other end lies on
the other side. Both ends are in the workspace, are reached by a posture that touches nothing, neither what is seen nor
what is there, and can be left backwards along the tool by 8 cm: neither is shut in. Three of four questions are kept
only if the direct joint path to the nearest posture is blocked; without that rule most would need no planner.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.planning.obstacles import Obstacles
from minidiffuser_ros.arm.planning.path import densify
from minidiffuser_ros.arm.planning.planner import MotionPlanner
from minidiffuser_ros.contract.errors import PlanningError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply, transform_from
from minidiffuser_ros.simulation.tabletop import DEFAULT_SPEC, Tabletop
from minidiffuser_ros.simulation.tasks.cabinet import CABINET, DRAWERS, FRONT, aim, over_drawer
from minidiffuser_ros.simulation.tasks.put_item_on_shelf import BOARD_TOPS, FRONT_EDGES, RACK
from minidiffuser_ros.simulation.tasks.stack_blocks import HALF_SIZE, OTHERS, TARGETS
from minidiffuser_ros.simulation.world import PREFIX

Array = NDArray[np.float64]

VOXEL_M, MAX_POINTS = 0.01, 100_000
OPENING = 1.0
LEAVE_M = 0.08
MOST_DRAWS = 500
SEEN_WITHIN_M = 0.025  # of a point of the cloud: what was touched there had been seen
TABLE_TOLERANCE_M = 0.002
FIXED = {PREFIX + "base", PREFIX + "fr3_link0", PREFIX + "fr3_link1"}


@dataclass(frozen=True, eq=False)
class Question:
    """From joints `start` [7] to the tool pose `goal` [4, 4] among `obstacles`; `truth` knows what is really there."""

    kind: str
    seed: int
    obstacles: Obstacles
    start: Array
    goal: Array
    blocked: bool
    truth: Truth


class Truth:
    """The simulation's own model of arm and scene: what touches what, whether it was seen or not."""

    def __init__(self, world: Tabletop, points: Array) -> None:
        self._model, self._data = world.model, copy.copy(world.data)
        model = self._model
        self._arm = np.array([model.joint(f"{PREFIX}fr3_joint{i}").qposadr[0] for i in range(1, 8)])
        self._fingers = np.array([model.joint(f"{PREFIX}finger_joint{i}").qposadr[0] for i in (1, 2)])
        self._names = [model.body(i).name for i in range(model.nbody)]
        self._robot = np.array([name.startswith(PREFIX) for name in self._names])
        self._seen = cKDTree(points)

    def contacts(self, path: Array, step_rad: float = 0.01) -> tuple[list[str], list[str]]:
        """What touches along segments through [N, 7]: what was seen, the table or itself; and what was not seen."""
        seen, unseen = dict[str, None](), dict[str, None]()
        for joints in densify(path, step_rad):
            for phrase, point in self._touching(joints):
                near = point is None or self._seen.query(point)[0] < SEEN_WITHIN_M
                (seen if near else unseen)[phrase] = None
        return list(seen), list(unseen)

    def _touching(self, joints: Array) -> Iterator[tuple[str, Array | None]]:
        """What touches, and where: None for the arm itself and the table, which need not be seen."""
        data = self._data
        data.qpos[self._arm], data.qpos[self._fingers] = joints, 0.04 * OPENING
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_collision(self._model, data)
        for contact in data.contact[: data.ncon]:
            bodies = [int(self._model.geom_bodyid[geom]) for geom in (contact.geom1, contact.geom2)]
            names = [self._names[body] for body in bodies]
            robots = self._robot[bodies]
            if contact.dist > 0.0 or not robots.any():
                continue
            table = "world" in names
            finger = any("finger" in name for name in names)
            if table and (FIXED & set(names) or (finger and contact.dist > -TABLE_TOLERANCE_M)):
                continue
            yield f"{names[0]} and {names[1]}", None if table or robots.all() else np.array(contact.pos)


def make_questions(count: int, first: int = 0) -> Iterator[Question]:
    """`count` questions, the kinds in turns; the same number always gives the same one."""
    maker = QuestionMaker()
    for seed in range(first, first + count):
        yield maker.make(seed)


class QuestionMaker:
    """Lays out scenes and draws ends; keeps compiled worlds and a planner."""

    def __init__(self) -> None:
        self._world = Tabletop(replace(DEFAULT_SPEC, max_points=MAX_POINTS))
        self._planner = MotionPlanner()
        self._arm = FrankaKinematics(margin=SafetyLimits().joint_margin)

    def make(self, seed: int) -> Question:
        """The question of that number."""
        kind, lay_out = list(KINDS.items())[seed % len(KINDS)]
        for attempt in range(20):
            rng = np.random.default_rng([seed, attempt])
            middle, inside = lay_out(self._world, seed + 1000 * attempt, rng)
            points = np.asarray(self._world.observe().points, np.float64)
            obstacles = Obstacles.from_points(points, VOXEL_M)
            self._planner.collision.set_obstacles(obstacles)
            truth = Truth(self._world, points)
            for _ in range(MOST_DRAWS):
                ends = self._ends(rng, middle, inside if seed % 9 >= 6 else None, truth)
                if ends is None:
                    continue
                start, goal, blocked = ends
                if blocked or (seed // len(KINDS)) % 4 == 3:
                    return Question(kind, seed, obstacles, start, goal, blocked, truth)
        raise RuntimeError(f"no ends were found in scene {seed} of kind '{kind}'")

    def _ends(
        self, rng: np.random.Generator, middle: Array, inside: Callable[[], Keypose] | None, truth: Truth
    ) -> tuple[Array, Array, bool] | None:
        azimuth = rng.uniform(-np.pi, np.pi)
        start = self._posture(rng, _beside(rng, middle, azimuth), truth)
        if start is None:
            return None
        keypose = inside() if inside is not None else _beside(rng, middle, azimuth + np.pi + rng.uniform(-1.0, 1.0))
        end = self._posture(rng, keypose, truth)
        if end is None:
            return None
        goal = self._arm.forward(end)
        nearest = self._arm.inverse(goal, start, seed_only=True)
        blocked = nearest is None or not self._planner.collision.edge_free(start, nearest, OPENING)
        return start, goal, blocked

    def _posture(self, rng: np.random.Generator, keypose: Keypose, truth: Truth) -> Array | None:
        """Joints [7] that hold the tool there, touch nothing, and can be left backwards."""
        limits = SafetyLimits()
        low = np.array(limits.workspace_min) + (0.0, 0.0, limits.table_clearance)  # noqa: RUF005
        if not ((keypose.position > low) & (keypose.position < limits.workspace_max)).all():
            return None
        near = np.array(HOME_JOINTS) + rng.normal(0.0, 0.4, 7)
        near[0] = np.arctan2(keypose.position[1], keypose.position[0]) + rng.normal(0.0, 0.4)
        target = transform_from(keypose.position, keypose.quat_wxyz)
        joints = self._arm.inverse(target, near, seed_only=True)
        if joints is None or self._planner.collision.contact(joints, OPENING) or any(truth.contacts(joints[None])):
            return None
        back = target.copy()
        back[:3, 3] -= LEAVE_M * target[:3, 2]
        try:
            self._planner.plan_line(joints, back, OPENING)
        except PlanningError:
            return None
        return joints


def _beside(rng: np.random.Generator, middle: Array, azimuth: float) -> Keypose:
    """A tool pose around a middle [3], in a direction as seen from there."""
    distance, height = rng.uniform(0.10, 0.30), rng.uniform(0.03, 0.35)
    offset = distance * np.array([np.cos(azimuth), np.sin(azimuth)])
    tilt, towards = rng.uniform(0.0, np.deg2rad(60.0)), rng.uniform(-np.pi, np.pi)
    return aim((middle[0] + offset[0], middle[1] + offset[1], height), towards, tilt, OPENING)


def _drawer(world: Tabletop, seed: int, rng: np.random.Generator) -> tuple[Array, Callable[[], Keypose]]:
    world.reset("put_item_in_drawer", seed)
    stage = world.stage
    drawer = DRAWERS[int(rng.integers(len(DRAWERS)))]
    stage.set_joint(drawer, rng.uniform(0.10, 0.16))
    stage.settle()

    def inside() -> Keypose:
        """The fingers in the drawer."""
        place = over_drawer(stage, drawer) + rng.uniform((-0.01, -0.01, 0.02), (0.01, 0.01, 0.08))
        return aim(place, stage.yaw(CABINET) + np.pi, rng.uniform(0.0, np.deg2rad(50.0)), OPENING)

    return np.asarray(apply(stage.transform(CABINET), np.array([0.5 * FRONT, 0.0, 0.0])), np.float64), inside


def _shelf(world: Tabletop, seed: int, rng: np.random.Generator) -> tuple[Array, Callable[[], Keypose]]:
    world.reset("put_item_on_shelf", seed)
    stage = world.stage

    def inside() -> Keypose:
        """The fingertips over a board."""
        level = int(rng.integers(len(BOARD_TOPS)))
        place = (FRONT_EDGES[level] - rng.uniform(0.0, 0.05), rng.uniform(-0.05, 0.05), BOARD_TOPS[level] + 0.05)
        return aim(apply(stage.transform(RACK), np.array(place)), stage.yaw(RACK) + np.pi, np.deg2rad(45.0), OPENING)

    return stage.position(RACK), inside


def _towers(world: Tabletop, seed: int, rng: np.random.Generator) -> tuple[Array, Callable[[], Keypose]]:
    """Eight blocks in three towers; between them the fingers find room."""
    world.reset("stack_blocks", seed)
    stage = world.stage
    middle = np.array([rng.uniform(0.42, 0.58), rng.uniform(-0.15, 0.15), 0.0])
    turn = rng.uniform(0.0, 2 * np.pi)
    feet = [
        middle[:2] + 0.09 * np.array([np.cos(turn + k * 2 * np.pi / 3), np.sin(turn + k * 2 * np.pi / 3)])
        for k in range(3)
    ]
    for index, name in enumerate(TARGETS + OTHERS):
        place = (*feet[index % 3], HALF_SIZE * (1 + 2 * (index // 3)))
        stage.place(name, place, rng.uniform(-0.5, 0.5))
    stage.settle()

    def inside() -> Keypose:
        """The fingertips between the towers."""
        return aim(
            middle + rng.uniform((-0.02, -0.02, 0.05), (0.02, 0.02, 0.12)), rng.uniform(-np.pi, np.pi), 0.0, OPENING
        )

    return middle, inside


KINDS: dict[str, Callable[[Tabletop, int, np.random.Generator], tuple[Array, Callable[[], Keypose]]]] = {
    "drawer": _drawer,
    "shelf": _shelf,
    "towers": _towers,
}
