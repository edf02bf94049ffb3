"""The room around the robot: a table with a laminate top, a floor, walls, lights, and odd things to distract.

No shadows and no multisampling: five to ten times faster off screen, and depth edges stay sharp.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from minidiffuser_ros.simulation.parts import ball, box, capsule, cylinder, numbers, ring

if TYPE_CHECKING:
    from minidiffuser_ros.simulation.world import SceneBuilder

FLOOR_HEIGHT = -0.75
LIGHTS = {"key_light": (0.42, 0.40, 0.36), "fill_light": (0.22, 0.23, 0.25), "rim_light": (0.18, 0.18, 0.20)}
"""franky-sim's lights, dimmed so that white things are not burnt out."""
SURFACES = ("table_top", "wall", "floor")
"""Materials that a seed may recolour."""
DISTRACTORS = tuple(f"distractor_{i}" for i in range(4))


def add_lab(scene: ET.Element) -> None:
    """Table, floor, walls and quality of drawing, into franky-sim's scene."""
    _set_visuals(scene)
    assets, world = scene.findall("asset")[-1], scene.find("worldbody")
    assert world is not None
    _surface(assets, "table_top", (0.62, 0.60, 0.56), "flat", marks=0.04, repeat=3)
    _surface(assets, "wall", (0.80, 0.83, 0.85), "flat", marks=0.0, repeat=1)
    _surface(assets, "floor", (0.46, 0.50, 0.54), "checker", marks=0.0, repeat=4)
    for geom in world.findall("geom"):
        if geom.get("name") == "ground":
            geom.attrib.update(pos=numbers(0, 0, FLOOR_HEIGHT), material="floor")
    table = box(world, (0.75, 0.65, 0.02), (0.45, 0.0, -0.02), name="table")
    _cover(table, "table_top")
    for x in (-0.22, 1.12):
        for y in (-0.58, 0.58):
            leg = 0.5 * (-FLOOR_HEIGHT - 0.04)
            box(world, (0.025, 0.025, leg), (x, y, FLOOR_HEIGHT + leg), color=(0.25, 0.26, 0.28), solid=False)
    back, height = -1.0, 1.6
    for half_size, position in (
        ((0.02, 3.0, height), (back, 0.0, FLOOR_HEIGHT + height)),
        ((2.5, 0.02, height), (1.5, -2.5, FLOOR_HEIGHT + height)),
        ((2.5, 0.02, height), (1.5, 2.5, FLOOR_HEIGHT + height)),
    ):
        _cover(box(world, half_size, position, solid=False), "wall")
    box(world, (0.01, 3.0, 0.05), (back + 0.03, 0.0, FLOOR_HEIGHT + 0.05), color=(0.30, 0.32, 0.35), solid=False)


def add_distractors(scene: SceneBuilder) -> None:
    """Things of no task, that stand in the way of nothing: their places are drawn after the task's own."""
    ball(scene.fixture(DISTRACTORS[0]), 0.022, (0, 0, 0.022), name=DISTRACTORS[0])
    cup = scene.fixture(DISTRACTORS[1])
    cylinder(cup, 0.024, 0.003, (0, 0, 0.003), name=DISTRACTORS[1])
    ring(cup, 0.021, 0.004, 0.025, (0, 0, 0.028), segments=10, name=DISTRACTORS[1])
    bar = scene.fixture(DISTRACTORS[2])
    capsule(bar, 0.012, (-0.03, 0, 0.012), (0.03, 0, 0.012), name=DISTRACTORS[2])
    cone = scene.fixture(DISTRACTORS[3])
    for index in range(4):
        cylinder(cone, 0.026 - 0.006 * index, 0.006, (0, 0, 0.006 + 0.012 * index), name=f"{DISTRACTORS[3]}_{index}")


def _set_visuals(scene: ET.Element) -> None:
    visual = scene.find("visual")
    assert visual is not None
    quality, headlight = visual.find("quality"), visual.find("headlight")
    assert quality is not None
    assert headlight is not None
    quality.attrib.update(shadowsize="0", offsamples="0")
    headlight.attrib.update(ambient="0.28 0.28 0.28", diffuse="0.12 0.12 0.12")
    # Both are multiples of the extent, which else grows with the room: the wrist camera would look through the table.
    ET.SubElement(scene, "statistic", extent="1")
    ET.SubElement(visual, "map", znear="0.01", zfar="10")
    ET.SubElement(visual, "global", offwidth="1280", offheight="960")
    for light in scene.iter("light"):
        light.attrib.update(castshadow="false", diffuse=numbers(*LIGHTS[light.attrib["name"]]))


def _surface(
    assets: ET.Element, name: str, color: tuple[float, float, float], pattern: str, *, marks: float, repeat: int
) -> None:
    """A material whose texture is nearly white, so that `mat_rgba` colours it."""
    ET.SubElement(
        assets, "texture", name=name, type="2d", builtin=pattern, width="512", height="512",
        rgb1="1 1 1", rgb2="0.93 0.93 0.93", mark="random" if marks else "none", markrgb="0.86 0.86 0.86",
        random=numbers(marks),
    )  # fmt: skip
    ET.SubElement(
        assets, "material", name=name, texture=name, texuniform="true", texrepeat=numbers(repeat, repeat),
        rgba=numbers(*color, 1.0), specular="0.1", shininess="0.1", reflectance="0",
    )  # fmt: skip


def _cover(geom: ET.Element, material: str) -> None:
    del geom.attrib["rgba"]
    geom.set("material", material)
