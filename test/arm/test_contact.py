"""Thresholds and payloads: what franky takes, and numbers that no arm or body has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from minidiffuser_ros.arm.contact import FIRM, ContactSettings, ContactThresholds, Payload
from minidiffuser_ros.arm.model import FR3
from minidiffuser_ros.contract.errors import ConfigurationError


def test_where_it_works_the_arm_may_press_harder_than_on_its_way() -> None:
    settings = ContactSettings()
    for name in (field.name for field in dataclasses.fields(ContactThresholds)):
        transit, contact = np.array(getattr(settings.transit, name)), np.array(getattr(settings.contact, name))
        assert (contact >= transit).all()
    assert (np.array(settings.contact.tool_collision) > settings.transit.tool_collision).all()
    assert (np.array(settings.contact.joint_collision[:4]) < FR3.torque[:4]).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"joint_contact": (20.0,) * 6}, "joint_contact and joint_collision take 7"),
        ({"tool_collision": (30.0,) * 7}, "tool_contact and tool_collision take 6"),
        ({"tool_collision": (10.0,) * 6}, "must not exceed tool_collision"),
        ({"joint_collision": (0.0,) * 7}, r"joint_collision must lie in \[1, 100\]"),
        ({"tool_contact": (float("nan"),) * 6}, "tool_contact must lie in"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(changes: dict[str, tuple[float, ...]], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        dataclasses.replace(FIRM, **changes)  # type: ignore[arg-type]


def solid_box(mass: float, x: float, y: float, z: float) -> tuple[float, ...]:
    return (mass * (y * y + z * z) / 12, mass * (x * x + z * z) / 12, mass * (x * x + y * y) / 12, 0.0, 0.0, 0.0)


def test_a_solid_box_is_a_payload_however_it_is_turned() -> None:
    inertia = solid_box(0.8, 0.1, 0.04, 0.2)
    payload = Payload(0.8, (0.0, 0.0, 0.12), inertia)  # type: ignore[arg-type]
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = turn @ payload.inertia_matrix @ turn.T
    rows, columns = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    np.testing.assert_allclose(Payload(0.8, inertia=tuple(turned[rows, columns])).inertia_matrix, turned, atol=1e-12)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"mass": 3.5}, r"mass must lie in \[0, 3\]"),
        ({"mass": -0.1}, "mass must lie in"),
        ({"mass": 0.5, "center": (0.0, 0.0, 0.9)}, "center must lie in"),
        ({"mass": 0.5, "center": (0.0, 0.0)}, "center takes 3 numbers"),
        ({"inertia": (0.01, 0.01, 0.01, 0.0, 0.0, 0.0)}, "without mass"),
        ({"mass": 0.5, "inertia": (0.01, 0.01, 0.03, 0.0, 0.0, 0.0)}, "no body has"),
        ({"mass": 0.5, "inertia": (0.01, 0.01, 0.01, 0.02, 0.0, 0.0)}, "no body has"),
    ],
)
def test_numbers_that_no_payload_has_are_refused(payload: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Payload(**payload)  # type: ignore[arg-type]
