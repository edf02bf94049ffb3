"""Whether the arm at given joints touches itself, the table, or something seen; and what touches what.

Two tests, each where it is fast. The arm with itself, the held box and the table: MuJoCo, between convex hulls.
Seen voxels: spheres that cover the same hulls against a distance field, for many postures at once. Measured, for each
of 20 postures: 7 µs for the voxels, however many they are, and 6 µs for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH
from minidiffuser_ros.arm.planning.cover import cover_box
from minidiffuser_ros.arm.planning.obstacles import DistanceField, Obstacles
from minidiffuser_ros.arm.planning.path import densify
from minidiffuser_ros.arm.planning.solids import (
    FINGERS,
    HAND_TO_TOOL,
    HELD,
    NAMES,
    TOOL,
    TOOL_BODIES,
    WORLD,
    HeldBox,
    arm_spheres,
    sphere_model,
    touching_model,
)
from minidiffuser_ros.contract.errors import ConfigurationError, require_in_range
from minidiffuser_ros.geometry.transform import apply

Array = NDArray[np.float64]

HELD_OVERSHOOT_M = 0.008
SPARSE = 8
CHUNK = 128  # postures looked up at once
ALLOWED_DEPTH_M = 0.005
FINEST_STEP_RAD = 0.01


@dataclass(frozen=True)
class CollisionSettings:
    """Distances that count as touching."""

    padding_m: float = field(
        default=0.008,
        metadata={"description": "Distance kept from what is seen", "unit": "m", "range": (0.0, 0.1)},
    )
    self_margin_m: float = field(
        default=0.005,
        metadata={"description": "Distance kept between links, and to the table", "unit": "m", "range": (0.0, 0.05)},
    )
    table_tolerance_m: float = field(
        default=0.002,
        metadata={
            "description": "How deep fingertips and what they hold may seem to be in the table: an arm lags a little",
            "unit": "m",
            "range": (0.0, 0.01),
        },
    )

    def __post_init__(self) -> None:
        require_in_range(self)


class _Solids:
    """The arm and what it holds, compiled: `touch` for contacts, `places` for where the spheres [S] are."""

    def __init__(self, table_height: float | None, held: HeldBox | None, margin: float) -> None:
        self.touch = touching_model(table_height, held, margin)
        self.touch_data = mujoco.MjData(self.touch)
        spheres = dict(arm_spheres())
        if held is not None:
            cover = cover_box(held.half_size, HELD_OVERSHOOT_M)
            centers = apply(held.T_tool_object, cover[:, :3]) + HAND_TO_TOOL
            spheres[HELD] = np.column_stack([centers, cover[:, 3]])
        self.places, self.radii, self.bodies = sphere_model(spheres)
        self.places_data = mujoco.MjData(self.places)
        self.of_hand = np.array([name in TOOL_BODIES for name in self.bodies])
        self.tool = self.bodies.index(TOOL)


class CollisionModel:
    """The arm among what is seen. Not thread-safe: it computes in place."""

    def __init__(self, table_height: float | None = None, settings: CollisionSettings | None = None) -> None:
        """table_height: metres in the base frame; None where there is no table. Takes half a second the first time."""
        self.settings = settings or CollisionSettings()
        self._table_height = table_height
        self._held: HeldBox | None = None
        self._obstacles: Obstacles | None = None
        self._allowed: tuple[Array, float] | None = None
        self._room: tuple[Array, Array] | None = None
        self._compiled = {"": _Solids(table_height, None, self.settings.self_margin_m)}
        self._use("")

    @property
    def obstacles(self) -> Obstacles | None:
        """What is avoided."""
        return self._obstacles

    @property
    def held(self) -> HeldBox | None:
        """What is in the hand."""
        return self._held

    def set_obstacles(self, obstacles: Obstacles | None) -> None:
        """From now on avoid these instead of those before."""
        self._obstacles = obstacles
        self._stale = True

    def attach(self, half_size: ArrayLike, T_tool_object: ArrayLike) -> None:
        """From now on the hand holds a box of half sizes [3] metres, its middle at `T_tool_object` [4, 4]."""
        self._held = HeldBox(np.array(half_size, np.float64), np.array(T_tool_object, np.float64))
        self._use(repr((self._held.half_size.tolist(), self._held.T_tool_object.tolist())))

    def detach(self) -> None:
        """From now on the hand holds nothing."""
        self._held = None
        self._use("")

    def allow_contact(self, center: ArrayLike | None, radius: float = 0.0) -> None:
        """Within `radius` metres of `center` [3] hand, fingers and held box may touch voxels, the links may not.

        There fingers and held box may stand on the table, too, and seem to be 5 mm in it. Several centres [K, 3] are
        as many such places: one to leave and one to come to. This replaces what was allowed before; None ends it.
        """
        if center is not None and not 0.0 < radius <= 0.5:
            raise ConfigurationError(f"contact may be allowed within 0 to 0.5 m of a place, got {radius}")
        self._allowed = None if center is None else (np.array(center, np.float64).reshape(-1, 3), radius)
        self._stale = True

    def keep_tool_in(self, low: Array | None, high: Array | None = None) -> None:
        """From now on the tool may not leave the box from `low` [3] to `high` [3] metres; None: it may go anywhere."""
        self._room = None if low is None or high is None else (low, high)

    def contact(self, joints: ArrayLike, opening: float) -> str:
        """What touches at joints [7] rad and gripper opening [0, 1], as "link 4 and the table"; empty for nothing."""
        configs = np.asarray(joints, np.float64).reshape(1, 7)
        index, phrase = self.first_contact(configs, opening)
        return phrase if index >= 0 else ""

    def path_contact(self, path: ArrayLike, opening: float, step_rad: float = FINEST_STEP_RAD) -> str:
        """The first contact along straight joint segments through [N, 7], no joint turning farther between two checks
        than `step_rad`; empty for none."""
        return self.first_contact(densify(np.asarray(path, np.float64), step_rad), opening)[1]

    def first_contact(self, configs: Array, opening: float) -> tuple[int, str]:
        """Index of the first of [N, 7] with a contact, and which; -1 and '' for none."""
        for begin in range(0, len(configs), CHUNK):
            chunk = configs[begin : begin + CHUNK]
            hits = self._voxel_hits(chunk, opening)
            seen = hits.any(axis=1)
            end = int(seen.argmax()) if seen.any() else len(chunk)
            for index, joints in enumerate(chunk[:end]):
                if phrase := self._touching(joints, opening):
                    return begin + index, phrase
            if end < len(chunk):
                return begin + end, self._seen_phrase(chunk[end], opening, hits[end])
        return -1, ""

    def free(self, configs: Array, opening: float) -> NDArray[np.bool_]:
        """Whether nothing touches at each of [N, 7]: [N]."""
        free = np.zeros(len(configs), bool)
        for begin in range(0, len(configs), CHUNK):
            chunk = configs[begin : begin + CHUNK]
            unseen = np.flatnonzero(~self._voxel_hits(chunk, opening).any(axis=1))
            free[begin + unseen] = [not self._touching(joints, opening) for joints in chunk[unseen]]
        return free

    def all_free(self, configs: Array, opening: float) -> bool:
        """Whether nothing touches at any of [N, 7]; the voxels are asked first, as they are what is met most."""
        for begin in range(0, len(configs), CHUNK):
            if self._voxel_hits(configs[begin : begin + CHUNK], opening).any():
                return False
        return not any(self._touching(joints, opening) for joints in configs)

    def edge_free(self, begin: Array, end: Array, opening: float, step_rad: float = FINEST_STEP_RAD) -> bool:
        """Whether nothing touches on the straight way from joints [7], which are free, to joints [7].

        A few places far apart are asked first: most of what is in the way is met by them.
        """
        count = max(1, int(np.ceil(float(np.abs(end - begin).max()) / step_rad)))
        configs = begin + np.arange(1, count + 1)[:, None] / count * (end - begin)
        if count <= SPARSE:
            return self.all_free(configs, opening)
        sparse = np.zeros(count, bool)
        sparse[SPARSE - 1 :: SPARSE] = True
        return self.all_free(configs[sparse], opening) and self.all_free(configs[~sparse], opening)

    def _use(self, held: str) -> None:
        """The solids with what is held, made unless they are those of the empty hand or the last ones made."""
        if held not in self._compiled:
            made = _Solids(self._table_height, self._held, self.settings.self_margin_m)
            self._compiled = {"": self._compiled[""], held: made}
        self._solids = self._compiled[held]
        self._stale = True

    def _make_fields(self) -> None:
        """Of all voxels, and of those that hand and held object have to avoid."""
        self._stale = False
        size = self._obstacles.size if self._obstacles is not None else 0.0
        self._limits = self._solids.radii + self.settings.padding_m + 0.5 * size
        self._limits[self._solids.tool] = 0.0  # a place, no solid
        if self._obstacles is None or not len(self._obstacles.centers):
            self._field = self._tool_field = None
            return
        largest = float(self._limits.max())
        self._field = self._tool_field = DistanceField(self._obstacles.centers, largest)
        if self._allowed is not None:
            self._tool_field = DistanceField(self._obstacles.without_balls(*self._allowed).centers, largest)

    def _voxel_hits(self, configs: Array, opening: float) -> NDArray[np.bool_]:
        """Which spheres touch voxels: [N, S]; of the tool itself, whether it is out of its room."""
        if self._stale:
            self._make_fields()
        if self._field is None and self._room is None:
            return np.zeros((len(configs), 1), bool)
        centers = self._sphere_centers(configs, opening)
        hits = np.zeros(centers.shape[:2], bool)
        if self._field is not None and self._field is self._tool_field:
            hits = self._field.touches(centers, self._limits)
        elif self._field is not None and self._tool_field is not None:
            for which, obstacles in ((self._solids.of_hand, self._tool_field), (~self._solids.of_hand, self._field)):
                hits[:, which] = obstacles.touches(centers[:, which], self._limits[which])
        if self._room is not None:
            tools = centers[:, self._solids.tool]
            hits[:, self._solids.tool] = ((tools < self._room[0]) | (tools > self._room[1])).any(axis=1)
        return hits

    def _sphere_centers(self, configs: Array, opening: float) -> Array:
        """[N, S, 3] metres in the base frame."""
        model, data = self._solids.places, self._solids.places_data
        qpos, sites = data.qpos, data.site_xpos
        qpos[7:] = 0.5 * opening * MAX_GRIPPER_WIDTH
        centers = np.empty((len(configs), len(self._limits), 3))
        for joints, row in zip(configs, centers, strict=True):
            qpos[:7] = joints
            mujoco.mj_kinematics(model, data)
            row[:] = sites
        return centers

    def _touching(self, joints: Array, opening: float) -> str:
        """What of the arm, the held box and the table touches."""
        model, data = self._solids.touch, self._solids.touch_data
        data.qpos[:7] = joints
        data.qpos[7:] = 0.5 * opening * MAX_GRIPPER_WIDTH
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        if not data.ncon:
            return ""
        for contact in data.contact[: data.ncon]:
            names = [model.body(model.geom_bodyid[geom]).name for geom in (contact.geom1, contact.geom2)]
            if not self._tolerated(names, contact):
                first, second = sorted(names, key=lambda name: (name == WORLD, list(NAMES).index(name)))
                return f"{NAMES[first]} and {NAMES[second]}"
        return ""

    def _tolerated(self, names: list[str], contact: mujoco.MjContact) -> bool:
        """Fingers and what they hold may stand on the table, and an arm lags behind a little."""
        if WORLD not in names or not {HELD, *FINGERS} & set(names):
            return False
        depth = self.settings.table_tolerance_m
        if self._allowed is not None:
            centers, radius = self._allowed
            if float(np.linalg.norm(contact.pos - centers, axis=1).min()) <= radius:
                depth = max(depth, ALLOWED_DEPTH_M)
        return bool(contact.dist > -depth)

    def _seen_phrase(self, joints: Array, opening: float, hits: NDArray[np.bool_]) -> str:
        """Of the sphere that is deepest in what is seen."""
        spheres = np.flatnonzero(hits)
        if self._solids.tool in spheres:
            return "the tool and the edge of the space that it may swing through"
        assert self._obstacles is not None
        centers = self._sphere_centers(joints[None], opening)[0, spheres]
        obstacles = self._obstacles
        if self._allowed is not None and self._solids.of_hand[spheres].all():
            obstacles = obstacles.without_balls(*self._allowed)
        gaps = np.linalg.norm(centers[:, None] - obstacles.centers, axis=-1) - self._limits[spheres][:, None]
        sphere, voxel = np.unravel_index(int(gaps.argmin()), gaps.shape)
        place = "({:.2f}, {:.2f}, {:.2f})".format(*obstacles.centers[voxel])
        return f"{NAMES[self._solids.bodies[spheres[sphere]]]} and something seen at {place} m"
