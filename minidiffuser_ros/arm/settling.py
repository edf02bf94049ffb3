"""When the arm is at rest, and whether it is where it should be.

A Franka says that a motion is over while it still lags behind by a degree, and a simulated one says so wherever
it ended: nothing is believed here but a reading of the arm at rest.
"""

from __future__ import annotations

import time

import numpy as np

from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.protocol import Arm, ArmState
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.transform import pose_of

SETTLE_PERIOD_S = 0.05


def settle(arm: Arm, settings: ExecutionSettings, must: bool = True) -> ArmState:
    """The first reading that equals the one before: the arm lags half a second behind its motions.

    Raises ConnectionLostError, and MotionError where the arm `must` come to rest in time and does not.
    """
    deadline = time.monotonic() + settings.settle_timeout_s
    before = arm.state()
    while True:
        time.sleep(SETTLE_PERIOD_S)
        state = arm.state()
        if np.abs(state.joints - before.joints).max() < settings.settle_step_rad:
            return state
        if time.monotonic() > deadline:
            if must:
                text = f"the arm did not come to rest within {settings.settle_timeout_s:g} s"
                raise MotionError(Refusal(Reason.UNSETTLED, text))
            return state
        before = state


def verify_pose(keypose: Keypose, state: ArmState, settings: ExecutionSettings) -> None:
    """Raises MotionError where the tool is not at the keypose."""
    distance, angle = keypose.distance_to(*pose_of(state.tool))
    if distance > settings.position_tolerance_m or angle > settings.rotation_tolerance_deg:
        text = (
            f"the tool stopped {1e3 * distance:.0f} mm and {angle:.1f} degrees from the keypose, allowed are "
            f"{1e3 * settings.position_tolerance_m:g} mm and {settings.rotation_tolerance_deg:g}: "
            "something is in its way"
        )
        raise MotionError(Refusal(Reason.POSE_MISSED, text))
