"""Laws of Push-T: the field, what is foreseen of it, ways around the block, planner and demonstrations."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.simulation.push_t import (
    AGENT_RADIUS,
    FIELD,
    GOAL_POSE,
    MAX_STEPS,
    PushT,
    Snapshot,
    corners_at,
)
from minidiffuser_ros.simulation.push_t_demonstrations import (
    FIRST_SEED,
    DisturbanceSettings,
    PushTDemonstration,
    demonstrate,
    file_of,
)
from minidiffuser_ros.simulation.push_t_model import BOXES, GOAL, Poses, distance_to_goal, overhang, push
from minidiffuser_ros.simulation.push_t_planner import PlannerSettings, PushTPlanner, paced
from minidiffuser_ros.simulation.push_t_routes import STARTS, distances, route
from minidiffuser_ros.simulation.push_t_view import PushTView
from minidiffuser_ros.training.sequence_data import load_sequences

pytest.importorskip("gym_pusht", reason="Push-T needs gym-pusht")
SEED, VIEW = 300_000, PushTView()


@pytest.fixture(scope="module")
def field() -> PushT:
    return PushT()


def at_rest(agent: tuple[float, float], pose: tuple[float, float, float]) -> Snapshot:
    return Snapshot(agent, (0.0, 0.0), pose[:2], pose[2], (0.0, 0.0), 0.0, 0)


def clearance(points: np.ndarray) -> np.ndarray:
    """Distance of points of the block's frame, complex, from the block."""
    gaps = []
    for left, bottom, right, top in BOXES:
        near = np.clip(points.real, left, right) + 1j * np.clip(points.imag, bottom, top)
        gaps.append(np.abs(points - near))
    return np.minimum(*gaps)


def test_a_seed_is_a_scene(field: PushT) -> None:
    first, other, again = field.reset(SEED), field.reset(SEED + 1), PushT().reset(SEED)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_restored_field_repeats_itself_to_the_last_bit(field: PushT) -> None:
    field.restore(at_rest((190.0, 300.0), (256.0, 256.0, 0.4)))
    for step in range(6):  # the snapshot is taken in the middle of a push
        field.step((190.0 + 10.0 * step, 300.0))
    snapshot, other = field.snapshot(), PushT()
    ways = []
    for one in (field, other, field):
        one.restore(snapshot)
        ways.append([one.step((250.0 + 5.0 * step, 300.0)) for step in range(10)])
    np.testing.assert_array_equal(ways[0], ways[1])
    np.testing.assert_array_equal(ways[0], ways[2])
    assert np.abs(ways[0][0][2:4] - ways[0][-1][2:4]).max() > 5.0


def test_a_field_restored_while_nothing_touches_goes_on_as_the_first_one(field: PushT) -> None:
    field.reset(SEED)
    field.restore(at_rest((150.0, 300.0), (256.0, 256.0, 0.4)))
    field.step((160.0, 300.0))
    snapshot, other = field.snapshot(), PushT()
    other.restore(snapshot)
    for step in range(12):
        np.testing.assert_allclose(
            field.step((170.0 + 8.0 * step, 300.0)), other.step((170.0 + 8.0 * step, 300.0)), atol=1e-6
        )
    assert field.steps == other.steps == 13


def test_a_field_restored_in_the_middle_of_a_push_goes_on_nearly_as_the_first_one(field: PushT) -> None:
    random, other, gaps = np.random.default_rng(2), PushT(), []
    for _ in range(8):
        direction = np.exp(1j * random.uniform(0.0, 2 * np.pi))
        ways = 256.0 + 300.0j + direction * np.arange(-110.0, 0.0, 9.0)  # the middle of the block is at its end
        field.restore(at_rest((ways[0].real, ways[0].imag), (256.0, 256.0, 0.0)))
        for place in ways[:8]:
            field.step((place.real, place.imag))
        other.restore(field.snapshot())
        for place in ways[8:]:
            gaps.append(np.abs(field.step((place.real, place.imag)) - other.step((place.real, place.imag)))[:4].max())
    assert max(gaps) < 0.5
    assert np.median(gaps) < 0.05


def test_a_block_on_its_mark_is_success(field: PushT) -> None:
    field.restore(at_rest((50.0, 50.0), GOAL_POSE))
    assert field.coverage == pytest.approx(1.0)
    assert field.success
    field.restore(at_rest((50.0, 50.0), (GOAL_POSE[0] + 20.0, *GOAL_POSE[1:])))
    assert not field.success
    assert 0.5 < field.coverage < 0.95


