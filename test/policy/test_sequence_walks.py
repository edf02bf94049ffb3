"""Walks over action sequences: whole, pruned, and with a pruner that was trained for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reverse_step import reverse_step
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.model.action_config import ActionTransformerConfig, ActionUNetConfig
from minidiffuser_ros.model.action_network import action_network
from minidiffuser_ros.policy.action_sequence import (
    ActionObservation,
    ActionPolicyConfig,
    ActionSequencePolicy,
    ValueRange,
)
from minidiffuser_ros.policy.pruned import PrunedWalks, fingerprint, load_any_policy
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.pruner import PrunerConfig
from minidiffuser_ros.pruning.units import kind_of
from minidiffuser_ros.training.pruning import PrunerTrainer, PruningConfig
from minidiffuser_ros.training.sequence_data import SequenceEpisode, SequenceSet

SAMPLER = SamplerConfig("ddpm", 7, 1.0)
MODEL = ActionTransformerConfig(horizon=6, state_dim=3, cameras=0, width=16, num_layers=3)
UNET = ActionUNetConfig(horizon=6, state_dim=3, cameras=0, channels=(16,), step_width=16)
SHORT = PruningConfig(
    rate=0.7, steps=12, batch_size=4, fraction=1.0, learning_rate=5e-3, warm_start_steps=0, sampler=SAMPLER,
    pruner=PrunerConfig(width=16, hidden=16),
)  # fmt: skip


def policy(model: ActionTransformerConfig | ActionUNetConfig = MODEL) -> ActionSequencePolicy:
    """Weights of a size that makes every branch matter."""
    torch.manual_seed(0)
    config = ActionPolicyConfig(
        model, ValueRange((0.0, 0.0), (512.0, 512.0)), ValueRange((0.0,) * 3, (512.0,) * 3), sampler=SAMPLER,
        action_steps=3,
    )  # fmt: skip
    network = action_network(model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return ActionSequencePolicy(config, network)


def observation(seed: int = 0) -> ActionObservation:
    return ActionObservation(np.random.default_rng(seed).uniform(0, 512, (2, 3)))


def data(made: ActionSequencePolicy) -> SequenceSet:
    rng = np.random.default_rng(1)
    episodes = [SequenceEpisode(*(rng.uniform(0, 512, (9, n)).astype(np.float32) for n in (3, 2))) for _ in range(3)]
    return SequenceSet(episodes, made.config)


def random_mask(made: ActionSequencePolicy, seed: int) -> Tensor:
    shape = made.sampler.units(SAMPLER).shape
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def reference(made: ActionSequencePolicy, mask: Tensor, seed: int, shared: bool) -> Tensor:
    """A pruned walk written out: each branch of the decoder by hand, eq. 12 and 13 of SAG as printed."""
    network, condition = made.network, made.encode(observation())
    units, generator = made.sampler.units(SAMPLER), torch.Generator().manual_seed(seed)
    noisy = made.sampler.start(1, 1, generator)
    steps = inference_timesteps(100, SAMPLER.num_inference_steps)
    key = kind_of if shared else str
    tau = {key(name): torch.zeros(1, 1, 6, 16) for name in units.names}
    for index, now in enumerate(steps):
        context = network.contexts(condition, torch.tensor([[now]]))
        x = network.action(noisy.view(1, 1, 6, 2)) + network.places
        pruned = dict(zip(units.names, mask[index].tolist(), strict=True))
        for i, layer in enumerate(network.layers):
            for kind in ("self", "cross", "mlp"):
                if not pruned[f"{i}.{kind}"]:
                    tau[key(f"{i}.{kind}")] = {
                        "self": lambda layer=layer, x=x: layer._attend(x),
                        "cross": lambda layer=layer, x=x, i=i, c=context: layer._look(x, c[i], network.memory_mask),
                        "mlp": lambda layer=layer, x=x: layer.mlp(layer.mlp_norm(x)),
                    }[kind]()
                x = x + tau[key(f"{i}.{kind}")]
        prediction = network.out(network.norm(x)).flatten(-2)
        original, _ = made.schedule.split(prediction, noisy, torch.tensor([[now]]))
        original = original.clamp(-1.0, 1.0)
        if index + 1 < len(steps):
            noisy = reverse_step(made.schedule, "ddpm", original, noisy, now, steps[index + 1], generator)
    return original.view(6, 2)


@torch.no_grad()
def test_a_walk_that_prunes_nothing_is_the_whole_walk_exactly() -> None:
    made = policy()
    whole = made.sample(observation(), 3, seed=4)
    zeros = torch.zeros(made.sampler.units(SAMPLER).shape, dtype=torch.bool)
    made.plan = lambda condition: Walk(SAMPLER, zeros)
    assert np.array_equal(made.sample(observation(), 3, seed=4), whole)


@torch.no_grad()
def test_a_mask_of_ones_never_calls_a_branch() -> None:
    made, called = policy(), []
    for layer in made.network.layers:
        for part in (layer.qkv, layer.query, layer.mlp):
            part.register_forward_hook(lambda *_: called.append(1))
    units = made.sampler.units(SAMPLER)
    assert units.names[:4] == ("0.self", "0.cross", "0.mlp", "1.self")
    made.sample(observation())
    assert len(called) == units.steps * len(units.names)
    called.clear()
    made.plan = lambda condition: Walk(SAMPLER, torch.ones(units.shape, dtype=torch.bool))
    made.sample(observation())
    assert called == []


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_pruned_walk_is_what_the_printed_equations_say(seed: int, shared: bool) -> None:
    made = policy()
    mask = random_mask(made, seed)
    expected = reference(made, mask, seed, shared)
    found = made.sampler.sequences(made.encode(observation()), 1, seed, Walk(SAMPLER, mask, shared))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_part_of_the_pruner_and_nothing_of_the_policy() -> None:
    made = policy()
    trainer = PrunerTrainer(SHORT, made, data(made))
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    trainer.step()
    parts = dict(trainer.pruner.named_parameters())
    assert [name for name, p in parts.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(p.grad is None for p in made.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in made.network.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_the_walk_in_training_is_the_walk_in_use(seed: int) -> None:
    made = policy()
    trainer, mask = PrunerTrainer(SHORT, made, data(made)), random_mask(made, seed)
    condition = made.network.encode(data(made).batch([seed]).inputs)
    walked = trainer.walk(condition, mask.float().unsqueeze(0), torch.Generator().manual_seed(7))
    used = made.sampler.sequences(condition, 1, 7, Walk(SAMPLER, mask))
    torch.testing.assert_close(walked.view(1, 6, 2), used, atol=1e-5, rtol=1e-5)


def test_a_pruner_decides_the_same_after_it_was_saved_and_fits_its_own_policy_only(tmp_path: Path) -> None:
    policy().save(tmp_path)
    loaded = load_any_policy(tmp_path)
    assert isinstance(loaded, ActionSequencePolicy)
    trainer = PrunerTrainer(SHORT, loaded, data(loaded))
    shares = [trainer.step()["pruned"] for _ in range(8)]
    assert shares[0] == 0.0
    assert shares[-1] > 0.0
    trainer.trained(fingerprint(tmp_path)).save(tmp_path)
    walks = PrunedWalks.load(tmp_path, loaded)
    condition = loaded.encode(observation())
    assert torch.equal(walks.mask(condition), trainer.trained("").mask(condition))
    loaded.plan = walks.walk
    first, second = (loaded.sample(observation(), 2, seed=3) for _ in range(2))
    assert np.array_equal(first, second), "same seed, same mask, another sequence"
    assert np.array_equal(loaded.act(observation(), 3), loaded.sample(observation(), 1, 3)[0, 1:4])
    made = policy()
    made.network.out.bias.data += 1.0
    made.save(tmp_path)
    with pytest.raises(CheckpointError, match="trained for other weights"):
        PrunedWalks.load(tmp_path, load_any_policy(tmp_path))


def test_either_network_comes_back_from_its_folder(tmp_path: Path) -> None:
    for model in (MODEL, UNET):
        made = policy(model)
        made.save(tmp_path)
        loaded = ActionSequencePolicy.load(tmp_path)
        assert loaded.config == made.config
        np.testing.assert_allclose(loaded.sample(observation(), 2), made.sample(observation(), 2), atol=3.0)


def test_a_folder_from_before_the_steps_to_perform_were_written_down_still_loads(tmp_path: Path) -> None:
    policy(UNET).save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('  "action_steps": 3', '  "action_mean": 0.0'))
    assert ActionSequencePolicy.load(tmp_path).config.action_steps == ActionPolicyConfig.action_steps


def test_a_u_net_has_nothing_to_prune_and_the_sentence_says_what_has() -> None:
    made = policy(UNET)
    assert made.sample(observation(), 3).shape == (3, 6, 2)
    with pytest.raises(ConfigurationError, match="only a transformer over action sequences can be pruned"):
        PrunerTrainer(SHORT, made, data(made))


def test_a_mask_of_other_steps_is_refused() -> None:
    made = policy()
    longer = replace(SAMPLER, num_inference_steps=8)
    made.plan = lambda condition: Walk(longer, random_mask(made, 0))
    with pytest.raises(ConfigurationError, match=r"a mask must be truth values \(8, 9\)"):
        made.sample(observation())
