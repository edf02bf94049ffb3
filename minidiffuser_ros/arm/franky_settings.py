"""How to reach and drive a Franka; read where the driver itself is not installed, too."""

from __future__ import annotations

from dataclasses import dataclass, field

from minidiffuser_ros.contract.errors import ConfigurationError


@dataclass(frozen=True)
class FrankySettings:
    """How to reach and drive the arm."""

    realtime: bool = field(
        default=False, metadata={"description": "Insist on a real-time kernel; a simulated arm needs none"}
    )
    connect_timeout_s: float = field(
        default=60.0,
        metadata={"description": "How long to wait for the arm at the start", "unit": "s", "range": (0.1, 3600.0)},
    )
    reconnect_timeout_s: float = field(
        default=5.0, metadata={"description": "The same when recovering", "unit": "s", "range": (0.1, 3600.0)}
    )
    motion_timeout_s: float = field(
        default=60.0, metadata={"description": "Longest single motion", "unit": "s", "range": (1.0, 600.0)}
    )
    gripper_timeout_s: float = field(
        default=8.0, metadata={"description": "Longest gripper motion", "unit": "s", "range": (1.0, 60.0)}
    )
    gripper_speed: float = field(
        default=0.05, metadata={"description": "Speed of the fingers", "unit": "m/s", "range": (0.005, 0.1)}
    )
    gripper_force: float = field(
        default=25.0, metadata={"description": "Force of a grasp", "unit": "N", "range": (1.0, 70.0)}
    )

    guiding_damping: float = field(
        default=3.0,
        metadata={"description": "Resistance to being led by hand", "unit": "Nm s/rad", "range": (0.0, 20.0)},
    )

    def __post_init__(self) -> None:
        if not 0.0 < self.gripper_speed <= 0.1:
            raise ConfigurationError(f"gripper_speed must lie in (0, 0.1] m/s, got {self.gripper_speed}")
        if not 0.0 < self.gripper_force <= 70.0:
            raise ConfigurationError(f"gripper_force must lie in (0, 70] N, got {self.gripper_force}")
        if min(self.connect_timeout_s, self.motion_timeout_s, self.gripper_timeout_s) <= 0.0:
            raise ConfigurationError("connect_timeout_s, motion_timeout_s and gripper_timeout_s must be positive")