@pytest.mark.parametrize("action", [(-1.0, 5.0), (5.0, 513.0), (np.nan, 5.0), (1.0, 2.0, 3.0), 4.0])
def test_only_a_place_on_the_field_is_an_action(field: PushT, action: object) -> None:
    with pytest.raises(ConfigurationError, match="two numbers in"):
        field.step(action)


def test_without_gym_pusht_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "gym_pusht"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    with pytest.raises(ConfigurationError, match="pip install --no-deps gym-pusht"):
        PushT()


def test_corners_are_those_of_gym_pusht(field: PushT) -> None:
    state = field.reset(SEED)
    env = field._env
    np.testing.assert_allclose(corners_at(state[2:]), env.get_keypoints(env._block_shapes), atol=1e-9)
    assert complex(*corners_at(GOAL_POSE)[0]) == pytest.approx(complex(GOAL.onto_field(np.array(-60.0 + 0j))))


def test_what_a_policy_sees_does_not_jump_where_the_angle_wraps() -> None:
    before, after = (VIEW.see([100.0, 120.0, 250.0, 260.0, angle]) for angle in (2 * np.pi - 1e-6, 0.0))
    assert before.shape == (VIEW.num_features,)
    np.testing.assert_allclose(before, after, atol=1e-3)


def test_the_agent_as_the_block_sees_it_does_not_depend_on_where_both_are() -> None:
    corners = corners_at([50.0, 60.0, 1.3])
    seen = VIEW.see([[*corners[1], 50.0, 60.0, 1.3], [*corners_at(GOAL_POSE)[1], *GOAL_POSE]])
    np.testing.assert_allclose(seen[:, :2], [[60.0, 0.0]] * 2, atol=1e-9)
    np.testing.assert_allclose(seen[1, 2:6], [0.0, 0.0, 1.0, 0.0], atol=1e-9)  # there is nothing left to do


def test_an_action_is_told_the_same_wherever_agent_and_block_are_and_comes_back() -> None:
    random = np.random.default_rng(0)
    push, turn, shift = random.uniform(0.0, FIELD, (6, 2)), 0.7, np.array([30.0, -20.0])
    state = np.array([100.0, 120.0, 200.0, 210.0, 0.3])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = np.concatenate([rotation @ state[:2] + shift, rotation @ state[2:4] + shift, [state[4] + turn]])
    told = VIEW.into_frame(push, state)
    np.testing.assert_allclose(VIEW.into_frame(push @ rotation.T + shift, moved), told, atol=1e-9)
    np.testing.assert_allclose(VIEW.onto_field(told, state), push, atol=1e-9)
    np.testing.assert_allclose(VIEW.into_frame(state[None, :2], state), 0.0, atol=1e-9)


def test_pushes_are_foreseen_to_a_pixel(field: PushT) -> None:
    random = np.random.default_rng(0)
    gaps, moved = [], []
    for _ in range(12):
        pose = (256.0, 256.0, random.uniform(-3.0, 3.0))
        direction = np.exp(1j * random.uniform(0.0, 2 * np.pi))
        start = complex(*corners_at(pose).mean(0)) + complex(*random.normal(0.0, 15.0, 2)) - 110.0 * direction
        field.restore(at_rest((start.real, start.imag), pose))
        for target in [*(start + direction * np.arange(8.0, 100.0, 8.0)), *[start + direction * 100.0] * 8]:
            field.step((target.real, target.imag))
        end, begin = field.state[2:], Poses(np.array([complex(*pose[:2])]), np.array([pose[2]]))
        track = push(begin, np.array([start]), np.array([direction]), 100.0)
        foreseen = (track.place[-1, 0].real, track.place[-1, 0].imag, track.angle[-1, 0])
        gaps.append(np.linalg.norm(corners_at(foreseen) - corners_at(end), axis=-1).max())
        moved.append(np.linalg.norm(corners_at(pose) - corners_at(end), axis=-1).max())
    assert np.median(gaps) < 0.6
    assert max(gaps) < 2.5
    assert np.median(moved) > 20.0


def test_the_distance_to_the_goal_is_that_of_its_corners_and_grows_to_half_a_turn() -> None:
    shifted = Poses(GOAL.place + np.array([3.0, 4.0j]), GOAL.angle + np.zeros(2))
    np.testing.assert_allclose(distance_to_goal(shifted), [3.0, 4.0])
    # About the middle of the corners, so that nothing but the turn counts.
    turns = np.linspace(0.0, np.pi, 20)
    middle = corners_at(GOAL_POSE).mean(0)
    offset = np.exp(1j * turns) * (GOAL.place - complex(*middle)) + complex(*middle)
    found = distance_to_goal(Poses(offset, GOAL.angle + turns))
    assert (np.diff(found) > 1.0).all()


