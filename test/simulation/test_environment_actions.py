"""What an action says is done, or refused in one sentence: keyposes, and small steps of the tool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, rotation
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.environment import TabletopEnvironment
from minidiffuser_ros.simulation.environment_actions import DELTA_M, DELTA_RAD, DeltaControl, action_of
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS

USED = ("push_button", "stack_pair")
HOVERING = action_of(down(0.5, 0.0, 0.3, OPEN))
NO_MOTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, OPEN])


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnvironment]:
    env = TabletopEnvironment(USED)
    yield env
    env.close()


@pytest.fixture(scope="module")
def delta() -> Iterator[TabletopEnvironment]:
    env = TabletopEnvironment(USED, control="delta")
    yield env
    env.close()


def test_small_steps_have_their_own_allowance(delta: TabletopEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeltaControl, "steps_per_keypose", 1)
    delta.reset(seed=0, options={"task": "push_button"})
    truncated = [delta.step(NO_MOTION)[3] for _ in range(TASKS["push_button"].max_keyposes)]
    assert truncated == [False] * (len(truncated) - 1) + [True]


def test_a_gripper_that_closes_on_nothing_has_missed_where_there_is_something_to_grasp(
    env: TabletopEnvironment, delta: TabletopEnvironment
) -> None:
    closing = action_of(down(0.5, 0.0, 0.3, CLOSED))
    failures = []
    for task in ("stack_pair", "push_button"):
        env.reset(seed=0, options={"task": task})
        failures += [env.step(action)[4]["failure"] for action in (HOVERING, closing, HOVERING)]
    assert failures == ["", "missed grasp", "", "", "", ""]
    delta.reset(seed=0, options={"task": "stack_pair"})
    failures = [delta.step(NO_MOTION * 0.0)[4]["failure"] for _ in range(4)]
    assert failures == [""] * failures.count("") + ["missed grasp"] * (4 - failures.count(""))
    assert failures[0] != failures[-1]


@pytest.mark.parametrize(
    ("control", "action", "words"),
    [
        ("keypose", [0.5, 0.0, 0.3], r"8 finite numbers \(position x y z in m, quaternion w x y z, opening\)"),
        ("keypose", [0.5, 0.0, np.nan, *POINTING_DOWN_WXYZ, 1.0], "8 finite numbers"),
        ("keypose", "up", "an action must be numbers, got 'up'"),
        ("keypose", [0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 1.0], "must not be zero"),
        ("keypose", [0.5, 0.0, 0.3, *POINTING_DOWN_WXYZ, 1.2], r"opening must lie in \[0, 1\], got 1.2"),
        ("delta", [0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], "at most 0.02 m and 0.1 rad .*ClipAction"),
        ("delta", [0.0, 0.0, 0.0, 0.0, -0.2, 0.0, 1.0], "at most 0.02 m and 0.1 rad"),
    ],
)
def test_what_is_no_action_is_refused_in_one_sentence(
    env: TabletopEnvironment, delta: TabletopEnvironment, control: str, action: Any, words: str
) -> None:
    chosen = env if control == "keypose" else delta
    chosen.reset(seed=0, options={"task": "push_button"})
    with pytest.raises(ConfigurationError, match=words):
        chosen.step(action)
    assert chosen.step(HOVERING if control == "keypose" else NO_MOTION)[4]["failure"] == ""


def test_a_quaternion_of_any_length_and_single_precision_at_the_bounds_are_understood(
    env: TabletopEnvironment,
) -> None:
    env.reset(seed=0, options={"task": "push_button"})
    *_, info = env.step([0.5, 0.4, 0.3, 0.0, -0.3, 0.0, 0.0, 1.0])
    assert info["failure"] == ""
    np.testing.assert_allclose(env.world.arm.tool_transform[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=5e-3)
    *_, info = env.step(np.float32([0.5, 0.4, 0.2, 0.0, 1.0, 0.0, 0.0, 1.0]))  # 0.4 is above 0.4 there
    assert info["failure"] == ""


def test_a_small_step_moves_the_tool_by_what_was_asked(delta: TabletopEnvironment) -> None:
    delta.reset(seed=0, options={"task": "push_button"})
    for _ in range(3):
        delta.step([0.02, 0.0, -0.02, 0.0, 0.0, 0.0, 1.0])
    start = delta.step(NO_MOTION)[0]["tool_pose"]
    delta.step([-0.01, 0.02, -0.005, 0.0, 0.1, -0.05, 1.0])
    end = delta.step(NO_MOTION)[0]["tool_pose"]
    np.testing.assert_allclose(end[:3] - start[:3], [-0.01, 0.02, -0.005], atol=0.001)
    turn = (rotation(end[3:]) * rotation(start[3:]).inv()).as_rotvec()
    np.testing.assert_allclose(turn, [0.0, 0.1, -0.05], atol=0.01)


def follow(env: TabletopEnvironment, keypose: Keypose, opening: float) -> Iterator[tuple[Any, ...]]:
    """Small steps to a keypose, judged by where the tool is seen, then two for the gripper."""
    for _ in range(60):
        position, quat = pose_of(env.world.arm.tool_transform)
        distance, degrees = keypose.distance_to(position, quat)
        if distance < 0.002 and degrees < 1.0:
            break
        turn = (rotation(keypose.quat_wxyz) * rotation(quat).inv()).as_rotvec()
        move = np.clip(keypose.position - position, -DELTA_M, DELTA_M)
        yield env.step([*move, *np.clip(turn, -DELTA_RAD, DELTA_RAD), opening])
    for _ in range(2):
        yield env.step([*[0.0] * 6, keypose.opening])


@pytest.mark.parametrize("task", USED)
def test_the_expert_followed_in_small_steps_succeeds_in_half_the_steps_allowed(
    delta: TabletopEnvironment, task: str
) -> None:
    delta.reset(seed=100_001, options={"task": task})
    steps, opening, terminated = 0, OPEN, False
    for keypose in delta.world.expert():
        for _, _, terminated, _, info in follow(delta, keypose, opening):
            steps += 1
            assert info["failure"] == ""
            if terminated:
                break
        opening = keypose.opening
        if terminated:
            break
    assert terminated
    assert steps < 0.5 * TASKS[task].max_keyposes * DeltaControl.steps_per_keypose


def test_a_blocked_arm_is_not_pushed_ever_harder(delta: TabletopEnvironment) -> None:
    delta.reset(seed=0, options={"task": "push_button"})
    x, y, _ = delta.world.stage.position(BUTTONS[0])
    for height in (0.1, 0.015):
        delta.world.execute(down(x - 0.08, y, height, CLOSED))
    arm = delta.world.arm
    for _ in range(12):
        *_, info = delta.step([0.02, 0.0, 0.0, 0.0, 0.0, 0.0, CLOSED])
    asked, reached = arm.commanded_tool[:3, 3], arm.tool_transform[:3, 3]
    assert info["failure"] == ""
    assert reached[0] < x - 0.02  # the base of the button stands in the way
    assert 0.02 < asked[0] - reached[0] < 0.06
    delta.step([-0.02, 0.0, 0.0, 0.0, 0.0, 0.0, CLOSED])
    np.testing.assert_allclose(arm.commanded_tool[:3, 3], asked - [0.02, 0.0, 0.0], atol=1e-4)
