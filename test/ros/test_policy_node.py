"""The policy node as a real node, among a small arm and observer that answer as the real ones do.

The policy itself is scripted: it walks the tool to a target in steps, from the observed tool position alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.node import Node
from spinning import eventually, parameters, ros_context, spinning
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from minidiffuser_ros.action import ExecuteKeypose, RunPolicy
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.conversions import fill_capture, keypose_from_message, stamp_from_ns, stamp_to_ns
from minidiffuser_ros.bridge.decision_pictures import PruningPictures
from minidiffuser_ros.bridge.parameters import check_parameter_file, parameter_names
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE
from minidiffuser_ros.bridge.telemetry import record_from_message
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.msg import ArmStatus, PolicyTelemetry
from minidiffuser_ros.msg import Keypose as KeyposeMessage
from minidiffuser_ros.nodes.policy import PolicyNode
from minidiffuser_ros.policy.settings import PolicySettings, WalkSettings
from minidiffuser_ros.pruning.picture import MaskRow, draw_masks
from minidiffuser_ros.srv import Capture, LoadCheckpoint

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).parents[2] / "config"
DOWN = np.array(POINTING_DOWN_WXYZ)
MASK = np.array([[False, True], [True, True]])
START, TARGET = np.array([0.4, 0.0, 0.3]), np.array([0.5, 0.1, 0.1])


@dataclass(frozen=True)
class Choice:
    keypose: Keypose
    candidate_keyposes: tuple[Keypose, ...]
    holds: bool = False
    chosen: int = 0
    spread: float = 0.003
    encode_ms: float = 1.5
    denoise_ms: float = 2.5
    steps: int = 10
    pruned: float = 0.0
    sampler: str = "ddim"
    fell_back: bool = False
    doubt: str = ""
    mask: np.ndarray | None = None
    branches: tuple[str, ...] = ()

    @property
    def candidates(self) -> np.ndarray:
        return np.stack([keypose.position for keypose in self.candidate_keyposes])


class WalkingPolicy:
    """Walks the tool to TARGET in steps of at most 0.1 m per axis, then holds."""

    spec, has_pruner = ObservationSpec(), False

    def require(self, settings: WalkSettings) -> None:
        if settings.sampler == "sag" and not self.has_pruner:
            raise ConfigurationError("sampler is 'sag', but there is no pruner for this policy")

    def decide(
        self, observation: Observation, instruction: str, seed: int, before: Observation | None, settings: WalkSettings
    ) -> Choice:
        step = np.clip(TARGET - observation.tool_position, -0.1, 0.1)
        goal = Keypose(observation.tool_position + step, DOWN, 1.0)
        choice = Choice(goal, (goal, replace(goal, opening=0.0)), holds=bool(np.abs(step).max() < 1e-6))
        if settings.sampler != "sag":
            return choice
        return replace(choice, sampler="sag", pruned=0.75, mask=MASK, branches=("0.attention", "0.mlp"))


class Surroundings(Node):
    """Observer, arm and judge with their real names and types."""

    def __init__(self, context: Context) -> None:
        super().__init__("surroundings", context=context)
        self.tool, self.settled_ns, self.spec = START.copy(), self.now_ns(), ObservationSpec()
        self.goals: list[Keypose] = []
        self.captures: list[tuple[int, int]] = []
        self.move_s = 0.02
        self.outcome: Callable[[Keypose], str] = lambda goal: ""
        group = ReentrantCallbackGroup()
        self.status = self.create_publisher(ArmStatus, "arm/status", LATCHED)
        self.create_service(Capture, "observer/capture", self.capture, callback_group=group)
        self.create_service(Trigger, "simulator/success", self.success, callback_group=group)
        self.server = ActionServer(
            self,
            ExecuteKeypose,
            "arm/execute_keypose",
            self.execute,
            callback_group=group,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )
        self.tell(ArmStatus.IDLE)

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def tell(self, state: int, message: str = "") -> None:
        self.status.publish(ArmStatus(state=state, message=message, settled_at=stamp_from_ns(self.settled_ns)))

    def capture(self, request: Capture.Request, response: Capture.Response) -> Capture.Response:
        stamp_ns = self.now_ns()
        self.captures.append((stamp_to_ns(request.not_before), stamp_ns))
        points = np.tile(self.tool, (20, 1)).astype(np.float32)
        colors = np.zeros((20, 3), np.uint8)
        observation = Observation(points, colors, self.tool, DOWN, np.zeros(7), 1.0, stamp_ns, self.spec)
        return fill_capture(response, observation, 3.0)

    def execute(self, handle: ServerGoalHandle) -> ExecuteKeypose.Result:
        goal, started = keypose_from_message(handle.request.keypose), time.monotonic()
        refusal = self.outcome(goal)
        if refusal:
            handle.abort()
            return ExecuteKeypose.Result(success=False, message=refusal)
        self.tell(ArmStatus.MOVING)
        while time.monotonic() - started < self.move_s:
            if handle.is_cancel_requested:
                self.settled_ns = self.now_ns()
                self.tell(ArmStatus.IDLE)
                handle.canceled()
                return ExecuteKeypose.Result(success=False, message="cancelled", duration_s=0.1)
            time.sleep(0.01)
        self.goals.append(goal)
        self.tool, self.settled_ns = goal.position, self.now_ns()
        self.tell(ArmStatus.IDLE)
        handle.succeed()
        settled = stamp_from_ns(self.settled_ns)
        return ExecuteKeypose.Result(success=True, message="reached", settled_at=settled, duration_s=self.move_s)

    def success(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = bool(np.allclose(self.tool, TARGET))
        return response


class Rig:
    """The policy node, its surroundings, and a user."""

    def __init__(self, context: Context) -> None:
        self.around = Surroundings(context)
        self.node = PolicyNode(
            load=lambda path, device, threads: WalkingPolicy(),  # type: ignore[arg-type, return-value]
            context=context,
            parameter_overrides=parameters(checkpoint="scripted", instruction="push the red button"),
        )
        self.user = Node("user", context=context)
        self.action = ActionClient(self.user, RunPolicy, "policy/run_policy")
        self.feedback: list[RunPolicy.Feedback] = []
        self.telemetry: list[PolicyTelemetry] = []
        self.markers: list[MarkerArray] = []
        self.published: list[KeyposeMessage] = []
        self.user.create_subscription(PolicyTelemetry, "policy/telemetry", self.telemetry.append, RELIABLE)
        self.user.create_subscription(MarkerArray, "policy/candidates", self.markers.append, RELIABLE)
        self.user.create_subscription(KeyposeMessage, "keypose_goal", self.published.append, RELIABLE)

    def send(self, instruction: str = "push the red button", max_keyposes: int = 0) -> Any:
        eventually(lambda: self.node.is_active)
        assert self.action.wait_for_server(10.0)
        goal = RunPolicy.Goal(instruction=instruction, max_keyposes=max_keyposes, seed=3)
        sent = self.action.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append(m.feedback))
        eventually(sent.done)
        return sent.result()

    def finish(self, handle: Any) -> tuple[int, RunPolicy.Result]:
        answer = handle.get_result_async()
        eventually(answer.done, 20.0)
        return answer.result().status, answer.result().result

    def perform(self, **goal: Any) -> tuple[int, RunPolicy.Result]:
        return self.finish(self.send(**goal))

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.user.create_client(kind, f"policy/{name}")
        assert client.wait_for_service(10.0)
        future = client.call_async(request)
        eventually(future.done)
        return future.result()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ros_context() as context:
        rig = Rig(context)
        with spinning(context, rig.around, rig.node, rig.user):
            yield rig


def test_a_sentence_is_performed_and_every_decision_is_told(rig: Rig) -> None:
    status, result = rig.perform()
    assert result.success, result.message
    assert status == GoalStatus.STATUS_SUCCEEDED
    np.testing.assert_allclose(rig.around.tool, TARGET)
    assert len(result.keyposes) == len(result.telemetry) == len(rig.around.goals) == 2
    for sent, executed in zip(result.keyposes, rig.around.goals, strict=True):
        np.testing.assert_allclose(keypose_from_message(sent).position, executed.position)
    first = result.telemetry[0]
    assert (first.instruction, first.encode_ms, first.denoise_ms, first.lift_ms) == (
        "push the red button",
        1.5,
        2.5,
        3.0,
    )
    assert first.move_ms >= 20.0
    assert first.candidates == 2
    eventually(lambda: len(rig.telemetry) == len(rig.markers) == len(rig.published) == 2)
    assert rig.published[0].header.frame_id == "fr3_link0"
    stages = {message.stage for message in rig.feedback}
    assert {"observing", "inferring", "moving"} <= stages


def test_no_decision_rests_on_a_picture_from_before_the_arm_settled(rig: Rig) -> None:
    rig.perform()
    asked = [not_before for not_before, _ in rig.around.captures]
    assert asked == sorted(asked)
    for (not_before, _), (_, earlier_stamp) in zip(rig.around.captures[1:], rig.around.captures, strict=False):
        assert not_before > earlier_stamp


def test_a_second_run_is_refused_while_one_is_performed(rig: Rig) -> None:
    rig.around.move_s = 0.6
    handle = rig.send()
    status, refused = rig.perform()
    assert status == GoalStatus.STATUS_ABORTED
    assert "busy" in refused.message
    assert rig.finish(handle)[1].success


def test_cancelling_stops_the_arm_and_ends_the_run(rig: Rig) -> None:
    rig.around.move_s = 20.0
    handle = rig.send()
    eventually(lambda: any(message.stage == "moving" for message in rig.feedback))
    handle.cancel_goal_async()
    status, result = rig.finish(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert not result.success
    np.testing.assert_array_equal(rig.around.tool, START)


def test_a_defect_in_the_policy_ends_the_run_and_not_the_node(rig: Rig) -> None:
    def broken(self: WalkingPolicy, *arguments: object) -> Choice:
        raise RuntimeError("shapes do not match")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WalkingPolicy, "decide", broken)
        status, result = rig.perform()
    assert status == GoalStatus.STATUS_ABORTED
    assert "shapes do not match" in result.message
    assert rig.perform()[1].success


def test_the_service_twins_start_and_stop_a_run(rig: Rig) -> None:
    eventually(lambda: rig.node.is_active)
    rig.around.move_s = 20.0
    assert rig.call(Trigger, "start", Trigger.Request()).success
    assert "busy" in rig.call(Trigger, "start", Trigger.Request()).message
    assert rig.call(Trigger, "stop", Trigger.Request()).success
    np.testing.assert_array_equal(rig.around.tool, START)
    rig.around.move_s = 0.02
    assert rig.call(Trigger, "start", Trigger.Request()).success
    eventually(lambda: np.allclose(rig.around.tool, TARGET))


def test_with_confirmation_nothing_moves_before_approval(rig: Rig) -> None:
    rig.node.set_parameters(parameters(confirm=True))
    handle = rig.send(max_keyposes=1)
    eventually(lambda: any(message.stage == "waiting_for_approval" for message in rig.feedback))
    time.sleep(0.2)
    assert rig.around.goals == []
    assert rig.call(Trigger, "approve", Trigger.Request()).success
    rig.finish(handle)
    assert len(rig.around.goals) == 1
    assert not rig.call(Trigger, "approve", Trigger.Request()).success


def stages(rig: Rig) -> list[str]:
    return [message.stage for message in rig.feedback]


def pause(rig: Rig, on: bool) -> None:
    assert rig.call(SetBool, "pause", SetBool.Request(data=on)).success


def test_a_pause_finishes_the_motion_and_what_follows_is_seen_after_it(rig: Rig) -> None:
    rig.around.move_s = 0.5
    handle = rig.send()
    eventually(lambda: "moving" in stages(rig))
    pause(rig, True)
    eventually(lambda: "paused" in stages(rig))
    assert len(rig.around.goals) == 1
    looks = len(rig.around.captures)
    time.sleep(0.3)
    assert len(rig.around.captures) == looks
    resumed_ns = rig.around.now_ns()
    pause(rig, False)
    assert rig.finish(handle)[1].success
    assert rig.around.captures[looks][0] >= resumed_ns
    assert len(rig.around.goals) == 2


def test_a_step_within_a_pause_is_one_keypose(rig: Rig) -> None:
    # A checkpoint that is still being loaded is something that is being performed.
    eventually(lambda: "start a run" in rig.call(Trigger, "step", Trigger.Request()).message)
    pause(rig, True)
    handle = rig.send()
    eventually(lambda: stages(rig) == ["paused"])
    assert rig.around.captures == []
    assert rig.call(Trigger, "step", Trigger.Request()).success
    eventually(lambda: stages(rig).count("paused") == 2)
    assert len(rig.around.goals) == 1
    pause(rig, False)
    assert not rig.call(Trigger, "step", Trigger.Request()).success
    assert rig.finish(handle)[1].success


def test_a_paused_run_can_be_stopped(rig: Rig) -> None:
    pause(rig, True)
    handle = rig.send()
    eventually(lambda: "paused" in stages(rig))
    assert rig.call(Trigger, "stop", Trigger.Request()).success
    assert "cancelled" in rig.finish(handle)[1].message
    assert rig.around.goals == []


def test_a_rejected_keypose_is_not_sent_and_another_one_is_proposed(rig: Rig) -> None:
    rig.node.set_parameters(parameters(confirm=True))
    assert not rig.call(Trigger, "reject", Trigger.Request()).success
    handle = rig.send(max_keyposes=1)
    eventually(lambda: "waiting_for_approval" in stages(rig))
    assert rig.call(Trigger, "reject", Trigger.Request()).success
    eventually(lambda: stages(rig).count("waiting_for_approval") == 2)
    assert rig.around.goals == []
    assert rig.call(Trigger, "approve", Trigger.Request()).success
    rig.finish(handle)
    assert len(rig.around.goals) == 1


def test_a_pause_withdraws_a_keypose_that_waits_for_approval(rig: Rig) -> None:
    rig.node.set_parameters(parameters(confirm=True))
    handle = rig.send(max_keyposes=1)
    eventually(lambda: "waiting_for_approval" in stages(rig))
    pause(rig, True)
    eventually(lambda: "paused" in stages(rig))
    assert not rig.call(Trigger, "approve", Trigger.Request()).success
    resumed_ns = rig.around.now_ns()
    pause(rig, False)
    eventually(lambda: stages(rig).count("waiting_for_approval") == 2)
    assert rig.call(Trigger, "approve", Trigger.Request()).success
    rig.finish(handle)
    assert rig.around.captures[-1][0] >= resumed_ns
    assert len(rig.around.goals) == 1


def test_a_dry_run_publishes_and_never_moves(rig: Rig) -> None:
    assert rig.call(SetBool, "set_dry_run", SetBool.Request(data=True)).success
    _, result = rig.perform()
    assert not result.success
    assert "dry run" in result.message
    assert len(result.keyposes) == 1
    eventually(lambda: len(rig.published) == 1)
    assert rig.around.goals == []


def test_an_observation_of_another_spec_is_refused_naming_the_difference(rig: Rig) -> None:
    rig.around.spec = ObservationSpec(voxel_size=0.02)
    _, result = rig.perform()
    assert not result.success
    assert "voxel_size: 0.008 against 0.02" in result.message
    assert rig.around.goals == []


def test_a_goal_the_arm_refuses_twice_ends_the_run_with_its_reason(rig: Rig) -> None:
    rig.around.outcome = lambda goal: "joint 4 would pass its limit"
    status, result = rig.perform()
    assert status == GoalStatus.STATUS_ABORTED
    assert "joint 4 would pass its limit" in result.message


def test_an_arm_in_error_is_not_sent_any_goal(rig: Rig) -> None:
    eventually(lambda: rig.node.is_active)
    rig.around.tell(ArmStatus.ERROR, "the arm is in a reflex")
    time.sleep(0.3)
    _, result = rig.perform()
    assert "the arm is in a reflex" in result.message
    assert rig.around.goals == []


def test_an_empty_sentence_is_refused(rig: Rig) -> None:
    status, result = rig.perform(instruction="  ")
    assert status == GoalStatus.STATUS_ABORTED
    assert "instruction is empty" in result.message


def test_a_checkpoint_that_cannot_be_loaded_leaves_the_old_one_in_use(rig: Rig) -> None:
    def refuse(path: Path, device: str, threads: int) -> Any:
        raise CheckpointError(f"{path} is no checkpoint")

    eventually(lambda: rig.node.is_active)
    rig.node._load = refuse
    answer = rig.call(LoadCheckpoint, "load_checkpoint", LoadCheckpoint.Request(path="/nowhere"))
    assert not answer.success
    assert "/nowhere is no checkpoint" in answer.message
    assert rig.perform()[1].success


def test_without_an_observer_the_run_ends_with_a_sentence_naming_it() -> None:
    with ros_context() as context:
        rig = Rig(context)
        rig.around.destroy_service(next(s for s in rig.around.services if s.srv_name.endswith("capture")))
        rig.node.destroy_node()
        rig.node = PolicyNode(
            load=lambda path, device, threads: WalkingPolicy(),  # type: ignore[arg-type, return-value]
            context=context,
            parameter_overrides=parameters(checkpoint="scripted", graph__capture_timeout_s=0.1),
        )
        with spinning(context, rig.around, rig.node, rig.user):
            _, result = rig.perform()
            assert "observer/capture" in result.message


def set_walk(rig: Rig, **values: Any) -> str:
    """As `ros2 param set /policy …` does it; returns why it was refused, an empty sentence where it was not."""
    request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters(**values)])
    return "; ".join(r.reason for r in rig.call(SetParameters, "set_parameters", request).results if not r.successful)


def test_the_walk_is_switched_while_the_node_runs_and_every_decision_says_which_it_took(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WalkingPolicy, "has_pruner", True)
    _, result = rig.perform(max_keyposes=1)
    assert [(m.sampler, m.pruned, m.fell_back) for m in result.telemetry] == [("ddim", 0.0, False)]
    assert set_walk(rig, sampler="sag") == ""
    pictures = PruningPictures(rig.user)
    eventually(lambda: rig.node.count_subscribers("/policy/pruning") == 1)
    _, result = rig.perform()
    assert result.success
    assert {(m.sampler, m.pruned) for m in result.telemetry} == {("sag", 0.75)}
    record = record_from_message(result.telemetry[0])
    assert (record.sampler, record.pruned, record.fell_back, record.steps) == ("sag", 0.75, False, 10)
    row = MaskRow("decision 1", MASK, ("0.attention", "0.mlp"))
    eventually(lambda: pictures.stacked() is not None)
    stacked, expected = pictures.stacked(), np.asarray(draw_masks([row]))
    assert stacked is not None
    np.testing.assert_array_equal(stacked[: len(expected)], expected)


def test_a_walk_that_the_policy_does_not_have_is_refused_in_one_sentence_and_changes_nothing(rig: Rig) -> None:
    eventually(lambda: rig.node.is_active)
    assert "no pruner for this policy" in set_walk(rig, sampler="sag")
    assert "one of auto, ddim, ddpm, sag" in set_walk(rig, sampler="euler")
    assert set_walk(rig, steps=-1) != ""
    assert set_walk(rig, fallback="maybe") != ""
    assert rig.node.get_parameter("sampler").value == "auto"
    assert rig.perform()[1].success


def test_a_checkpoint_without_what_the_parameters_ask_for_is_not_loaded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WalkingPolicy, "has_pruner", True)
    eventually(lambda: rig.node.is_active)
    assert set_walk(rig, sampler="sag") == ""
    monkeypatch.setattr(WalkingPolicy, "has_pruner", False)
    answer = rig.call(LoadCheckpoint, "load_checkpoint", LoadCheckpoint.Request(path="another"))
    assert not answer.success
    assert "no pruner" in answer.message


@pytest.mark.parametrize("checkpoint", ["", "/nowhere/at/all"])
def test_without_a_checkpoint_the_node_ends_with_a_sentence(checkpoint: str) -> None:
    pytest.importorskip("minidiffuser_ros.policy.policy")
    with ros_context() as context:
        node = PolicyNode(context=context, parameter_overrides=parameters(checkpoint=checkpoint))
        with spinning(context, node):
            eventually(node.ended.is_set, 30.0)
            assert node.exit_code == 2
            assert "checkpoint" in node.stop_reason
            assert checkpoint in node.stop_reason


def test_the_shipped_parameter_file_sets_only_what_the_node_knows() -> None:
    check_parameter_file(CONFIG / "policy.yaml", {"policy": parameter_names(PolicySettings())})