def test_what_hangs_over_the_edge_is_measured_from_the_outermost_corner() -> None:
    poses = Poses(np.array([256.0 + 256.0j, 50.0 + 256.0j]), np.zeros(2))
    np.testing.assert_allclose(overhang(poses, 9.0, FIELD), [0.0, 19.0])


def test_ways_to_pushes_go_around_the_block() -> None:
    random = np.random.default_rng(1)
    pose = Poses(np.array([256.0 + 256.0j]), np.array([0.7]))
    for _ in range(40):
        agent = complex(*random.uniform(20.0, FIELD - 20.0, 2))
        seen = complex(pose.into_block(np.array([agent]))[0])
        lengths = distances(np.array([seen]), pose)[0]
        for start in random.integers(len(STARTS), size=3):
            way = route(seen, int(start), pose)
            assert abs(way[0] - seen) < 1e-9
            assert abs(way[-1] - STARTS[start]) < 1e-9
            assert np.abs(np.diff(way)).sum() == pytest.approx(lengths[start])
            if clearance(np.array([seen]))[0] > AGENT_RADIUS + 8.0:
                assert clearance(paced(way, 1.0)).min() > AGENT_RADIUS + 3.0


def test_targets_along_a_way_keep_the_speed_and_arrive() -> None:
    way = np.array([0.0, 100.0, 100.0 + 60.0j])
    places = paced(way, 18.0)
    assert np.abs(np.diff(places)).max() <= 18.0 + 1e-9
    assert abs(places[-1] - way[-1]) < 0.5
    assert np.abs(np.diff(places))[-1] < 6.0


@pytest.fixture(scope="module")
def demonstration(field: PushT) -> PushTDemonstration:
    made = demonstrate(field, PushTPlanner(), SEED + 7)
    assert made is not None
    return made


def test_the_planner_covers_the_mark(demonstration: PushTDemonstration) -> None:
    assert len(demonstration.actions) < MAX_STEPS
    assert demonstration.coverage > 0.965
    last = Poses(np.array([complex(*demonstration.states[-1, 2:4])]), demonstration.states[-1:, 4].astype(float))
    assert distance_to_goal(last) < 4.0


def test_a_demonstration_replayed_goes_the_same_way(field: PushT, demonstration: PushTDemonstration) -> None:
    state = field.reset(demonstration.seed)
    for expected, action in zip(demonstration.states, demonstration.actions, strict=True):
        np.testing.assert_allclose(state, expected, atol=0.05)  # actions are kept in single precision
        state = field.step(action)
    assert field.coverage == pytest.approx(demonstration.coverage, abs=0.01)
    assert 0 < field.succeeded_after <= field.steps == len(demonstration.actions)


def test_scenes_near_the_mark_begin_there(field: PushT) -> None:
    made = demonstrate(field, PushTPlanner(), SEED + 3, near=True)
    assert made is not None
    begin = Poses(np.array([complex(*made.states[0, 2:4])]), made.states[:1, 4].astype(float))
    assert 0.0 < distance_to_goal(begin) < 80.0
    assert made.coverage > 0.965


def test_after_a_disturbance_the_planner_is_shown_from_where_it_led(field: PushT) -> None:
    planner, often = PushTPlanner(), DisturbanceSettings(count=2, plans=1)
    made, again = (demonstrate(field, planner, SEED + 7, often) for _ in range(2))
    assert made is not None
    assert again is not None
    np.testing.assert_array_equal(made.actions, again.actions)
    first, *rest = (slice(*ends) for ends in pairwise([*made.starts, len(made.states)]))
    assert len(rest) == 2
    before = made.states[first]
    for run in rest:
        states, actions = made.states[run], made.actions[run]
        assert np.abs(before - states[0]).max(-1).min() > 0.01  # no state of the first run
        assert np.linalg.norm(actions[0] - states[0, :2]) < 2.0 * PlannerSettings().travel_speed  # planned from there


def test_demonstrations_are_files_that_training_reads(tmp_path: Path) -> None:
    for number in range(2):
        states, actions = np.full((5, 5), number, np.float32), np.ones((5, 2), np.float32)
        made = PushTDemonstration(states, actions, np.array([0, 3]), FIRST_SEED + number, 0.97)
        made.save(file_of(tmp_path, FIRST_SEED + number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episode_00000.npz", "episode_00001.npz"]
    episodes = load_sequences(tmp_path)
    assert [(episode.states.shape, episode.starts) for episode in episodes] == [((5, 5), (0, 3))] * 2
