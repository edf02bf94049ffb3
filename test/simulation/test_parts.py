"""Parts are as large, heavy and hollow as they say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import mujoco
import numpy as np
import pytest
from numpy.typing import ArrayLike

from minidiffuser_ros.simulation.parts import (
    ball,
    box,
    capsule,
    child,
    cylinder,
    hinge,
    numbers,
    ring,
    site,
    slide,
    tray,
)

MAKERS: dict[str, Callable[..., object]] = {
    "box": lambda body, **given: box(body, (0.02, 0.02, 0.02), **given),
    "cylinder": lambda body, **given: cylinder(body, 0.02, 0.03, **given),
    "capsule": lambda body, **given: capsule(body, 0.02, (0, 0, -0.03), (0, 0, 0.03), **given),
    "ball": lambda body, **given: ball(body, 0.02, **given),
    "ring": lambda body, **given: ring(body, 0.03, 0.005, 0.02, **given),
    "tray": lambda body, **given: tray(body, (0.05, 0.04, 0.02), 0.004, **given),
}
WATER = 1000.0  # kg/m3


class Workshop:
    """A world of its own with one fixed body at the origin and a ball that can be dropped on it."""

    def __init__(self, ball_radius: float = 0.01) -> None:
        self.root = ET.Element("mujoco")
        ET.SubElement(self.root, "compiler", angle="radian")
        self.world = ET.SubElement(self.root, "worldbody")
        self.fixed = ET.SubElement(self.world, "body", name="fixed")
        self.loose = ET.SubElement(self.world, "body", name="loose", pos="0 0 0.2")
        ET.SubElement(self.loose, "freejoint")
        ball(self.loose, ball_radius)

    def compile(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = mujoco.MjModel.from_xml_string(ET.tostring(self.root, encoding="unicode"))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        return model, data

    def drop(self, x: float = 0.0, y: float = 0.0) -> float:
        """Height of the ball a second after it was let fall above a place."""
        model, data = self.compile()
        data.qpos[:3] = x, y, 0.06
        while data.time < 1.0:
            mujoco.mj_step(model, data)
        return float(data.body("loose").xpos[2])


def ray(model: mujoco.MjModel, data: mujoco.MjData, start: ArrayLike, direction: ArrayLike) -> float:
    """Distance to what is hit first."""
    hit = np.zeros(1, np.int32)
    return float(mujoco.mj_ray(model, data, np.array(start, float), np.array(direction, float), None, True, -1, hit))


@pytest.mark.parametrize("segments", [8, 16, 24])
def test_the_hole_of_a_ring_is_free_up_to_its_radius_and_the_wall_has_no_gap(segments: int) -> None:
    shop = Workshop()
    ring(shop.fixed, 0.03, 0.005, 0.01, segments=segments)
    model, data = shop.compile()
    for angle in np.linspace(0.0, 2 * np.pi, 360):
        inside = ray(model, data, (0.0, 0.0, 0.0), (np.cos(angle), np.sin(angle), 0.0))
        outside = 0.1 - ray(
            model, data, (0.1 * np.cos(angle), 0.1 * np.sin(angle), 0.0), (-np.cos(angle), -np.sin(angle), 0.0)
        )
        assert 0.03 - 1e-9 <= inside <= 0.03 / np.cos(np.pi / segments) + 1e-9
        assert 0.035 - 1e-9 <= outside <= 0.035 / np.cos(np.pi / segments) + 1e-3


@pytest.mark.parametrize("segments", [8, 16])
@pytest.mark.parametrize(("radius", "falls"), [(0.028, True), (0.034, False)])
def test_a_ball_smaller_than_the_hole_of_a_ring_falls_through_and_a_larger_one_stays(
    segments: int, radius: float, falls: bool
) -> None:
    shop = Workshop(radius)
    ring(shop.fixed, 0.03, 0.008, 0.01, segments=segments)
    assert (shop.drop() < -0.5) is falls


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.03, 0.02), (-0.03, -0.02)])
def test_a_tray_is_open_on_top_and_keeps_what_falls_in(x: float, y: float) -> None:
    shop = Workshop()
    tray(shop.fixed, (0.05, 0.04, 0.02), 0.004)
    model, data = shop.compile()
    assert ray(model, data, (x, y, 0.02), (0.0, 0.0, -1.0)) == pytest.approx(0.036)
    assert shop.drop(x, y) == pytest.approx(-0.016 + 0.01, abs=1e-3)


def test_a_tray_is_as_large_as_said_from_outside_and_walled_all_around() -> None:
    shop = Workshop()
    tray(shop.fixed, (0.05, 0.04, 0.02), 0.004, (0.1, 0.2, 0.3))
    model, data = shop.compile()
    for direction, half in (((1.0, 0.0, 0.0), 0.05), ((0.0, 1.0, 0.0), 0.04)):
        for sign in (1.0, -1.0):
            middle, away = np.array([0.1, 0.2, 0.3]), sign * np.array(direction)
            assert ray(model, data, middle, away) == pytest.approx(half - 0.004)
            assert ray(model, data, middle + away, -away) == pytest.approx(1.0 - half)
    assert ray(model, data, (0.1, 0.2, 0.0), (0.0, 0.0, 1.0)) == pytest.approx(0.28)


@pytest.mark.parametrize("part", MAKERS)
def test_the_masses_of_the_geoms_add_up_to_the_one_given(part: str) -> None:
    shop = Workshop()
    body = child(shop.world, "part")
    ET.SubElement(body, "freejoint")
    MAKERS[part](body, mass=0.3)
    model, _ = shop.compile()
    assert model.body("part").mass[0] == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize(
    ("part", "volume"),
    [("box", 0.04**3), ("cylinder", np.pi * 0.02**2 * 0.06), ("ball", 4 / 3 * np.pi * 0.02**3)],
)
def test_without_a_mass_things_are_as_heavy_as_water(part: str, volume: float) -> None:
    shop = Workshop()
    body = child(shop.world, "part")
    ET.SubElement(body, "freejoint")
    MAKERS[part](body)
    model, _ = shop.compile()
    assert model.body("part").mass[0] == pytest.approx(WATER * volume, rel=1e-4)


@pytest.mark.parametrize("part", ["ring", "tray"])
def test_the_geoms_of_a_part_of_many_are_numbered_and_share_what_is_given(part: str) -> None:
    shop = Workshop()
    MAKERS[part](shop.fixed, name="thing", color=(1.0, 0.0, 0.0), friction=0.4)
    model, _ = shop.compile()
    geoms = np.nonzero(model.geom_bodyid == model.body("fixed").id)[0]
    assert [model.geom(int(g)).name for g in geoms] == [f"thing_{i}" for i in range(len(geoms))]
    np.testing.assert_allclose(model.geom_rgba[geoms], [[1.0, 0.0, 0.0, 1.0]] * len(geoms))
    np.testing.assert_allclose(model.geom_friction[geoms, 0], 0.4)


@pytest.mark.parametrize("part", MAKERS)
def test_what_is_not_solid_touches_nothing_and_weighs_nothing(part: str) -> None:
    shop = Workshop()
    box(shop.loose, (0.01, 0.01, 0.01), mass=0.1)
    before = shop.compile()[0].body("loose").mass[0]
    MAKERS[part](shop.fixed, solid=False)
    MAKERS[part](shop.loose, solid=False)
    assert shop.drop() < -0.5
    assert shop.compile()[0].body("loose").mass[0] == before


@pytest.mark.parametrize(("make", "limits"), [(slide, (-0.02, 0.05)), (hinge, (-0.4, 1.2))])
@pytest.mark.parametrize("push", [-1.0, 1.0])
def test_a_joint_stays_within_its_limits(
    make: Callable[..., ET.Element], limits: tuple[float, float], push: float
) -> None:
    shop = Workshop()
    door = child(shop.fixed, "door", (0.0, 0.0, 0.5))
    make(door, "door_joint", (0, 0, 1), limits)
    box(door, (0.05, 0.01, 0.05), (0.05, 0, 0), mass=0.1)
    model, data = shop.compile()
    data.joint("door_joint").qfrc_applied[0] = push if make is hinge else push + 0.1 * 9.81
    while data.time < 3.0:
        mujoco.mj_step(model, data)
    assert data.joint("door_joint").qpos[0] == pytest.approx(limits[push > 0], abs=0.01)


def test_a_child_and_a_site_ride_on_their_body() -> None:
    shop = Workshop()
    lid = child(shop.loose, "lid", (0.0, 0.0, 0.05))
    box(lid, (0.01, 0.01, 0.01))
    site(lid, "knob", (0.0, 0.0, 0.02))
    _, data = shop.compile()
    np.testing.assert_allclose(data.site("knob").xpos, [0.0, 0.0, 0.27])


def test_numbers_are_written_as_short_as_they_are() -> None:
    assert numbers(0.1, 2, -0.0005) == "0.1 2 -0.0005"
