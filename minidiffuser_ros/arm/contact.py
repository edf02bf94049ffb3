"""How hard the arm may touch before its controller stops it, and what it carries."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, require_in_range

Array = NDArray[np.float64]
Seven = tuple[float, float, float, float, float, float, float]
Six = tuple[float, float, float, float, float, float]
Three = tuple[float, float, float]

MAX_PAYLOAD_KG = 3.0


TORQUES = {"unit": "Nm", "range": (1.0, 100.0)}
FORCES = {"unit": "N, Nm", "range": (1.0, 200.0)}


@dataclass(frozen=True)
class ContactThresholds:
    """What counts as a contact, which is only reported, and what as a collision, which ends the motion in a reflex.

    Torques that the joints [7] feel beyond those of the arm's own motion, in Nm; forces [3] in N and torques [3] in Nm
    at the tool. The defaults are those of Franka's own examples: a moving arm that meets a hand stops.
    Raises ConfigurationError for a number out of its range, or a collision that is less than a contact.
    """

    joint_contact: Seven = field(
        default=(20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0),
        metadata={"description": "Contact, by the torques of the joints", **TORQUES},
    )
    joint_collision: Seven = field(
        default=(20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0),
        metadata={"description": "Collision, by the torques of the joints", **TORQUES},
    )
    tool_contact: Six = field(
        default=(20.0, 20.0, 20.0, 25.0, 25.0, 25.0),
        metadata={"description": "Contact, by forces and torques at the tool", **FORCES},
    )
    tool_collision: Six = field(
        default=(20.0, 20.0, 20.0, 25.0, 25.0, 25.0),
        metadata={"description": "Collision, by forces and torques at the tool", **FORCES},
    )

    def __post_init__(self) -> None:
        require_in_range(self)
        for part, count in (("joint", 7), ("tool", 6)):
            contact, collision = getattr(self, f"{part}_contact"), getattr(self, f"{part}_collision")
            if len(contact) != count or len(collision) != count:
                raise ConfigurationError(
                    f"{part}_contact and {part}_collision take {count} numbers, got {len(contact)} and {len(collision)}"
                )
            if (np.array(contact) > np.array(collision)).any():
                raise ConfigurationError(
                    f"{part}_contact {contact} must not exceed {part}_collision {collision}: contacts come first"
                )


# For pressing, pulling and pushing: contacts are told as early, the arm stops at twice as much.
FIRM = ContactThresholds(
    joint_collision=(40.0, 40.0, 36.0, 36.0, 32.0, 28.0, 24.0), tool_collision=(40.0, 40.0, 40.0, 50.0, 50.0, 50.0)
)


@dataclass(frozen=True)
class Payload:
    """What the hand carries: mass in kg, its centre [3] in m in the flange's frame, its inertia in kg m^2.

    inertia: xx, yy, zz, xy, xz, yz about the centre, along the flange's axes. The hand itself is set in Desk.
    Raises ConfigurationError for numbers that no body has.
    """

    mass: float = field(
        default=0.0, metadata={"description": "Mass of the payload", "unit": "kg", "range": (0.0, MAX_PAYLOAD_KG)}
    )
    center: Three = field(
        default=(0.0, 0.0, 0.0),
        metadata={"description": "Its centre in the flange's frame", "unit": "m", "range": (-0.5, 0.5)},
    )
    inertia: Six = field(
        default=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        metadata={"description": "Its inertia: xx, yy, zz, xy, xz, yz", "unit": "kg m^2", "range": (-1.0, 1.0)},
    )

    def __post_init__(self) -> None:
        require_in_range(self)
        if len(self.center) != 3 or len(self.inertia) != 6:
            raise ConfigurationError(
                f"a payload's center takes 3 numbers and its inertia 6, got {len(self.center)} and {len(self.inertia)}"
            )
        if self.mass == 0.0 and any(self.inertia):
            raise ConfigurationError(f"a payload without mass has no inertia, got {self.inertia}: give its mass")
        principal = np.linalg.eigvalsh(self.inertia_matrix)
        # A body's largest principal moment is at most the sum of the two others, and none is negative.
        if principal[0] < -1e-9 or principal[2] > principal[0] + principal[1] + 1e-9:
            raise ConfigurationError(
                f"no body has the inertia {self.inertia}: give xx, yy, zz, xy, xz, yz about the centre in kg m^2"
            )

    @property
    def inertia_matrix(self) -> Array:
        """The inertia [3, 3]; symmetric, so that rows and columns may be taken for each other."""
        xx, yy, zz, xy, xz, yz = self.inertia
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


@dataclass(frozen=True)
class ContactSettings:
    """How hard the arm may touch on its way and where it works, and what it carries."""

    transit: ContactThresholds = field(default_factory=ContactThresholds)
    contact: ContactThresholds = field(default_factory=lambda: FIRM)
    payload: Payload = field(default_factory=Payload)
