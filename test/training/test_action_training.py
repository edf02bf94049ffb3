"""Training over action sequences: the windows it sees, exact resume, whole files, and the commands around it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minidiffuser_ros.cli import train_actions
from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError, EpisodeError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.model.action_config import ActionTransformerConfig
from minidiffuser_ros.policy.action_sequence import ActionObservation, ActionPolicyConfig, ActionSequencePolicy
from minidiffuser_ros.policy.pruned import PrunedWalks, load_any_policy
from minidiffuser_ros.simulation.push_t_view import PushTView
from minidiffuser_ros.training.action_loop import ActionTrainer, ActionTrainingConfig
from minidiffuser_ros.training.action_loop import train_actions as train
from minidiffuser_ros.training.sequence_data import (
    SequenceEpisode,
    SequenceSet,
    load_sequences,
    named_view,
    split_sequences,
)
from minidiffuser_ros.training.sequence_policy import new_sequence_policy

CONFIG = ActionTrainingConfig(
    steps=6, batch_size=4, num_samples=2, warmup_steps=2, checkpoint_every=3, validate_every=3, held_out=8
)


def episode(seed: int, steps: int = 12) -> SequenceEpisode:
    """Straight to a place that the state tells."""
    rng = np.random.default_rng(seed)
    start, goal = rng.uniform(50, 450, (2, 2))
    places = start + (goal - start) * np.linspace(0, 1, steps)[:, None]
    states = np.concatenate([places, np.tile(goal, (steps, 1))], axis=1)
    return SequenceEpisode(states.astype(np.float32), (places + (goal - start) / steps).astype(np.float32))


EPISODES = [episode(seed) for seed in range(5)]


def small_policy(**changes: object) -> ActionPolicyConfig:
    made = new_sequence_policy(EPISODES, "action_transformer_small", "sample")
    assert isinstance(made.model, ActionTransformerConfig)
    values = {"width": 16, "num_layers": 2, "horizon": 6, "dropout": 0.1, **changes}
    return replace(made, action_steps=1, model=replace(made.model, **values), sampler=SamplerConfig("ddpm", 5, 1.0))


def trainer(config: ActionTrainingConfig = CONFIG, episodes: list[SequenceEpisode] = EPISODES) -> ActionTrainer:
    policy = small_policy()
    return ActionTrainer(config, policy, SequenceSet(episodes, policy))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, one in enumerate(EPISODES):
        np.savez(
            tmp_path / f"episode_{index:05d}.npz", states=one.states, actions=one.actions, seed=index, coverage=1.0
        )
    return tmp_path


def test_a_window_ends_at_its_step_and_its_actions_begin_at_the_oldest_state_it_shows() -> None:
    config = small_policy(obs_steps=3)
    data, first = SequenceSet(EPISODES[:2], config), EPISODES[0]
    assert len(data) == 24
    whole = data.batch([5])
    states = config.states.denormalise(whole.inputs.states[0].double()).numpy()
    actions = config.actions.denormalise(whole.actions[0].double()).numpy()
    np.testing.assert_allclose(states, first.states[3:6], atol=1e-3)
    np.testing.assert_allclose(actions, first.actions[3:9], atol=1e-3)


def test_beyond_the_ends_of_an_episode_its_own_first_and_last_step_are_repeated() -> None:
    config = small_policy(obs_steps=3)
    batch = SequenceSet(EPISODES[:2], config).batch([0, 11, 12])
    states = config.states.denormalise(batch.inputs.states.double()).numpy()
    actions = config.actions.denormalise(batch.actions.double()).numpy()
    first, second = EPISODES[:2]
    np.testing.assert_allclose(states[0], first.states[[0, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(actions[0], first.actions[[0, 0, 0, 1, 2, 3]], atol=1e-3)
    np.testing.assert_allclose(actions[1], first.actions[[9, 10, 11, 11, 11, 11]], atol=1e-3)
    np.testing.assert_allclose(states[2], second.states[[0, 0, 0]], atol=1e-3)


def test_every_action_that_would_be_performed_before_the_next_look_is_one_of_the_episode() -> None:
    config = replace(small_policy(obs_steps=3), action_steps=2)
    data = SequenceSet(EPISODES[:2], config)
    assert len(data) == 22
    last = config.actions.denormalise(data.batch([10]).actions[0].double()).numpy()
    np.testing.assert_allclose(last[2:4], EPISODES[0].actions[[10, 11]], atol=1e-3)
    np.testing.assert_allclose(last[4:], EPISODES[0].actions[[11, 11]], atol=1e-3)


def test_no_example_crosses_from_one_run_to_the_next() -> None:
    first, second = EPISODES[:2]
    joined = SequenceEpisode(
        *(np.concatenate([getattr(e, name) for e in (first, second)]) for name in ("states", "actions")), starts=(0, 12)
    )
    config = replace(small_policy(obs_steps=3), action_steps=2)
    one, two = SequenceSet([joined], config), SequenceSet([first, second], config)
    assert len(one) == len(two)
    rows = range(len(one))
    assert one.batch(rows).inputs.states.equal(two.batch(rows).inputs.states)
    assert one.batch(rows).actions.equal(two.batch(rows).actions)


def test_actions_are_told_as_the_last_state_of_their_window_sees_them() -> None:
    random = np.random.default_rng(0)
    states = random.uniform(50.0, 450.0, (12, 5)).astype(np.float32)
    pushes = [SequenceEpisode(states, random.uniform(0.0, 500.0, (12, 2)).astype(np.float32))] * 2
    config = replace(
        new_sequence_policy(pushes, "action_transformer_small", "sample", "push_t", horizon=4), action_steps=1
    )
    view, batch = PushTView(), SequenceSet(pushes, config).batch([5])
    told = config.actions.denormalise(batch.actions[0].double()).numpy()
    np.testing.assert_allclose(view.onto_field(told, states[5]), pushes[0].actions[4:8], atol=1e-2)
    seen = config.states.denormalise(batch.inputs.states[0].double()).numpy()
    np.testing.assert_allclose(seen, view.see(states[4:6]), atol=1e-2)


def test_what_is_recorded_fills_the_range_and_its_moments_are_told_to_the_sampler() -> None:
    config = new_sequence_policy(EPISODES, "action_transformer_small", "sample")
    data = SequenceSet(EPISODES, config)
    seen = data.batch(range(len(data)))
    assert seen.actions.amin() == pytest.approx(-1.0)
    assert seen.actions.amax() == pytest.approx(1.0)
    assert (config.action_mean, config.action_spread) == pytest.approx(data.action_moments())


def test_whole_episodes_are_held_out() -> None:
    learned, held_out = split_sequences(list(range(25)))  # type: ignore[type-var]
    assert held_out == [0, 10, 20]
    assert sorted([*learned, *held_out]) == list(range(25))


def test_training_is_a_function_of_the_seed_and_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = trainer()
    expected = [whole.step() for _ in range(6)]
    first = trainer()
    found = [first.step() for _ in range(3)]
    first.save(tmp_path)
    second = trainer()
    second.resume(tmp_path)
    found += [second.step() for _ in range(3)]
    assert found == expected
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name])
    with pytest.raises(CheckpointError, match="batch_size was 4, now 5"):
        trainer(replace(CONFIG, batch_size=5)).resume(tmp_path)
    with pytest.raises(CheckpointError, match="it has done 3 steps, more than the 2 asked for"):
        trainer(replace(CONFIG, steps=2)).resume(tmp_path)


def test_an_interrupted_training_leaves_a_policy_and_goes_on(tmp_path: Path) -> None:
    made, held_out = trainer(), SequenceSet(EPISODES[:1], small_policy())

    def stop(loss: float) -> None:
        if made.step_number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path, held_out, stop)
    again, losses = trainer(), []
    again.resume(tmp_path)
    assert again.step_number == 2
    train(again, tmp_path, held_out, on_held_out=losses.append)
    assert again.step_number == 6
    assert len(losses) == 2
    assert losses[-1] == pytest.approx(again.held_out_loss(held_out))
    assert not list(tmp_path.glob("*.partial"))
    assert ActionSequencePolicy.load(tmp_path).config == made.policy


def test_a_straight_way_is_learned() -> None:
    config = replace(CONFIG, steps=150, batch_size=16, learning_rate=3e-3, ema_decay=0.9)
    made = trainer(config, [episode(seed) for seed in range(40)])
    held_out = SequenceSet([episode(seed) for seed in range(70, 80)], small_policy())
    before = made.held_out_loss(held_out)
    for _ in range(config.steps):
        made.step()
    assert made.held_out_loss(held_out) < 0.5 * before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"states": np.zeros((3, 2))}, "actions"),
        ({"states": np.zeros((3, 2)), "actions": np.zeros((4, 2))}, r"of one N above 0, are \[3, 2\] and \[4, 2\]"),
        ({"states": np.full((3, 2), np.nan), "actions": np.zeros((3, 2))}, "must be finite"),
        ({"states": np.array([{}]), "actions": np.zeros((1, 2))}, "Object arrays cannot be loaded"),
        ({"states": np.zeros((3, 4)), "actions": np.zeros((3, 2)), "starts": [1]}, "begin with 0, are .1."),
        ({"states": np.zeros((3, 4)), "actions": np.zeros((3, 2)), "starts": [0, 3]}, "rising numbers of steps"),
        ({"states": np.zeros((3, 9)), "actions": np.zeros((3, 2))}, r"of \(9, 2\) numbers"),
    ],
)
def test_a_foreign_file_is_refused_naming_it(folder: Path, values: dict[str, np.ndarray], said: str) -> None:
    np.savez(folder / "episode_00003.npz", **values)
    with pytest.raises(EpisodeError, match=said) as error:
        load_sequences(folder)
    assert "episode_00003.npz" in str(error.value)


def test_a_folder_without_episodes_and_features_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match=r"holds 0 files episode_NNNNN\.npz"):
        load_sequences(tmp_path)
    with pytest.raises(ConfigurationError, match="no features are called 'colours'; there are none and push_t"):
        named_view("colours")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train_actions.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_commands_train_go_on_with_more_episodes_and_prune(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    common = [str(folder), "--out", str(out), "--width", "16", "--batch-size", "4", "--threads", "1"]
    assert train_actions.run(arguments(*common, "--steps", "2", "--prediction", "sample")) == 0
    before = ActionSequencePolicy.load(out).config
    more = episode(9)
    np.savez(folder / "episode_00009.npz", states=3.0 * more.states, actions=3.0 * more.actions)
    assert train_actions.run(arguments(*common, "--steps", "4", "--prediction", "sample")) == 0
    assert ActionSequencePolicy.load(out).config == before
    with pytest.raises(CheckpointError, match="prediction_type was sample, now epsilon"):
        train_actions.run(arguments(*common, "--steps", "6"))
    pruning = ["--steps", "1", "--batch-size", "2", "--sampler-steps", "3", "--threads", "1", "--rate", "0.5"]
    assert main(["prune", str(out), "--data", str(folder), *pruning]) == 0
    assert "trained on" in capsys.readouterr().out
    policy = load_any_policy(out)
    assert isinstance(policy, ActionSequencePolicy)
    policy.plan = PrunedWalks.load(out, policy).walk
    assert policy.act(ActionObservation(more.states[:2])).shape == (8, 2)
