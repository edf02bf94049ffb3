"""What the driver raises in mid-motion, each with its code; a robot that raises it stands in for a real one."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import franky
import numpy as np
import pytest

from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.franky_connection import FrankyConnection
from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.contract.errors import ConnectionLostError, MotionError
from minidiffuser_ros.contract.refusal import Reason, codes_of


class StoppingRobot:
    """Raises `error` at the first join of a motion, and says then that it is in `mode`."""

    def __init__(self, error: Exception, mode: Any) -> None:
        self.error, self.mode = error, mode

    def move(self, motion: Any, asynchronous: bool) -> None: ...

    def join_motion(self, timeout: float) -> bool:
        raise self.error

    @property
    def state(self) -> Any:
        return SimpleNamespace(
            q=np.array(HOME_JOINTS),
            dq=np.zeros(7),
            O_T_EE=SimpleNamespace(matrix=np.eye(4)),
            robot_mode=self.mode,
            time=franky.Duration(1000),
        )


def arm_with(robot: StoppingRobot, monkeypatch: pytest.MonkeyPatch) -> FrankyArm:
    def connect(connection: FrankyConnection, timeout_s: float, abandon: threading.Event) -> None:
        connection._robot, connection._gripper = robot, object()
        connection._widths = SimpleNamespace(width=lambda not_before_s: 0.08, stop=lambda: None)  # type: ignore[assignment]

    monkeypatch.setattr(FrankyConnection, "_connect", connect)
    return FrankyArm("192.0.2.1")


@pytest.mark.parametrize(
    ("error", "mode", "code"),
    [
        (franky.ControlException("libfranka: Move command aborted: motion aborted by reflex! "), "Reflex", "reflex"),
        (franky.ControlException("libfranka: Move command aborted!"), "UserStopped", "user_stopped"),
        (franky.CommandException("libfranka: rejected"), "Idle", "command_refused"),
        (franky.InvalidOperationException("another control"), "Move", "command_refused"),
        (RuntimeError("Motion planner failed with error code -111"), "Idle", "no_trajectory"),
    ],
)
def test_every_error_of_a_motion_has_its_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, mode: str, code: str
) -> None:
    arm = arm_with(StoppingRobot(error, getattr(franky.RobotMode, mode)), monkeypatch)
    with pytest.raises(MotionError) as failed:
        arm.move_joints(np.array(HOME_JOINTS), 0.5, threading.Event())
    assert codes_of([failed.value.reason]) == [Reason(code)]


@pytest.mark.parametrize("error", [franky.NetworkException("UDP receive: Timeout"), RuntimeError("Connection reset")])
def test_an_error_of_the_network_loses_the_connection_until_it_is_recovered(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    arm = arm_with(StoppingRobot(error, franky.RobotMode.Idle), monkeypatch)
    with pytest.raises(ConnectionLostError, match="recover"):
        arm.move_joints(np.array(HOME_JOINTS), 0.5, threading.Event())
    with pytest.raises(ConnectionLostError, match="not connected"):
        arm.state()
    arm.recover()
    assert arm.state().width == 0.08
