"""Everything that can be set about an arm: where it is, what bounds it, how it moves."""

from __future__ import annotations

from dataclasses import dataclass, field

from minidiffuser_ros.arm.cloud_planner import CloudSettings
from minidiffuser_ros.arm.contact import ContactSettings
from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.franky_settings import FrankySettings
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.planning.collision import CollisionSettings
from minidiffuser_ros.arm.planning.planner import PlanningSettings
from minidiffuser_ros.arm.twist import ServoSettings


@dataclass(frozen=True)
class ArmSettings:
    """Where the arm is and what bounds it; fixed while it is connected."""

    address: str = field(default="127.0.0.2", metadata={"description": "Host name or IP address of the arm"})
    state_rate: float = field(
        default=50.0, metadata={"description": "Rate of joint_states", "unit": "Hz", "range": (1.0, 200.0)}
    )
    state_timeout_s: float = field(
        default=2.0,
        metadata={
            "description": "Without a new reading for so long the arm is stopped, and reported",
            "unit": "s",
            "range": (0.1, 30.0),
        },
    )
    enable_timeout_s: float = field(
        default=0.0,
        metadata={
            "description": "Move only while `enable` says true at least this often; 0: no such signal is needed",
            "unit": "s",
            "range": (0.0, 10.0),
        },
    )
    planner: bool = field(
        default=True, metadata={"description": "Plan a way where no straight line leads; else such goals are refused"}
    )
    cloud_topic: str = field(
        default="observer/surroundings",
        metadata={"description": "What ways are planned around, in the arm's base frame"},
    )
    limits: SafetyLimits = field(default_factory=SafetyLimits)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    contact: ContactSettings = field(default_factory=ContactSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    collision: CollisionSettings = field(default_factory=CollisionSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    servo: ServoSettings = field(default_factory=ServoSettings)
    franka: FrankySettings = field(default_factory=FrankySettings)


@dataclass(frozen=True)
class MotionSettings:
    """What may change between two motions."""

    speed: float = field(default=0.3, metadata={"description": "Fraction of full speed", "range": (0.01, 1.0)})
    dry_run: bool = field(default=False, metadata={"description": "Check goals but move nothing"})
