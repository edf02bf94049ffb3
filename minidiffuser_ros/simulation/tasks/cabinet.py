"""A cabinet with three drawers that open along its x axis, and keyposes of a tilted hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_multiply, quat_of
from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.simulation.parts import GREY, WOOD, Color, box, capsule, child, site, slide, tray
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, Array
from minidiffuser_ros.simulation.world import SceneBuilder

LEVELS = ("top", "middle", "bottom")

CABINET = "cabinet"
DRAWERS = tuple(f"{level}_drawer" for level in LEVELS)
BOARD = 0.008  # m thick
DEPTH, WIDTH, PITCH = 0.18, 0.19, 0.07  # m: of the carcass, and from drawer to drawer
CABINET_TOP = len(LEVELS) * PITCH + BOARD
FRONT = 0.5 * DEPTH + 0.01  # m from the middle of the cabinet to the outside of a closed drawer
TRAVEL = 0.16
OPENED_AT = 0.8 * TRAVEL
SHUT_BELOW = 0.03  # m: a drawer that was not asked for may be touched, not opened
TRAY, TRAY_WALL = (0.5 * (DEPTH - BOARD), 0.5 * WIDTH - BOARD - 0.002, 0.024), 0.006  # m: of a drawer, half its size
TRAY_FLOOR = -0.031  # m: its underside, in the drawer's frame
TRAY_MIDDLE = (0.5 * DEPTH - TRAY[0], 0.0, TRAY_FLOOR + TRAY[2])
HANDLE_STANDOFF, HANDLE_RADIUS, HANDLE_HALF_HEIGHT = 0.028, 0.008, 0.016
LIGHT_WOOD: Color = (0.83, 0.70, 0.50)

# The hand reaches a handle from the front and from above: it fits below the handle of the next drawer, and above the
# table. The fingers open sideways, as the hand is 20 cm wide that way.
HANDLE_TILT, FACING_TILT = np.deg2rad(50.0), np.deg2rad(30.0)
FACING = np.array([FRONT + 0.18, 0.0, 0.30])  # m, in the cabinet's frame
APPROACH, PULL = 0.10, TRAVEL - 0.01


def add_cabinet(scene: SceneBuilder) -> None:
    """Three drawers that stay where they are left: joint and body `<level>_drawer`, site `<level>_drawer_handle`."""
    carcass = scene.fixture(CABINET)
    half = 0.5 * BOARD
    depth, width, height = 0.5 * DEPTH, 0.5 * WIDTH, 0.5 * CABINET_TOP
    for index in range(len(LEVELS) + 1):
        box(carcass, (depth, width, half), (0, 0, half + index * PITCH), color=WOOD)
    for side in (-1, 1):
        box(carcass, (depth, half, height), (0, side * (width - half), height), color=WOOD)
    box(carcass, (half, width, height), (half - depth, 0, height), color=WOOD)
    for index, name in enumerate(reversed(DRAWERS)):
        _add_drawer(carcass, name, (index + 0.5) * PITCH + half)
        scene.let_pass(CABINET, name)
    for index, name in enumerate(DRAWERS):
        for other in DRAWERS[index + 1 :]:
            scene.let_pass(name, other)


def _add_drawer(carcass: ET.Element, name: str, height: float) -> None:
    """Its frame lies in the middle of the closed drawer."""
    drawer = child(carcass, name, (0, 0, height))
    slide(drawer, name, (1, 0, 0), (0, TRAVEL), damping=6, frictionloss=2, armature=0.05)
    tray(drawer, TRAY, TRAY_WALL, TRAY_MIDDLE, color=LIGHT_WOOD, mass=0.05)
    box(drawer, (0.005, 0.5 * WIDTH, 0.5 * PITCH - 0.003), (FRONT - 0.005, 0, 0), color=LIGHT_WOOD, mass=0.1)
    bar = FRONT + HANDLE_STANDOFF
    capsule(drawer, HANDLE_RADIUS, (bar, 0, -HANDLE_HALF_HEIGHT), (bar, 0, HANDLE_HALF_HEIGHT), color=GREY, mass=0.02)
    for side in (-1, 1):
        end = side * HANDLE_HALF_HEIGHT
        capsule(drawer, 0.005, (FRONT, 0, end), (bar, 0, end), color=GREY, mass=0.01)
    site(drawer, f"{name}_handle", (bar, 0, 0))


def aim(position: ArrayLike, azimuth: float, tilt: float, opening: float) -> Keypose:
    """A keypose with the hand `tilt` rad from pointing down towards a horizontal direction; fingers open sideways."""
    turn = quat_of(Rotation.from_euler("ZY", (azimuth, -tilt)))
    return Keypose(np.array(position), quat_multiply(turn, POINTING_DOWN_WXYZ), opening)


def above(point: Array, height: float) -> Array:
    """A point [3] that many metres higher."""
    return np.array([point[0], point[1], point[2] + height])


def backwards(azimuth: float, tilt: float, distance: float) -> Array:
    """From the tool towards where a tilted hand comes from, [3]."""
    horizontal = -np.sin(tilt) * distance
    return np.array([np.cos(azimuth) * horizontal, np.sin(azimuth) * horizontal, np.cos(tilt) * distance])


def place_cabinet(stage: Stage, rng: np.random.Generator) -> None:
    """To the robot's left, its front turned towards the middle of the table and to the camera that looks back."""
    x, y = rng.uniform((0.38, 0.20), (0.53, 0.26))
    # The farther out it stands, the less it is turned: the arm has to reach around its handles.
    yaw = rng.uniform(-85.0, min(-55.0, -57.0 - 250.0 * (x - 0.47)))
    stage.place(CABINET, (x, y, 0.0), np.deg2rad(yaw))


def face(stage: Stage) -> Keypose:
    """In front of the cabinet, above all handles, with the gripper open.

    From home the hand turns by 110 degrees: straight to a handle the arm would pass close to a singular posture.
    """
    return aim(apply(stage.transform(CABINET), FACING), stage.yaw(CABINET) + np.pi, FACING_TILT, OPEN)


def pull_open(stage: Stage, drawer: str) -> Iterator[Keypose]:
    """Grasp a handle and draw it out."""
    inwards = stage.yaw(CABINET) + np.pi
    handle = stage.site(f"{drawer}_handle")
    out = handle + PULL * stage.transform(CABINET)[:3, 0]
    yield face(stage)
    yield aim(handle + backwards(inwards, HANDLE_TILT, APPROACH), inwards, HANDLE_TILT, OPEN)
    yield aim(handle, inwards, HANDLE_TILT, CLOSED)
    yield aim(out, inwards, HANDLE_TILT, CLOSED)


def others_shut(stage: Stage, drawer: str) -> bool:
    """Whether no other drawer has been opened."""
    return all(stage.joint(name) < SHUT_BELOW for name in DRAWERS if name != drawer)


def over_drawer(stage: Stage, drawer: str) -> Array:
    """On the floor of an open drawer [3], clear of the handles above it and of its own front."""
    floor = stage.position(drawer)[2] + TRAY_FLOOR + TRAY_WALL
    outwards = stage.transform(CABINET)[:3, 0]
    return above(stage.position(CABINET) + (FRONT + 0.084) * outwards, floor)


def inside_drawer(stage: Stage, drawer: str, point: Array) -> bool:
    """Whether a point lies between a drawer's walls."""
    offset = apply(invert(stage.transform(drawer)), point) - TRAY_MIDDLE
    return bool((np.abs(offset) < TRAY).all())
