"""The teleop node in a process and a terminal of its own: what is typed there arrives as messages and requests."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from geometry_msgs.msg import TwistStamped
from rclpy.action import ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from spinning import eventually, parameters, ros_context, spinning
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from virtual_pad import VirtualPad

from minidiffuser_ros.action import Gripper
from minidiffuser_ros.bridge.conversions import joint_state, stamp_to_ns
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA
from minidiffuser_ros.msg import ArmStatus, RecorderStatus
from minidiffuser_ros.nodes.teleop import TeleopNode
from minidiffuser_ros.srv import LabelEpisode, ResetSimulation, StartRecording

pytestmark = pytest.mark.ros

UP = b"\x1b[A"


class Lab(Node):
    """Arm and recorder as the operator's node sees them: it notes what is asked, and grants it."""

    def __init__(self, context: Context) -> None:
        super().__init__("lab", context=context)
        self.twists: list[tuple[float, TwistStamped]] = []
        self.enables: list[bool] = []
        self.asked: list[tuple[str, Any]] = []
        self.gripper_may_end = threading.Event()
        self.gripper_may_end.set()
        group = ReentrantCallbackGroup()
        self.create_subscription(TwistStamped, "twist_command", self._on_twist, RELIABLE)
        self.create_subscription(Bool, "enable", lambda m: self.enables.append(m.data), RELIABLE)
        self.targets = self.create_publisher(JointState, "gripper_target", SENSOR_DATA)
        self.arm = self.create_publisher(ArmStatus, "arm/status", LATCHED)
        self.status = self.create_publisher(RecorderStatus, "recorder/status", LATCHED)
        ActionServer(self, Gripper, "arm/gripper", self._on_gripper, callback_group=group)
        for kind, name in (
            (StartRecording, "start"),
            (Trigger, "stop"),
            (Trigger, "discard"),
            (Trigger, "mark_keypose"),
            (Trigger, "undo_keypose"),
            (LabelEpisode, "label"),
        ):
            self.create_service(kind, f"recorder/{name}", self._noting(name), callback_group=group)
        self.create_service(SetBool, "arm/guide", self._noting("guide"), callback_group=group)
        for name in ("home", "recover"):
            self.create_service(Trigger, f"arm/{name}", self._noting(name), callback_group=group)
        self.create_service(ResetSimulation, "simulator/reset", self._on_reset, callback_group=group)

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def _on_twist(self, message: TwistStamped) -> None:
        self.twists.append((time.monotonic(), message))

    def _on_gripper(self, handle: Any) -> Gripper.Result:
        self.asked.append(("gripper", handle.request.opening))
        self.gripper_may_end.wait(5.0)
        handle.succeed()
        return Gripper.Result(success=True, message="the gripper is there")

    def _on_reset(self, request: ResetSimulation.Request, response: ResetSimulation.Response) -> Any:
        self.asked.append(("reset", request))
        response.success, response.instruction = True, f"push button number {request.seed}"
        return response

    def _noting(self, name: str) -> Any:
        def answer(request: Any, response: Any) -> Any:
            self.asked.append((name, request))
            response.success, response.message = True, f"{name} was done"
            return response

        return answer


