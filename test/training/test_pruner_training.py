"""A pruner is trained through the walk of a frozen policy, and serves beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from small import MODEL, small_data, small_trainer

from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PrunedWalks, fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.pruner import PrunerConfig
from minidiffuser_ros.pruning.schedules import late_computed
from minidiffuser_ros.training.pruning import LATENESS, PROBED, PrunerTrainer, PruningConfig
from minidiffuser_ros.training.state import RECORD

SHORT = PruningConfig(
    rate=0.7, steps=12, batch_size=4, fraction=1.0, learning_rate=5e-3, warm_start_steps=0,
    sampler=SamplerConfig("ddpm", 6), pruner=PrunerConfig(width=16, hidden=16),
)  # fmt: skip


def policy() -> Policy:
    torch.manual_seed(0)
    return Policy(PolicyConfig(model=MODEL, num_candidates=3), MiniDiffuser(MODEL))


def test_gradients_reach_every_part_of_the_pruner_and_nothing_of_the_policy() -> None:
    trainer = PrunerTrainer(SHORT, policy(), small_data())
    before = {name: value.clone() for name, value in trainer.policy.network.state_dict().items()}
    trainer.step()
    parts = dict(trainer.pruner.named_parameters())
    assert [name for name, p in parts.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(p.grad is None for p in trainer.policy.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in trainer.policy.network.state_dict().items())


@pytest.mark.parametrize("per_branch", [False, True])
def test_the_share_that_is_reused_goes_to_the_rate_asked_for(per_branch: bool) -> None:
    config = replace(SHORT, steps=60, beta=20.0, per_branch=per_branch)
    trainer = PrunerTrainer(config, policy(), small_data())
    shares = [trainer.step()["pruned"] for _ in range(config.steps)]
    assert shares[0] == 0.0
    assert sum(shares[-5:]) / 5 == pytest.approx(0.7, abs=0.12)


def test_a_warm_start_is_the_schedule_that_does_not_look() -> None:
    trainer = PrunerTrainer(replace(SHORT, warm_start_steps=300), policy(), small_data())
    masks = trainer.pruner.masks(trainer._embeddings)
    assert (masks == trainer.start_schedule()).float().mean() > 0.97


@torch.no_grad()
def test_training_starts_from_the_schedule_whose_walk_ends_closest_to_the_whole_one() -> None:
    trainer, data = PrunerTrainer(replace(SHORT, batch_size=6, rate=0.4), policy(), small_data()), small_data()
    condition = trainer.policy.network.encode(data.batch(trainer.indices[:6]).inputs)

    def end(mask: torch.Tensor) -> torch.Tensor:
        return trainer.walk(condition, mask.float().expand(6, -1, -1), torch.Generator().manual_seed(SHORT.seed))

    units, started = trainer.pruner.units, trainer.start_schedule()
    whole = end(torch.zeros(units.shape))
    masks = [late_computed(units, 0.4, lateness) for lateness in LATENESS]
    errors = [float((end(mask) - whole).norm(dim=-1).mean()) for mask in masks]
    assert float((end(started) - whole).norm(dim=-1).mean()) == pytest.approx(min(errors), rel=1e-4)
    assert max(errors) > min(errors)


def test_what_is_kept_is_the_best_pruner_on_the_way_however_training_ends() -> None:
    wild = replace(SHORT, warm_start_steps=300, teacher="policy", learning_rate=0.3, steps=20, probe_every=5)
    trainer = PrunerTrainer(wild, policy(), small_data())
    began = trainer.best_loss
    losses = [trainer.step() for _ in range(wild.steps)]
    assert losses[-1]["fidelity"] + losses[-1]["sparsity"] > began, "not wild enough to end worse"
    kept = trainer.trained("0").pruner
    with torch.no_grad():
        trainer.pruner.load_state_dict(kept.state_dict())
        found, _ = trainer._losses(trainer.indices[:PROBED], torch.Generator().manual_seed(wild.seed))
    assert float(found["fidelity"] + found["sparsity"]) == pytest.approx(trainer.best_loss)
    assert trainer.best_loss <= began


def test_training_is_a_function_of_the_seed_and_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = PrunerTrainer(SHORT, policy(), small_data())
    expected = [whole.step() for _ in range(6)]
    first = PrunerTrainer(SHORT, policy(), small_data())
    found = [first.step() for _ in range(3)]
    first.save_state(tmp_path)
    second = PrunerTrainer(SHORT, policy(), small_data(), tmp_path)
    found += [second.step() for _ in range(3)]
    assert found == expected
    assert second.best_loss == whole.best_loss
    assert all(torch.equal(value, whole.best[name]) for name, value in second.best.items())
    with pytest.raises(CheckpointError, match=r"rate was 0\.7, now 0\.5"):
        PrunerTrainer(replace(SHORT, rate=0.5), policy(), small_data(), tmp_path)


def test_a_pruner_keeps_the_settings_of_its_training_and_how_far_it_came(tmp_path: Path) -> None:
    trainer = PrunerTrainer(SHORT, policy(), small_data())
    trainer.step()
    trainer.write_record(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record == {"config": json.loads(json.dumps(asdict(SHORT))), "steps": 1, "samples": len(trainer.indices)}


def test_a_pruner_taught_by_the_whole_walk_that_computes_everything_has_nothing_to_learn() -> None:
    taught = PrunerTrainer(replace(SHORT, teacher="policy"), policy(), small_data())
    losses = taught.step()
    assert losses["pruned"] == 0.0
    assert losses["fidelity"] == pytest.approx(0.0, abs=1e-5)
    assert PrunerTrainer(SHORT, policy(), small_data()).step()["fidelity"] > 0.1
    with pytest.raises(ConfigurationError, match="teacher must be one of expert, policy, got 'crowd'"):
        replace(SHORT, teacher="crowd")  # type: ignore[arg-type]


def test_the_walk_in_training_is_the_walk_in_use() -> None:
    trained = policy()
    trainer, data = PrunerTrainer(SHORT, trained, small_data()), small_data()
    units = trainer.pruner.units
    mask = torch.rand(units.shape, generator=torch.Generator().manual_seed(4)) < 0.5
    mask[-1] = False
    with torch.no_grad():
        condition = trained.network.encode(data.batch([2]).inputs)
        one = replace(trained.config, num_candidates=1)
        used = Policy(one, trained.network).sampler.positions(condition, 7, Walk(SHORT.sampler, mask))
        walked = trainer.walk(condition, mask.float().unsqueeze(0), torch.Generator().manual_seed(7))
    torch.testing.assert_close(trained.sampler.scale.metric(walked), used, atol=1e-5, rtol=1e-5)


def test_a_pruner_decides_the_same_after_it_was_saved_and_fits_its_own_policy_only(tmp_path: Path) -> None:
    trainer = small_trainer(small_data())
    trainer.step()
    trainer.save(tmp_path)
    loaded = Policy.load(tmp_path)
    pruning = PrunerTrainer(SHORT, loaded, small_data())
    for _ in range(3):
        pruning.step()
    walks = pruning.trained(fingerprint(tmp_path))
    walks.save(tmp_path)
    condition = loaded.network.encode(small_data().batch([1]).inputs)
    again = PrunedWalks.load(tmp_path, loaded)
    assert torch.equal(again.mask(condition), walks.mask(condition))
    walk = again.walk(condition)
    assert walk.sampler == SHORT.sampler
    first, second = (loaded.sampler.positions(condition, 3, walk) for _ in range(2))
    assert torch.equal(first, second), "same seed, same mask, another keypose"
    trainer.step()
    trainer.save(tmp_path)
    with pytest.raises(CheckpointError, match="trained for other weights"):
        PrunedWalks.load(tmp_path, Policy.load(tmp_path))


def test_without_a_pruner_the_sentence_says_how_to_get_one(tmp_path: Path) -> None:
    trainer = small_trainer(small_data())
    trainer.step()
    trainer.save(tmp_path)
    with pytest.raises(CheckpointError, match="train one with `minidiffuser prune"):
        PrunedWalks.load(tmp_path, Policy.load(tmp_path))


def test_a_rate_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"rate must lie in \[0, 1\), got 1.0"):
        PruningConfig(rate=1.0)
    assert main(["prune", str(tmp_path), "--data", str(tmp_path), "--rate", "1.5"]) == 2
    assert "rate must lie in [0, 1), got 1.5" in capsys.readouterr().err
