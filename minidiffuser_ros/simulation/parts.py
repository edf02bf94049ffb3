"""Primitives of MJCF that task objects are built from: sizes in metres, angles in radians, mass in kilograms."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np

Vector = Sequence[float]
Color = tuple[float, float, float]

WHITE: Color = (1.0, 1.0, 1.0)
GREY: Color = (0.33, 0.33, 0.35)
STEEL: Color = (0.62, 0.64, 0.67)
WOOD: Color = (0.62, 0.44, 0.27)
CERAMIC: Color = (0.90, 0.89, 0.86)


def numbers(*values: float) -> str:
    """As MJCF writes them."""
    return " ".join(f"{v:.6g}" for v in values)


def box(body: ET.Element, half_size: Vector, position: Vector = (0, 0, 0), **attributes: Any) -> ET.Element:
    """A box by half its edges [3]. Attributes: see `geom`."""
    return geom(body, "box", half_size, position, **attributes)


def cylinder(
    body: ET.Element, radius: float, half_height: float, position: Vector = (0, 0, 0), **attributes: Any
) -> ET.Element:
    """A cylinder along z, unless turned by `euler`."""
    return geom(body, "cylinder", (radius, half_height), position, **attributes)


def capsule(body: ET.Element, radius: float, start: Vector, end: Vector, **attributes: Any) -> ET.Element:
    """A rod with round ends between two points [3]."""
    return geom(body, "capsule", (radius,), None, fromto=numbers(*start, *end), **attributes)


def ball(body: ET.Element, radius: float, position: Vector = (0, 0, 0), **attributes: Any) -> ET.Element:
    """A sphere."""
    return geom(body, "sphere", (radius,), position, **attributes)


def geom(
    body: ET.Element,
    kind: str,
    size: Vector,
    position: Vector | None,
    *,
    color: Color = WHITE,
    name: str | None = None,
    mass: float | None = None,
    friction: float = 1.0,
    solid: bool = True,
    **attributes: Any,
) -> ET.Element:
    """A geom of one colour; `solid=False` is seen and touches nothing. Further attributes are MJCF's own.

    mass: by default that of water where the body moves; with `mass` the geom weighs just that.
    """
    element = ET.SubElement(body, "geom", type=kind, size=numbers(*size), rgba=numbers(*color, 1.0))
    if position is not None:
        element.set("pos", numbers(*position))
    if name is not None:
        element.set("name", name)
    if mass is not None:
        element.set("mass", numbers(mass))
    if solid:
        element.attrib.update(friction=numbers(friction, 0.02, 0.001), condim="4")
    else:
        element.attrib.update(contype="0", conaffinity="0", mass="0")
    for key, value in attributes.items():
        element.set(key, numbers(*value) if isinstance(value, (tuple, list, np.ndarray)) else str(value))
    return element


def ring(
    body: ET.Element,
    radius: float,
    thickness: float,
    half_height: float,
    position: Vector = (0, 0, 0),
    *,
    segments: int = 16,
    **attributes: Any,
) -> list[ET.Element]:
    """A wall around z whose inside is free up to `radius`: boxes side by side, as a convex hull would fill the hole.

    thickness: of the wall. Makes rings, cups and jars. Named geoms are numbered: `name_0` ...; `mass` is that of all.
    """
    name, mass = attributes.pop("name", None), attributes.pop("mass", None)
    middle = radius + 0.5 * thickness
    half_width = (radius + thickness) * np.tan(np.pi / segments)
    made = []
    for index in range(segments):
        angle = 2 * np.pi * index / segments
        made.append(
            box(
                body,
                (0.5 * thickness, half_width, half_height),
                (position[0] + middle * np.cos(angle), position[1] + middle * np.sin(angle), position[2]),
                euler=(0.0, 0.0, angle),
                name=None if name is None else f"{name}_{index}",
                mass=None if mass is None else float(mass) / segments,
                **attributes,
            )
        )
    return made


def tray(
    body: ET.Element, half_size: Vector, wall: float, position: Vector = (0, 0, 0), **attributes: Any
) -> list[ET.Element]:
    """A box open at the top: a floor and four walls `wall` thick. half_size [3]: of the whole, from outside.

    Names and mass as for a ring.
    """
    name, mass = attributes.pop("name", None), attributes.pop("mass", None)
    x, y, z = half_size
    half = 0.5 * wall
    sides = [
        ((x, y, half), (0.0, 0.0, half - z)),
        ((half, y, z), (half - x, 0.0, 0.0)),
        ((half, y, z), (x - half, 0.0, 0.0)),
        ((x, half, z), (0.0, half - y, 0.0)),
        ((x, half, z), (0.0, y - half, 0.0)),
    ]
    volumes = [float(np.prod(size)) for size, _ in sides]
    return [
        box(
            body,
            size,
            np.add(position, offset).tolist(),
            name=None if name is None else f"{name}_{index}",
            mass=None if mass is None else float(mass) * volumes[index] / sum(volumes),
            **attributes,
        )
        for index, (size, offset) in enumerate(sides)
    ]


def slide(body: ET.Element, name: str, axis: Vector, limits: tuple[float, float], **attributes: Any) -> ET.Element:
    """A joint along an axis [3] between two limits in metres; MJCF's own attributes such as damping, frictionloss."""
    return _joint(body, "slide", name, axis, limits, attributes)


def hinge(body: ET.Element, name: str, axis: Vector, limits: tuple[float, float], **attributes: Any) -> ET.Element:
    """A joint about an axis [3] through the body's origin, between two limits in radians."""
    return _joint(body, "hinge", name, axis, limits, attributes)


def _joint(
    body: ET.Element, kind: str, name: str, axis: Vector, limits: tuple[float, float], attributes: dict[str, Any]
) -> ET.Element:
    element = ET.SubElement(body, "joint", type=kind, name=name, axis=numbers(*axis), limited="true")
    element.set("range", numbers(*limits))
    for key, value in ({"damping": 1.0, "armature": 0.01} | attributes).items():
        element.set(key, str(value))
    return element


def child(body: ET.Element, name: str, position: Vector = (0, 0, 0)) -> ET.Element:
    """A body that rides on another one: give it a joint to let it move, or none."""
    return ET.SubElement(body, "body", name=name, pos=numbers(*position))


def site(body: ET.Element, name: str, position: Vector = (0, 0, 0), **attributes: Any) -> ET.Element:
    """A named place on a body, for rules and experts; cameras do not see it."""
    element = ET.SubElement(body, "site", name=name, pos=numbers(*position), size="0.001", group="4")
    for key, value in attributes.items():
        element.set(key, numbers(*value) if isinstance(value, (tuple, list, np.ndarray)) else str(value))
    return element