class Operator:
    """A terminal with a teleop node in it."""

    def __init__(self, *parameters: str) -> None:
        self.master, self.slave = pty.openpty()
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minidiffuser_ros.nodes", "teleop", "--ros-args", *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )
        self._shown = b""
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def hold(self, key: bytes, seconds: float) -> None:
        """As a terminal repeats a key that is held."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.type(key)
            time.sleep(0.03)

    def sees(self, words: str, timeout_s: float = 10.0) -> None:
        eventually(lambda: words in self.shown, timeout_s)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 4096):
                self._shown += data
        except OSError:
            return


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with ros_context() as context:
        lab = Lab(context)
        with spinning(context, lab):
            yield lab


@pytest.fixture(scope="module")
def operator(lab: Lab) -> Iterator[Operator]:
    operator = Operator("linear:=0.08", "task:=push_button", "instruction:=press it", "operator:=Ada")
    operator.sees("hold to move", 30.0)
    eventually(lambda: lab.count_subscribers("gripper_target") and lab.count_publishers("twist_command"))
    yield operator
    operator.end()


def test_a_held_key_sends_twists_at_the_rate_with_the_deadman_and_both_end_soon_after(
    lab: Lab, operator: Operator
) -> None:
    lab.twists.clear()
    lab.enables.clear()
    operator.hold(UP, 1.0)
    released = time.monotonic()
    eventually(lambda: lab.enables and not lab.enables[-1], 2.0)
    assert time.monotonic() - released < 0.8
    moving = [(when, m) for when, m in lab.twists if m.twist.linear.x > 0.0]
    assert {m.twist.linear.x for _, m in moving} == {0.08}
    assert {m.header.frame_id for _, m in moving} == {"fr3_link0"}
    assert all(stamp_to_ns(m.header.stamp) > 0 for _, m in moving)
    assert len(moving) / (moving[-1][0] - moving[0][0]) > 28.0
    assert lab.twists[-1][1].twist.linear.x == 0.0
    count = len(lab.twists)
    time.sleep(0.3)
    assert len(lab.twists) == count


def test_letting_go_needs_no_waiting(lab: Lab, operator: Operator) -> None:
    operator.hold(b"e", 0.3)
    operator.type(b".")
    pressed = time.monotonic()
    eventually(lambda: not lab.enables[-1], 2.0)
    assert time.monotonic() - pressed < 0.25


def test_speed_and_axes_change_by_keys_and_the_status_line_says_so(lab: Lab, operator: Operator) -> None:
    operator.type(b"-b")
    operator.sees("0.064 m/s")
    operator.sees("tool axes")
    lab.twists.clear()
    operator.hold(b"d", 0.2)
    twist = eventually(lambda: next((m for _, m in lab.twists if m.twist.linear.z), None))
    assert twist.twist.linear.z == pytest.approx(-0.064)
    assert twist.header.frame_id == "fr3_hand_tcp"
    operator.type(b"+b")


def test_every_key_of_the_recorder_reaches_its_service(lab: Lab, operator: Operator) -> None:
    for key, name in (
        (b"r", "start"),
        (b"k", "mark_keypose"),
        (b"u", "undo_keypose"),
        (b"s", "stop"),
        (b"x", "discard"),
    ):
        lab.asked.clear()
        operator.type(key)
        eventually(lambda name=name: lab.names() == [name])
        operator.sees(f"{name} was done")
        if name == "start":
            request = lab.asked[0][1]
            assert (request.task, request.instruction, request.operator_name) == ("push_button", "press it", "Ada")
            assert (request.variation, request.seed) == (-1, -1)
    for key, outcome in ((b"1", "success"), (b"0", "failure")):
        lab.asked.clear()
        operator.type(key)
        eventually(lambda: lab.names() == ["label"])
        assert lab.asked[0][1].outcome == outcome
        assert lab.asked[0][1].episode == ""


def test_the_arm_goes_home_and_recovers_by_keys(lab: Lab, operator: Operator) -> None:
    for key, name in ((b"o", "home"), (b"c", "recover")):
        lab.asked.clear()
        operator.type(key)
        eventually(lambda name=name: lab.names() == [name])
        operator.sees(f"{name} was done")


def test_the_next_scene_gives_the_episode_its_sentence_and_seed(lab: Lab, operator: Operator) -> None:
    for seed in (0, 1):
        lab.asked.clear()
        operator.type(b"n")
        eventually(lambda: lab.names() == ["reset"])
        assert (lab.asked[0][1].task, lab.asked[0][1].seed) == ("push_button", seed)
        operator.sees(f"the scene asks: push button number {seed}")
    lab.asked.clear()
    operator.type(b"r")
    eventually(lambda: lab.names() == ["start"])
    request = lab.asked[0][1]
    assert (request.instruction, request.seed) == ("push button number 1", 1)


def test_the_gripper_toggles_and_a_toggle_during_its_motion_is_kept(lab: Lab, operator: Operator) -> None:
    lab.targets.publish(joint_state(["fr3_gripper"], [1.0], 1))
    time.sleep(0.2)
    lab.asked.clear()
    lab.gripper_may_end.clear()
    operator.type(b" ")
    eventually(lambda: lab.asked == [("gripper", 0.0)])
    operator.type(b" ")
    time.sleep(0.3)
    assert lab.asked == [("gripper", 0.0)]
    lab.gripper_may_end.set()
    eventually(lambda: lab.asked == [("gripper", 0.0), ("gripper", 1.0)])


def test_the_state_of_the_recorder_is_shown(lab: Lab, operator: Operator) -> None:
    lab.status.publish(RecorderStatus(state=RecorderStatus.RECORDING, duration_s=12.0, keyposes=3))
    operator.sees("RECORDING 12 s, 3 marks")
    operator.sees("recorder does not answer any more")  # it repeats its status, and nothing came since


def test_ctrl_c_lets_go_gives_the_terminal_back_and_ends_with_0(lab: Lab, operator: Operator) -> None:
    """Runs last: the operator goes home."""
    operator.hold(b"e", 0.2)
    operator.process.send_signal(signal.SIGINT)
    assert operator.process.wait(10.0) == 0
    assert not lab.enables[-1]
    assert termios.tcgetattr(operator.slave)[3] & termios.ECHO


def test_guiding_is_switched_by_enter_and_keeps_the_deadman_alive(lab: Lab) -> None:
    operator = Operator("device:=guiding")
    try:
        operator.sees("lead the arm by hand", 30.0)
        eventually(lambda: lab.count_publishers("enable") and lab.count_clients("arm/guide"))
        time.sleep(1.0)  # it must have found us, too
        lab.asked.clear()
        lab.enables.clear()
        lab.twists.clear()
        operator.type(UP + b"\n")
        eventually(lambda: lab.names() == ["guide"])
        assert lab.asked[0][1].data is True
        eventually(lambda: len(lab.enables) > 10)
        assert all(lab.enables)
        assert not lab.twists
        operator.type(b"\n")
        eventually(lambda: lab.names() == ["guide", "guide"])
        assert lab.asked[1][1].data is False
        eventually(lambda: not lab.enables[-1])
        operator.type(b"\n")
        eventually(lambda: lab.enables[-1])
        for state in (ArmStatus.MOVING, ArmStatus.IDLE):  # the arm ends it by itself
            assert lab.enables[-1]
            lab.arm.publish(ArmStatus(state=state))
            time.sleep(0.3)
        eventually(lambda: not lab.enables[-1])
    finally:
        operator.end()


def test_a_joystick_drives_while_its_deadman_is_held_and_its_loss_ends_the_node(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pad = VirtualPad()
    with ros_context() as context:
        node = TeleopNode(context=context, parameter_overrides=parameters(device="joystick"))
        with spinning(context, node):
            eventually(lambda: node.is_active and lab.count_publishers("twist_command"))
            time.sleep(0.3)
            lab.twists.clear()
            lab.enables.clear()
            pad.axis(1, -1.0)
            time.sleep(0.3)
            assert not lab.twists
            pad.button(5, True)
            eventually(lambda: len(lab.twists) > 10)
            assert lab.twists[-1][1].twist.linear.x == pytest.approx(0.1, abs=1e-3)
            assert all(lab.enables)
            pad.button(5, False)
            eventually(lambda: not lab.enables[-1])
            pad.remove()
            assert node.ended.wait(5.0)
            assert "joystick is gone" in node.stop_reason


def test_without_a_terminal_the_node_ends_with_2_and_a_sentence() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "minidiffuser_ros.nodes", "teleop"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60.0,
    )
    assert run.returncode == 2
    assert "the keyboard needs a terminal" in run.stderr
    assert "Traceback" not in run.stderr
