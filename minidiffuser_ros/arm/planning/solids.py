"""The arm's solids: the convex hulls of the meshes that its MJCF touches with, and spheres that cover them.

Both are of the same model that kinematics and simulation use. Hulls are what MuJoCo tests against each other and
against the table; they hold every concave part of a link, so that they err on the safe side.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import TCP_OFFSET, model_path
from minidiffuser_ros.arm.planning.cover import cover_hull
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.transform import pose_of

Array = NDArray[np.float64]

HAND_TO_TOOL = np.array([0.0, 0.0, TCP_OFFSET])
WORLD, HAND, HELD, TABLE, TOOL = "world", "hand", "held_object", "table", "tool"
BASE, FINGERS = "fr3_link0", ("left_finger", "right_finger")
MOVING_LINKS: tuple[str, ...] = tuple(f"fr3_link{i}" for i in range(1, 8))
TOOL_BODIES = (HAND, *FINGERS, HELD)
NAMES: dict[str, str] = {
    WORLD: "the table", BASE: "the base", HAND: "the hand", HELD: "the held object",
    **dict.fromkeys(FINGERS, "a finger"), **{name: f"link {name[-1]}" for name in MOVING_LINKS},
}  # fmt: skip
OVERSHOOT_M = {HAND: 0.010, **dict.fromkeys(FINGERS, 0.006), **dict.fromkeys(MOVING_LINKS, 0.015)}


@dataclass(frozen=True)
class HeldBox:
    """A box in the hand: half sizes [3] metres, and where its middle is: `T_tool_object` [4, 4]."""

    half_size: Array
    T_tool_object: Array

    def __post_init__(self) -> None:
        if np.shape(self.half_size) != (3,) or not ((self.half_size > 1e-3) & (self.half_size < 0.5)).all():
            given = np.asarray(self.half_size).tolist()
            raise ConfigurationError(f"a held box needs three half sizes between 0.001 and 0.5 m, got {given}")


def touching_model(table_height: float | None, held: HeldBox | None, margin: float) -> mujoco.MjModel:
    """For contacts of the arm with itself, a held box and the table; `qpos` [9] is the joints and both fingers.

    Solids count as touching from `margin` metres on; fingers, held box and table from 0 on among each other.
    """
    root = _arm_xml()
    hand = _body(root, HAND)
    contact = ET.SubElement(root, "contact")
    ET.SubElement(contact, "exclude", body1=BASE, body2="fr3_link1")  # neighbours: MuJoCo leaves out the others itself
    for geom in root.iter("geom"):
        geom.set("margin", str(margin))
    for finger in FINGERS:
        for geom in _body(root, finger).iter("geom"):
            geom.set("margin", "0")
    if held is not None:
        position, quat = pose_of(held.T_tool_object)
        body = ET.SubElement(hand, "body", name=HELD, pos=_text(position + HAND_TO_TOOL), quat=_text(quat))
        ET.SubElement(body, "geom", name=HELD, type="box", size=_text(held.half_size))
        for name in (*FINGERS, "fr3_link7"):
            ET.SubElement(contact, "exclude", body1=HELD, body2=name)
    if table_height is not None:
        world = root.find("worldbody")
        assert world is not None
        ET.SubElement(world, "geom", name=TABLE, type="plane", size="2 2 0.1", pos=f"0 0 {table_height}")
        # The base stands on it, or is let into it.
        for name in (BASE, "fr3_link1"):
            ET.SubElement(contact, "exclude", body1=WORLD, body2=name)
    ET.SubElement(contact, "exclude", body1=HAND, body2="fr3_link6")
    ET.SubElement(contact, "exclude", body1=FINGERS[0], body2=FINGERS[1])
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))


def sphere_model(spheres: Mapping[str, Array]) -> tuple[mujoco.MjModel, Array, list[str]]:
    """The skeleton with one site for each sphere [4] of a body; its sites' radii [S] and bodies [S], in their order.

    One site more, of the body TOOL, stands where the tool is.
    """
    root = _arm_xml()
    for parent in list(root.iter("body")):
        for geom in parent.findall("geom"):
            parent.remove(geom)
    assets = root.find("asset")
    assert assets is not None
    root.remove(assets)
    for name, group in spheres.items():
        body = _body(root, HAND if name == HELD else name)
        for index, (*center, radius) in enumerate(group.tolist()):
            ET.SubElement(body, "site", name=f"{name}:{index}", pos=_text(np.array(center)), size=str(radius))
    ET.SubElement(_body(root, HAND), "site", name=f"{TOOL}:0", pos=_text(HAND_TO_TOOL))
    model = mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
    names = [model.site(i).name for i in range(model.nsite)]
    return model, model.site_size[:, 0].copy(), [name.split(":")[0] for name in names]


@cache
def arm_spheres() -> dict[str, Array]:
    """Spheres [S, 4] of each moving body, in its frame: centre and radius in metres. The base is left out."""
    model = touching_model(None, None, 0.0)
    covers = {}
    for name, overshoot in OVERSHOOT_M.items():
        body = model.body(name)
        vertices = [_vertices(model, geom) for geom in range(body.geomadr[0], body.geomadr[0] + body.geomnum[0])]
        covers[name] = cover_hull(np.concatenate(vertices), overshoot)
    return covers


def _vertices(model: mujoco.MjModel, geom: int) -> Array:
    """Of a mesh or a box, in its body's frame [V, 3]."""
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.mesh(model.geom_dataid[geom])
        points = model.mesh_vert[mesh.vertadr[0] : mesh.vertadr[0] + mesh.vertnum[0]].astype(np.float64)
    else:
        signs = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3), axis=-1).reshape(-1, 3)
        points = signs * model.geom_size[geom]
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
    return np.asarray(points @ matrix.reshape(3, 3).T + model.geom_pos[geom])


@cache
def _stripped() -> str:
    """The MJCF without what is only seen or driven."""
    root = ET.parse(model_path()).getroot()
    for section in ("actuator", "tendon", "equality", "contact", "sensor", "keyframe"):
        for element in root.findall(section):
            root.remove(element)
    for parent in list(root.iter("body")):
        for geom in parent.findall("geom"):
            if geom.get("class") == "visual":
                parent.remove(geom)
    used = {geom.get("mesh") for geom in root.iter("geom")}
    for assets in root.findall("asset"):
        for element in list(assets):
            if element.tag != "mesh" or element.get("name") not in used:
                assets.remove(element)
    compiler = root.find("compiler")
    if compiler is None or not used - {None}:
        raise ConfigurationError(
            f"{model_path()} has no collision meshes: install franky-sim 1.x, whose model has some"
        )
    compiler.set("meshdir", str(model_path().parent / "meshes"))
    return ET.tostring(root, encoding="unicode")


def _arm_xml() -> ET.Element:
    return ET.fromstring(_stripped())


def _body(root: ET.Element, name: str) -> ET.Element:
    body = root.find(f".//body[@name='{name}']")
    if body is None:
        raise ConfigurationError(f"{model_path()} has no body '{name}': install franky-sim 1.x, whose model has one")
    return body


def _text(values: Array) -> str:
    return " ".join(repr(float(value)) for value in values)
