"""Laws of episodes of Push-T by a policy over action sequences."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from inference_push_t import PushTChoice, Reencoding, push_t_subject
from inference_tabletop import DDIM_STEPS, NAIVE, REFERENCE, steady

from minidiffuser_ros.contract.errors import SpecMismatchError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.evaluation.push_t import SequenceDecision, decide, play
from minidiffuser_ros.model.action_config import ActionTransformerConfig
from minidiffuser_ros.model.action_transformer import ActionTransformer
from minidiffuser_ros.policy.action_sequence import (
    ActionObservation,
    ActionPolicyConfig,
    ActionSequencePolicy,
    ValueRange,
)
from minidiffuser_ros.policy.pruned import PrunedWalks, is_sequence_policy
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.push_t import FIELD, GOAL_POSE, PushT, Snapshot
from minidiffuser_ros.simulation.push_t_view import PushTView

pytest.importorskip("gym_pusht", reason="Push-T needs gym-pusht")
SEED, VIEW = 300_000, PushTView()
SHIPPED = Path(__file__).parents[2] / "models" / "push_t"
STATES = np.array([[100.0, 120.0, 200.0, 210.0, angle] for angle in (0.3, 0.4)])


@pytest.fixture(scope="module")
def field() -> PushT:
    return PushT()


@pytest.fixture(scope="module")
def policy() -> ActionSequencePolicy:
    model = ActionTransformerConfig(state_dim=VIEW.num_features, action_dim=2, cameras=0, width=16, num_layers=2)
    told = ((-FIELD,) * 2, (FIELD,) * 2)
    seen = ((-FIELD,) * VIEW.num_features, (FIELD,) * VIEW.num_features)
    torch.manual_seed(0)
    config = ActionPolicyConfig(
        model, ValueRange(*told), ValueRange(*seen), sampler=SamplerConfig("ddim", 4, clip_sample=1.0),
        features="push_t",
    )  # fmt: skip
    return ActionSequencePolicy(config, ActionTransformer(model))


class Follower:
    """In the place of a policy: performs given targets on the field, eight at a look, and keeps what it was shown."""

    def __init__(self, actions: np.ndarray, like: ActionSequencePolicy) -> None:
        self.config, self.actions, self.shown = like.config, actions, list[np.ndarray]()

    def encode(self, observation: ActionObservation) -> int:
        assert observation.states is not None
        self.shown.append(observation.states)
        return 8 * (len(self.shown) - 1)

    def plan(self, condition: int) -> Walk:
        return Walk(self.config.sampler)

    def draw(self, condition: int, *rest: Any) -> np.ndarray:
        turned, agent, place = self.shown[-1][-1][4:6], self.shown[-1][-1][6:8], self.shown[-1][-1][8:10]
        state = [*agent, *place, GOAL_POSE[2] - np.arctan2(turned[1], turned[0])]
        return VIEW.into_frame(self.actions[condition : condition + 8], state)[None]

    def first_actions(self, sequence: np.ndarray) -> np.ndarray:
        return sequence


def test_equal_seeds_give_equal_episodes(field: PushT, policy: ActionSequencePolicy) -> None:
    seen: list[list[SequenceDecision]] = [[], [], []]
    ends = [
        play(field, policy, seed, kept.append, max_steps=20)
        for seed, kept in zip((SEED, SEED, SEED + 1), seen, strict=True)
    ]
    assert ends[0] == ends[1]
    assert [len(kept) for kept in seen] == [3, 3, 3]  # after 8, 16 and at most 20 steps
    for one, other in zip(seen[0], seen[1], strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
    assert not np.allclose(seen[0][0].actions, seen[2][0].actions)


def test_a_decision_is_what_the_policy_would_do(policy: ActionSequencePolicy) -> None:
    decision = decide(policy, STATES, 5)
    told = policy.act(ActionObservation(VIEW.see(STATES)), 5)
    np.testing.assert_allclose(VIEW.into_frame(decision.actions, STATES[-1]), told, atol=1e-9)
    assert decision.actions.shape == (8, 2)
    assert min(decision.encode_ms, decision.denoise_ms) > 0.0
    assert decision.pruned == 0.0


def test_the_policy_sees_the_last_two_states_and_the_first_one_twice(
    field: PushT, policy: ActionSequencePolicy
) -> None:
    actions = np.stack([np.linspace(150.0, 190.0, 16), np.full(16, 60.0)], axis=-1)
    follower: Any = Follower(actions, policy)
    end = play(field, follower, SEED, max_steps=16)
    states = [field.reset(SEED), *(field.step(action) for action in actions)]
    assert end.steps == 16
    np.testing.assert_array_equal(follower.shown[0], VIEW.see(np.stack([states[0], states[0]])))
    np.testing.assert_allclose(follower.shown[1], VIEW.see(np.stack([states[7], states[8]])), atol=1e-6)


def test_an_episode_ends_with_success_and_keeps_the_most_that_was_covered(
    monkeypatch: pytest.MonkeyPatch, policy: ActionSequencePolicy
) -> None:
    field = PushT()
    field.reset(SEED)
    # The block lies 30 px beyond its mark in the direction of its stem; the agent pushes it back, and would farther.
    stem, goal = complex(-1.0, 1.0) / 2**0.5, complex(*GOAL_POSE[:2])
    places = goal + stem * np.linspace(180.0, 110.0, 60)
    moved, agent = goal + 30.0 * stem, places[0]
    field.restore(
        Snapshot((agent.real, agent.imag), (0.0, 0.0), (moved.real, moved.imag), GOAL_POSE[2], (0.0, 0.0), 0.0, 0)
    )
    start = field.state
    monkeypatch.setattr(field, "reset", lambda seed: start)
    follower: Any = Follower(np.stack([places.real, places.imag], axis=-1), policy)
    end = play(field, follower, SEED, max_steps=60)
    assert end.success
    assert end.coverage == field.coverage > 0.95
    assert 10 < end.steps < 60
    idle: Any = Follower(places, policy)
    assert play(field, idle, SEED).success
    assert not idle.shown  # what lies there already needs no decision


def test_a_policy_of_another_task_is_refused(field: PushT) -> None:
    model = SimpleNamespace(state_dim=5, cameras=1)
    other: Any = SimpleNamespace(config=SimpleNamespace(features="none", model=model))
    with pytest.raises(SpecMismatchError, match="sees 'none', 5 numbers and 1 cameras, Push-T shows 'push_t' and 25"):
        play(field, other, SEED)


def test_walks_that_encode_again_at_each_step_answer_the_same(policy: ActionSequencePolicy) -> None:
    before, encode, calls = policy.plan, policy.network.encode, list[object]()

    def counted(inputs: Any) -> Any:
        calls.append(inputs)
        return encode(inputs)

    try:
        policy.plan = steady(Walk(SamplerConfig("ddpm", 100, policy.config.sampler.clip_sample)))
        expected = decide(policy, STATES, 5)
        policy.network.encode = counted
        policy.plan = Reencoding(policy)
        np.testing.assert_array_equal(decide(policy, STATES, 5).actions, expected.actions)
    finally:
        policy.plan, policy.network.encode = before, encode
    assert len(calls) == 1 + 100


def test_the_comparison_plays_push_t_with_every_method(tmp_path: Path, policy: ActionSequencePolicy) -> None:
    policy.save(tmp_path / "mine")
    assert is_sequence_policy(tmp_path / "mine")
    assert not is_sequence_policy(tmp_path)
    subject = push_t_subject(tmp_path / "mine", [], "cpu", PushTChoice(episodes=3, seed=None, calibration=1))
    assert list(subject.scenes) == [100_000, 100_001, 100_002]
    assert {REFERENCE, NAIVE, "uniform-7", "bac-10-5", "random-91", *(f"ddim-{n}" for n in DDIM_STEPS)} <= set(
        subject.methods
    )
    played = subject.play("ddim-1", 100_000)
    assert len(played.denoise_ms) == len(played.pruned) == 38  # 300 steps, eight a decision
    assert played.score is not None
    assert 0.0 <= played.score <= 1.0


@pytest.mark.slow
def test_the_shipped_policy_brings_the_block_home_with_nine_tenths_of_its_walk_pruned(field: PushT) -> None:
    shipped = ActionSequencePolicy.load(SHIPPED)
    shipped.plan = PrunedWalks.load(SHIPPED, shipped).walk
    seen: list[SequenceDecision] = []
    covered = [play(field, shipped, 150_000 + index, seen.append).coverage for index in range(2)]
    assert sum(covered) > 1.5, covered
    assert all(abs(decision.pruned - 0.91) < 0.016 for decision in seen)
