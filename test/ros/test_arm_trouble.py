"""What goes wrong with an arm in mid-motion is stopped, told with its code, and recovered from in the same node."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from served_arm import Client, Served, finished, outcome
from spinning import eventually, parameters, ros_context, spinning
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from minidiffuser_ros.arm.kinematics import JOINT_NAMES
from minidiffuser_ros.arm.protocol import ArmMode
from minidiffuser_ros.bridge.conversions import joint_positions, stamp_to_ns
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm import ArmNode
from minidiffuser_ros.srv import SetSpeed

pytestmark = [pytest.mark.ros, pytest.mark.slow]

STOP_S, REPORT_S = 0.5, 2.0
ENABLE_TIMEOUT_S, STATE_TIMEOUT_S = 0.4, 0.8  # the second below what libfranka waits for, a second
AT_REST = 0.05  # rad/s between two readings


class Rig:
    """A simulated arm, its node, and a client that holds the deadman while `held`."""

    def __init__(self, served: Served, node: ArmNode, client: Client) -> None:
        self.served, self.node, self.client, self.held = served, node, client, True
        self.diagnostics: list[DiagnosticStatus] = []
        client.create_timer(0.05, self._hold)
        client.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _hold(self) -> None:
        if self.held:
            self.client.enable.publish(Bool(data=True))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += message.status

    def set_speed(self, speed: float) -> None:
        assert self.client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=speed)).success

    def moving_goal(self, y: float = 0.3) -> object:
        """A goal that is under way for many seconds."""
        start = self.client.joints()
        handle = self.client.send(0.6, y, 0.15)
        eventually(lambda: np.abs(self.client.joints() - start).max() > 0.05, 15.0)
        return handle

    def pace(self) -> float:
        """Simulated seconds a second, now."""
        arm = self.node._arm
        assert arm is not None
        begin_s, begin = arm.state().clock_s, time.monotonic()
        time.sleep(0.3)
        return (arm.state().clock_s - begin_s) / (time.monotonic() - begin)

    def rested_after(self, since_ns: int) -> float:
        """Seconds from `since_ns` to the last motion of the joints that is to be seen on joint_states."""
        time.sleep(1.5)
        states = [s for s in list(self.client.states) if stamp_to_ns(s.header.stamp) > since_ns - 100_000_000]
        stamps = [stamp_to_ns(s.header.stamp) for s in states]
        joints = [joint_positions(s, JOINT_NAMES) for s in states]
        moved = [
            stamps[i]
            for i in range(3, len(states))
            if np.abs(joints[i] - joints[i - 3]).max() > AT_REST * 1e-9 * (stamps[i] - stamps[i - 3])
        ]
        return 1e-9 * (max(moved, default=since_ns) - since_ns)

    def says(self, code: str, state: int, timeout_s: float = 10.0) -> ArmStatus:
        def found() -> ArmStatus | None:
            return next((s for s in reversed(self.client.statuses) if code in s.codes and s.state == state), None)

        return eventually(found, timeout_s)

    def diagnosed(self, level: bytes, probe: Callable[[DiagnosticStatus], bool] = lambda _: True) -> DiagnosticStatus:
        self.diagnostics.clear()
        return eventually(
            lambda: next((d for d in list(self.diagnostics) if d.level == level and probe(d)), None), 10.0
        )

    def now_ns(self) -> int:
        return int(self.client.get_clock().now().nanoseconds)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    served = Served(6)
    overrides = parameters(
        address=served.address, speed=0.1, enable_timeout_s=ENABLE_TIMEOUT_S, state_timeout_s=STATE_TIMEOUT_S
    )
    with ros_context() as context:
        node, client = ArmNode(context=context, parameter_overrides=overrides), Client(context)
        rig = Rig(served, node, client)
        with spinning(context, node, client):
            client.becomes(ArmStatus.IDLE)
            yield rig
    served.kill()


def test_a_healthy_arm_is_diagnosed_as_such_every_second(rig: Rig) -> None:
    rig.diagnosed(DiagnosticStatus.OK)
    begin, count = time.monotonic(), len(rig.diagnostics)
    eventually(lambda: len(rig.diagnostics) >= count + 3, 10.0)
    assert 1.5 < time.monotonic() - begin < 6.0
    status = rig.diagnosed(DiagnosticStatus.OK)
    assert status.name == "arm"
    assert status.hardware_id == rig.served.address
    values = {value.key: value.value for value in status.values}
    assert values["mode"] == "idle"
    assert float(values["age of the newest reading [s]"]) < 1.0


def test_a_cancelled_goal_stops_the_arm_within_half_a_second(rig: Rig) -> None:
    rig.set_speed(0.2)
    handle = rig.moving_goal()
    pace = min(1.0, rig.pace())
    asked_ns = rig.now_ns()
    finished(handle.cancel_goal_async())
    rested_s = rig.rested_after(asked_ns)
    status, result = outcome(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert list(result.codes) == ["cancelled"]
    assert result.position_error > 0.03
    print(f"at rest {rested_s:.2f} s after the cancel, at {pace:.2f} of real time")
    # Where the simulation lags behind real time, its arm brakes the slower.
    assert 0.0 < rested_s < STOP_S / pace


def test_the_deadman_let_go_of_stops_the_arm(rig: Rig) -> None:
    rig.client.call(Trigger, "home")
    rig.set_speed(0.1)
    handle = rig.moving_goal()
    pace = min(1.0, rig.pace())
    rig.held, let_go_ns = False, rig.now_ns()
    rested_s = rig.rested_after(let_go_ns)
    status, result = outcome(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert list(result.codes) == ["interrupted", "not_enabled"]
    print(f"at rest {rested_s:.2f} s after the last word of the deadman, at {pace:.2f} of real time")
    assert rested_s < ENABLE_TIMEOUT_S + STOP_S / pace
    assert list(rig.client.becomes(ArmStatus.IDLE).codes) == ["interrupted", "not_enabled"]
    assert "`enable` was not true" in rig.diagnosed(DiagnosticStatus.WARN).message
    status, result = outcome(rig.client.send(0.5, 0.0, 0.3))
    assert (status, list(result.codes)) == (GoalStatus.STATUS_ABORTED, ["not_enabled"])
    rig.held = True
    time.sleep(0.2)
    rig.set_speed(0.5)
    status, result = outcome(rig.client.send(0.5, 0.0, 0.3))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message


def recovers(rig: Rig) -> None:
    assert rig.client.call(Trigger, "recover").success
    rig.set_speed(0.5)
    status, result = outcome(rig.client.send(0.5, 0.0, 0.3))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    assert list(result.codes) == []
    assert rig.diagnosed(DiagnosticStatus.OK).message == "ready"


@pytest.mark.parametrize("moving", [True, False])
def test_an_arm_whose_server_is_killed_is_told_lost_within_two_seconds_and_recovered(rig: Rig, moving: bool) -> None:
    rig.set_speed(0.1)
    handle = rig.moving_goal() if moving else None
    rig.client.statuses.clear()
    rig.served.kill()
    killed = time.monotonic()
    rig.says("connection_lost", ArmStatus.ERROR)
    told_s = time.monotonic() - killed
    print(f"told lost after {told_s:.2f} s")
    assert told_s < REPORT_S
    if handle is not None:
        status, result = outcome(handle)
        assert (status, list(result.codes)) == (GoalStatus.STATUS_ABORTED, ["connection_lost"])
    assert "stopped answering" in rig.diagnosed(DiagnosticStatus.ERROR).message
    assert not rig.client.call(Trigger, "recover").success
    rig.served.start()
    recovers(rig)


@pytest.mark.parametrize(
    ("mode", "code"), [(ArmMode.STOPPED, "user_stopped"), (ArmMode.ERROR, "reflex")], ids=["user stop", "reflex"]
)
def test_after_a_stop_by_the_arm_or_its_user_nothing_moves_until_recovered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, mode: ArmMode, code: str
) -> None:
    """franky-sim has neither: the arm's own reading is told to be in that mode."""
    arm = rig.node._arm
    assert arm is not None
    read = arm.state
    rig.client.statuses.clear()
    monkeypatch.setattr(arm, "state", lambda: dataclasses.replace(read(), mode=mode))
    rig.says(code, ArmStatus.ERROR)
    assert "recover" in rig.diagnosed(DiagnosticStatus.ERROR).message
    monkeypatch.undo()  # the stop is released
    time.sleep(0.2)
    status, result = outcome(rig.client.send(0.5, 0.1, 0.3))
    assert (status, list(result.codes)) == (GoalStatus.STATUS_ABORTED, [code])
    recovers(rig)


def test_an_arm_that_hangs_is_told_and_nothing_moves_until_it_answers_again(rig: Rig) -> None:
    rig.client.statuses.clear()
    os.kill(rig.served.process.pid, signal.SIGSTOP)
    try:
        rig.says("state_stale", ArmStatus.ERROR)
        status, result = outcome(rig.client.send(0.5, 0.1, 0.3))
        assert status == GoalStatus.STATUS_ABORTED
        assert set(result.codes) & {"state_stale", "connection_lost"}
    finally:
        os.kill(rig.served.process.pid, signal.SIGCONT)

    def told() -> str:
        words = [s.message for s in list(rig.client.statuses)]
        return next((w for w in words if "read again" in w or "stopped answering" in w), "")

    # libfranka may have given up the connection meanwhile, or not.
    if "stopped answering" in eventually(told):
        rig.served.kill()
        rig.served.start()
    recovers(rig)
