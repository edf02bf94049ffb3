"""The limits that the safety envelope, the planner and the following of twists share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from minidiffuser_ros.arm.model import ARM_MODELS, FR3, ArmModel, arm_model
from minidiffuser_ros.contract.errors import ConfigurationError, require_in_range
from minidiffuser_ros.contract.observation import ObservationSpec


@dataclass(frozen=True)
class SafetyLimits:
    """Limits of goals and of the ways to them. Metres, radians, seconds, in the base frame.

    Raises ConfigurationError for what is out of its range, or contradicts itself.
    """

    model: str = field(
        default=FR3.name, metadata={"description": "Arm whose joint limits count", "choices": tuple(ARM_MODELS)}
    )
    workspace_min: tuple[float, float, float] = field(
        default=ObservationSpec.workspace_min, metadata={"description": "Lowest corner of the goals", "unit": "m"}
    )
    workspace_max: tuple[float, float, float] = field(
        default=ObservationSpec.workspace_max, metadata={"description": "Highest corner of the goals", "unit": "m"}
    )
    table_height: float = field(default=ObservationSpec.table_height, metadata={"unit": "m", "range": (-1.0, 1.0)})
    table_clearance: float = field(
        default=0.009,
        metadata={
            "description": "Least height of the tool above the table; the fingertips reach 8 mm below the tool",
            "unit": "m",
            "range": (0.0, 0.5),
        },
    )
    joint_margin: float = field(
        default=0.05, metadata={"description": "Distance from the joint limits", "unit": "rad", "range": (0.01, 0.5)}
    )
    max_step_m: float = field(
        default=0.9, metadata={"description": "Longest single motion", "unit": "m", "range": (0.01, 2.0)}
    )
    max_turn_rad: float = field(
        default=3.0, metadata={"description": "Largest turn in one motion", "unit": "rad", "range": (0.05, 3.14)}
    )
    min_singular_value: float = field(
        default=0.01,
        metadata={
            "description": "On straight lines, least motion of the tool in its worst direction when the joints move "
            "by 1 rad together; turns count 0.2 m a rad",
            "unit": "m/rad",
            "range": (0.0, 0.1),
        },
    )
    max_elbow_turn_rad: float = field(
        default=1.6,
        metadata={
            "description": "On straight lines, how far the elbow may swing about the line from shoulder to wrist",
            "unit": "rad",
            "range": (0.1, 3.14),
        },
    )
    max_age_s: float = field(
        default=60.0,
        metadata={"description": "Oldest observation a goal may answer", "unit": "s", "range": (0.1, 3600.0)},
    )
    max_ahead_s: float = field(
        default=1.0,
        metadata={
            "description": "How far ahead of this machine's clock a stamp may be",
            "unit": "s",
            "range": (0.0, 60.0),
        },
    )
    allow_undated: bool = field(
        default=True, metadata={"description": "Accept goals that do not say which observation they answer"}
    )
    max_speed: float = field(
        default=1.0, metadata={"description": "Highest fraction of full speed", "range": (0.01, 1.0)}
    )

    def __post_init__(self) -> None:
        require_in_range(self)
        arm_model(self.model)
        if not (np.array(self.workspace_min) < np.array(self.workspace_max)).all():
            raise ConfigurationError(
                f"workspace_min {self.workspace_min} must lie below workspace_max {self.workspace_max}"
            )

    @property
    def arm(self) -> ArmModel:
        """The model of the arm."""
        return arm_model(self.model)
