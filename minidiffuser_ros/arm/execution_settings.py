"""What counts as an arrival, and what happens when there is none."""

from __future__ import annotations

from dataclasses import dataclass, field

from minidiffuser_ros.contract.errors import require_in_range


@dataclass(frozen=True)
class ExecutionSettings:
    """Tolerances of an arrival, how long the arm may take to come to rest after a motion, and when to try again.

    Raises ConfigurationError for what is out of its range.
    """

    position_tolerance_m: float = field(default=0.01, metadata={"unit": "m", "range": (1e-4, 0.1)})
    rotation_tolerance_deg: float = field(default=3.0, metadata={"unit": "degrees", "range": (0.1, 45.0)})
    width_tolerance_m: float = field(
        default=0.006,
        metadata={
            "description": "Wider than asked by more than this: something is held",
            "unit": "m",
            "range": (1e-3, 0.02),
        },
    )
    settle_timeout_s: float = field(
        default=2.0, metadata={"description": "Longest time to come to rest", "unit": "s", "range": (0.1, 30.0)}
    )
    settle_step_rad: float = field(
        default=4e-4,
        metadata={"description": "Joint motion in 50 ms that counts as rest", "unit": "rad", "range": (1e-5, 1e-2)},
    )
    retries: int = field(
        default=1,
        metadata={
            "description": "Times to try again after a motion that failed and left the arm healthy",
            "range": (0, 5),
        },
    )
    retry_speed: float = field(
        default=0.5, metadata={"description": "Speed of a retry, as a fraction of the one before", "range": (0.05, 1.0)}
    )
    approach_speed: float = field(
        default=0.5,
        metadata={"description": "Speed of approach and retreat, as a fraction of the goal's", "range": (0.05, 1.0)},
    )
    fresh_observation: bool = field(
        default=False,
        metadata={"description": "Refuse goals that answer an observation from before the end of the last motion"},
    )
    home_lift_m: float = field(
        default=0.12,
        metadata={"description": "Rise before going home from low poses", "unit": "m", "range": (0.0, 0.4)},
    )

    def __post_init__(self) -> None:
        require_in_range(self)
