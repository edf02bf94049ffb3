"""The gymnasium environment is the table: same scenes, same pictures, same rules, and it says what went wrong."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from minidiffuser_ros.contract.errors import ConfigurationError, MinidiffuserError, UnknownTaskError
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.simulation.environment import TabletopEnvironment
from minidiffuser_ros.simulation.environment_actions import action_of
from minidiffuser_ros.simulation.environment_observations import observation_of
from minidiffuser_ros.simulation.registration import ENVIRONMENT_ID
from minidiffuser_ros.simulation.shifts import SPLITS
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.tasks.base import CLOSED, FINGERTIP_BELOW_TOOL, OPEN, down
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS, HOVER, PRESS

WHOLE_NAME = f"minidiffuser_ros.simulation.environment:{ENVIRONMENT_ID}"
HOVERING = action_of(down(0.5, 0.0, 0.3, OPEN))
BEYOND_REACH = action_of(down(0.75, 0.4, 0.5, OPEN))
NO_MOTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, OPEN])
NOTHING_ELSE = {"joint_positions", "opening", "tool_pose", "instruction"}


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnvironment]:
    env = TabletopEnvironment()
    yield env
    env.close()


def same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert set(first) == set(second)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


def digest(values: dict[str, Any]) -> str:
    """Of all bytes of an observation."""
    parts = [value.encode() if isinstance(value, str) else value.tobytes() for value in values.values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def played(control: str, actions: np.ndarray) -> list[str]:
    """Digests of one short episode in an environment of its own."""
    env = TabletopEnvironment("stack_pair", control=control)
    digests = [digest(env.reset(seed=5)[0])] + [digest(env.step(action)[0]) for action in actions]
    env.close()
    return digests


@pytest.mark.parametrize("control", ["keypose", "delta"])
def test_gymnasiums_checker_has_no_complaint_but_that_metres_are_not_normalised(control: str) -> None:
    env = gymnasium.make(WHOLE_NAME, control=control, tasks="push_button")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    complaints = [str(warning.message) for warning in caught if "symmetric and normalized" not in str(warning.message)]
    assert complaints == []


def test_the_name_is_registered_without_loading_mujoco() -> None:
    program = (
        "import sys\n"
        "from minidiffuser_ros.simulation.registration import ENVIRONMENT_ID, register\n"
        "assert 'gymnasium' not in sys.modules\n"
        "register(), register()\n"
        "import gymnasium\n"
        "assert ENVIRONMENT_ID in gymnasium.registry\n"
        "assert 'mujoco' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], check=True, timeout=60)


def test_there_is_nothing_in_the_observation_but_what_a_robot_has(env: TabletopEnvironment) -> None:
    values, _ = env.reset(seed=0)
    images = {f"{c}_{k}" for c in ("front", "wrist") for k in ("color", "depth", "intrinsics", "extrinsics")}
    assert set(values) == set(env.observation_space) == images | NOTHING_ELSE
    assert values in env.observation_space


def test_every_sentence_there_is_fits_into_the_space(env: TabletopEnvironment) -> None:
    space = env.observation_space["instruction"]
    for task in TASKS.values():
        for variation in range(task.num_variations):
            made = task()
            made.variation = variation
            for sentence in (*made.instructions(), *made.held_out_instructions()):
                assert sentence in space, sentence


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_is_the_scene_of_the_table(env: TabletopEnvironment, world: Tabletop, task: str) -> None:
    values, info = env.reset(seed=200_123, options={"task": task})
    assert values["instruction"] == world.reset(task, 200_123)
    assert (info["seed"], info["task"], info["variation"]) == (200_123, task, world.task.variation)
    for view in world.views():
        np.testing.assert_array_equal(values[f"{view.name}_color"], view.color)


def test_without_a_seed_a_training_scene_is_drawn_that_its_seed_makes_again(env: TabletopEnvironment) -> None:
    env.reset(seed=300_000)
    drawn = [env.reset() for _ in range(3)]
    seeds = [info["seed"] for _, info in drawn]
    assert len(set(seeds)) == 3
    assert all(seed in SPLITS["training"] for seed in seeds)
    for values, info in drawn:
        again, known = env.reset(seed=info["seed"])
        same(again, values)
        assert known == info


def test_the_seed_draws_the_task_and_options_choose_it(env: TabletopEnvironment) -> None:
    tasks = {env.reset(seed=seed)[1]["task"] for seed in range(8)}
    assert len(tasks) > 1
    info = env.reset(seed=0, options={"task": "push_button", "variation": 3, "shift": "looks"})[1]
    assert (info["task"], info["variation"], info["shift"]) == ("push_button", 3, "looks")


def test_a_shift_changes_what_is_seen_and_the_calibration_follows(env: TabletopEnvironment) -> None:
    plain = env.reset(seed=1, options={"task": "stack_pair"})[0]
    moved = env.reset(seed=1, options={"task": "stack_pair", "shift": "camera"})[0]
    assert not np.array_equal(plain["front_color"], moved["front_color"])
    assert not np.array_equal(plain["front_extrinsics"], moved["front_extrinsics"])
    np.testing.assert_array_equal(plain["wrist_extrinsics"], moved["wrist_extrinsics"])


@pytest.mark.parametrize(
    ("seed", "options", "error", "words"),
    [
        (None, {"task": "pour_water"}, UnknownTaskError, "no task 'pour_water'; it has .*push_button"),
        (None, {"task": "push_button", "variation": 5}, UnknownTaskError, "variations 0 to 4, got 5"),
        (None, {"variation": "red"}, ConfigurationError, "whole number or None for any, got 'red'"),
        (None, {"shift": "fog"}, ConfigurationError, "no shift 'fog'; choose one of none, "),
        (None, {"colour": "red"}, ConfigurationError, r"task, variation, shift, got \['colour'\]"),
        (None, ["task"], ConfigurationError, "the options of a reset are"),
        (2**31, None, ConfigurationError, "seeds lie between 0 and"),
        (-1, None, ConfigurationError, "seeds lie between 0 and"),
    ],
)
def test_a_bad_reset_is_one_sentence_and_the_episode_goes_on(
    env: TabletopEnvironment, seed: int | None, options: Any, error: type[Exception], words: str
) -> None:
    before, info = env.reset(seed=4)
    with pytest.raises(error, match=words) as caught:
        env.reset(seed=seed, options=options)
    assert "\n" not in str(caught.value)
    after, _, _, _, told = env.step(BEYOND_REACH)  # nothing moves
    same(after, before)
    assert told["seed"] == info["seed"]


@pytest.mark.parametrize("control", ["keypose", "delta"])
def test_the_same_seed_and_actions_give_the_same_bytes_in_another_process(control: str) -> None:
    one = HOVERING if control == "keypose" else np.array([0.02, -0.01, -0.02, 0.0, 0.05, 0.1, 0.5])
    here = played(control, np.array([one, one]))
    program = f"from test_environment import *; print(*played({control!r}, np.array([{one.tolist()}] * 2)))"
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=100
    )
    assert there.stdout.split() == here, there.stderr
    assert len(set(here)) == 3


def test_environments_in_one_process_leave_each_other_alone(env: TabletopEnvironment) -> None:
    before = env.reset(seed=6)[0]
    other = TabletopEnvironment("push_button", render_mode="rgb_array", render_camera="front", render_size=(64, 48))
    other.reset(seed=7)
    other.step(HOVERING)
    other.render()
    other.close()
    other.close()
    same(env.step(BEYOND_REACH)[0], before)
    same(env.reset(seed=6)[0], before)
    with pytest.raises(ResetNeeded, match="call reset first"):
        other.step(HOVERING)
    same(other.reset(seed=7)[0], other.reset(seed=7)[0])  # and a reset opens it again
    other.close()


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds_through_the_environment(env: TabletopEnvironment, task: str) -> None:
    env.reset(seed=100_000, options={"task": task})
    for keypose in env.world.expert():
        _, reward, terminated, truncated, info = env.step(action_of(keypose))
        assert (reward, info["success"]) == (float(terminated), terminated)
        assert not truncated
        if terminated:
            break
    assert terminated
    assert info["failure"] == ""
    with pytest.raises(ResetNeeded):
        env.step(HOVERING)


@pytest.mark.parametrize("shift", ["none", "camera"])
def test_the_policys_observation_comes_back_bit_for_bit(env: TabletopEnvironment, shift: str) -> None:
    values, info = env.reset(seed=9, options={"task": "stack_pair", "shift": shift})
    for keypose in [*env.world.expert()][:2]:
        again, true = observation_of(values, info["stamp_ns"]), env.world.observe()
        for field in dataclasses.fields(Observation):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(true, field.name), err_msg=field.name)
        values, _, _, _, info = env.step(action_of(keypose))


def test_an_episode_is_cut_off_after_the_keyposes_of_its_task(env: TabletopEnvironment) -> None:
    env.reset(seed=0, options={"task": "push_button"})
    endings = [env.step(HOVERING)[1:] for _ in range(TASKS["push_button"].max_keyposes)]
    assert [(reward, terminated) for reward, terminated, _, _ in endings] == [(0.0, False)] * len(endings)
    assert [truncated for _, _, truncated, _ in endings] == [False] * (len(endings) - 1) + [True]
    assert [info["failure"] for *_, info in endings] == [""] * (len(endings) - 1) + ["timeout"]


def test_an_unreachable_keypose_costs_a_step_and_moves_nothing(env: TabletopEnvironment) -> None:
    before, info = env.reset(seed=0, options={"task": "push_button"})
    for _ in range(2):
        values, _, _, _, info = env.step(BEYOND_REACH)
        assert info["failure"] == "unreachable"
        assert "cannot reach" in info["reason"]
        same(values, before)
    assert info["stamp_ns"] == 0
    *_, info = env.step(action_of(down(0.9, 0.0, 0.3, OPEN)))
    assert "outside the workspace: x = 0.900 m" in info["reason"]


def test_a_wrong_object_is_called_so(env: TabletopEnvironment) -> None:
    env.reset(seed=0, options={"task": "push_button"})
    x, y, _ = env.world.stage.position(BUTTONS[1])
    env.step(action_of(down(x, y, BUTTON_CAP_TOP + HOVER, CLOSED)))
    *_, info = env.step(action_of(down(x, y, BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL + PRESS, CLOSED)))
    assert info["failure"] == "wrong object"


def test_pictures_for_people_are_the_cameras_side_by_side_or_one_of_them_in_any_size() -> None:
    both = TabletopEnvironment("push_button", render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match="call reset first"):
        both.render()
    values, _ = both.reset(seed=0)
    np.testing.assert_array_equal(both.render(), np.hstack([values["front_color"], values["wrist_color"]]))
    values["front_color"][:] = 0  # whoever got it may change it
    picture = both.render()
    assert picture is not None
    assert picture[:, :424].any()
    both.close()
    one = TabletopEnvironment("push_button", render_mode="rgb_array", render_camera="front", render_size=(848, 480))
    one.reset(seed=0)
    large = one.render()
    assert large is not None
    assert large.shape == (480, 848, 3)
    halved = large.reshape(240, 2, 424, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - picture[:, :424]).mean() < 2.0
    one.close()
    none = TabletopEnvironment("push_button")
    none.reset(seed=0)
    assert none.render() is None
    none.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tasks": "pour_water"}, "no task 'pour_water'; choose one of"),
        ({"tasks": []}, "at least one task"),
        ({"control": "torque"}, "no control 'torque'; choose one of keypose, delta"),
        ({"shift": "fog"}, "no shift 'fog'"),
        ({"tasks": "push_button", "shift": "combinations"}, "holds no variation back"),
        ({"render_mode": "human"}, "no render mode 'human'; choose rgb_array or None"),
        ({"render_camera": "left"}, "no camera 'left'; choose one of front, wrist"),
        ({"render_size": (4000, 3000)}, r"up to \(1280, 960\) pixels, got \(4000, 3000\)"),
        ({"render_size": (640,)}, "a width and a height"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(MinidiffuserError, match=words):
        TabletopEnvironment(**arguments)


@pytest.mark.parametrize("kind", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_vectors_of_environments_are_those_environments(env: TabletopEnvironment, kind: str) -> None:
    makers = [functools.partial(gymnasium.make, WHOLE_NAME, tasks="stack_pair")] * 2
    vector = SyncVectorEnv(makers) if kind == "sync" else AsyncVectorEnv(makers, context="spawn")
    try:
        values, infos = vector.reset(seed=[20, 21])
        _, rewards, *_, told = vector.step(np.stack([HOVERING, BEYOND_REACH]))
    finally:
        vector.close()
    assert values["front_depth"].shape == (2, 240, 424)
    assert infos["seed"].tolist() == [20, 21]
    assert list(told["failure"]) == ["", "unreachable"]
    assert rewards.tolist() == [0.0, 0.0]
    for index in range(2):
        alone = env.reset(seed=20 + index, options={"task": "stack_pair"})[0]
        same({key: value[index] for key, value in values.items()}, alone)


def test_a_vector_goes_on_with_a_fresh_training_scene() -> None:
    vector = SyncVectorEnv([functools.partial(TabletopEnvironment, "push_button")])
    vector.reset(seed=[200_000])
    for keypose in vector.envs[0].unwrapped.world.expert():
        _, _, terminated, *_ = vector.step(action_of(keypose)[None])
    assert terminated.tolist() == [True]
    *_, info = vector.step(HOVERING[None])
    vector.close()
    assert info["seed"][0] in SPLITS["training"]
    assert not info["success"][0]


def test_the_example_of_the_document_runs_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    document = Path(__file__).parents[2] / "docs" / "simulation.md"
    example = re.search(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    assert example is not None
    exec(example.group(1), {})
    assert capsys.readouterr().out.splitlines()[-1] == "1.0 True no failure"
