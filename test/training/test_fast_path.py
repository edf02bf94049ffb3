"""The walk of a decision is a setting, and an unusual answer is given by the whole walk instead."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import demonstration, small_data, small_trainer

from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.episodes.demonstration import save_demonstration
from minidiffuser_ros.policy.fast_path import FastPath
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PrunedWalks, fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.policy.settings import WalkSettings
from minidiffuser_ros.policy.trust import TRUST, Novelty, Trust
from minidiffuser_ros.pruning.pruner import PrunerConfig
from minidiffuser_ros.pruning.schedules import random_schedule
from minidiffuser_ros.training.pruning import PrunerTrainer, PruningConfig
from minidiffuser_ros.training.trust import CalibrationConfig, calibrate

SENTENCE = "push the red button"
WHOLE = SamplerConfig("ddim", 5)
PRUNING = PruningConfig(
    rate=0.7, steps=40, batch_size=6, fraction=1.0, warm_start_steps=60, sampler=SamplerConfig("ddpm", 6),
    pruner=PrunerConfig(width=16, hidden=16),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with its pruner and its trust, all trained for a moment."""
    path = tmp_path_factory.mktemp("policy")
    data = small_data(16)
    trainer = small_trainer(data, replace(small_trainer(data).config, steps=60, batch_size=8, learning_rate=3e-3))
    for _ in range(60):
        trainer.step()
    trainer.save(path)
    policy = Policy.load(path)
    PrunerTrainer(PRUNING, policy, data).trained(fingerprint(path)).save(path)
    policy.plan = PrunedWalks.load(path, policy).walk
    settings = CalibrationConfig(observations=16, known=24)
    calibrate(settings, policy, data, small_data(16), fingerprint(path), WHOLE).save(path)
    return path


@pytest.fixture
def fast(folder: Path) -> FastPath:
    return FastPath.load(folder)


def seen(number: int = 3) -> Observation:
    made = demonstration(number)
    first = slice(0, int(made.counts[0]))
    return Observation(
        made.points[first], made.colors[first], made.tool[0, :3], made.tool[0, 3:], made.joints[0], 1.0, 0, made.spec
    )


def test_without_settings_it_decides_as_the_policy_itself(fast: FastPath, folder: Path) -> None:
    mine, own = fast.decide(seen(), SENTENCE, 5), Policy.load(folder).decide(seen(), SENTENCE, 5)
    np.testing.assert_array_equal(mine.candidates, own.candidates)
    assert (mine.sampler, mine.steps, mine.pruned, mine.mask, mine.fell_back) == ("ddim", 10, 0.0, None, False)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (WalkSettings("auto", 3), ("ddim", 3)),
        (WalkSettings("ddim"), ("ddim", 10)),
        (WalkSettings("ddpm"), ("ddpm", 100)),
        (WalkSettings("ddpm", 4), ("ddpm", 4)),
        (WalkSettings("sag", fallback="off"), ("sag", 6)),
    ],
)
def test_a_decision_takes_the_walk_that_is_set_and_is_repeated_by_its_seed(
    fast: FastPath, settings: WalkSettings, expected: tuple[str, int]
) -> None:
    decision = fast.decide(seen(), SENTENCE, 7, None, settings)
    assert (decision.sampler, decision.steps) == expected
    fast.decide(seen(4), SENTENCE, 8)
    again = fast.decide(seen(), SENTENCE, 7, None, settings)
    np.testing.assert_array_equal(decision.candidates, again.candidates)
    assert (decision.mask is not None) == (expected[0] == "sag")
    if decision.mask is not None:
        assert decision.mask.shape == (6, len(decision.branches))
        assert decision.pruned == pytest.approx(decision.mask.mean())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (WalkSettings("sag", 3), "trained for 6 steps of ddpm, got 3"),
        (WalkSettings("ddim", 101), "101 inference steps exceed the 100"),
    ],
)
def test_a_walk_that_the_policy_does_not_have_is_refused(fast: FastPath, settings: WalkSettings, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        fast.require(settings)
    with pytest.raises(ConfigurationError, match=sentence):
        fast.decide(seen(), SENTENCE, 0, None, settings)


def test_a_setting_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sampler must be one of auto, ddim, ddpm, sag, got 'euler'"):
        WalkSettings("euler")
    with pytest.raises(ConfigurationError, match="fallback must be one of auto, on, off, got 'maybe'"):
        WalkSettings(fallback="maybe")
    with pytest.raises(ConfigurationError, match="steps must be at least 0"):
        WalkSettings(steps=-1)


def test_a_policy_without_pruner_and_calibration_decides_and_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    bare = FastPath.load(tmp_path)
    assert not bare.decide(seen(), SENTENCE).fell_back
    with pytest.raises(ConfigurationError, match=r"no pruner for this policy.*minidiffuser prune"):
        bare.require(WalkSettings("sag"))
    with pytest.raises(ConfigurationError, match=r"not calibrated.*minidiffuser prune"):
        bare.require(WalkSettings(fallback="on"))


def test_what_is_usual_is_believed_and_what_a_bad_mask_says_is_walked_wholly(fast: FastPath) -> None:
    believed = [fast.decide(seen(i), SENTENCE, i, None, WalkSettings("sag")) for i in range(8)]
    assert sum(d.fell_back for d in believed) <= 1
    pruned = fast._pruned
    assert isinstance(pruned, PrunedWalks)
    units = fast.policy.sampler.units(PRUNING.sampler)
    mask = random_schedule(units, 0.9, torch.Generator().manual_seed(1))
    pruned.walk = lambda condition: Walk(PRUNING.sampler, mask)  # type: ignore[method-assign]
    decisions = [fast.decide(seen(i), SENTENCE, i, None, WalkSettings("sag")) for i in range(8)]
    assert all(d.fell_back and "is usual" in d.doubt for d in decisions)
    whole = fast.decide(seen(2), SENTENCE, 2, None, WalkSettings("ddim", WHOLE.num_inference_steps))
    np.testing.assert_array_equal(decisions[2].candidates, whole.candidates)
    assert (decisions[2].sampler, decisions[2].steps, decisions[2].pruned) == ("ddim", 5, 0.0)
    assert decisions[2].mask is not None
    unchecked = fast.decide(seen(2), SENTENCE, 2, None, WalkSettings("sag", fallback="off"))
    assert (unchecked.sampler, unchecked.fell_back) == ("sag", False)


def test_without_pruning_nothing_is_doubted_unless_it_is_asked_for(fast: FastPath) -> None:
    assert isinstance(fast._trust, Trust)
    fast._trust.config = replace(fast._trust.config, correction=1e-9)
    assert not fast.decide(seen(), SENTENCE).fell_back
    assert fast.decide(seen(), SENTENCE, settings=WalkSettings(fallback="on")).fell_back


def test_a_calibration_of_other_weights_or_with_foreign_values_is_refused(folder: Path, tmp_path: Path) -> None:
    policy = Policy.load(folder)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = tmp_path / TRUST / "config.json"
    values = json.loads(config.read_text())
    for changes, sentence in (
        ({"policy": "0" * 64}, "calibrated for other weights"),
        ({"correction": -1.0}, "correction must be above 0"),
        ({"quantile": 2.0}, "quantile must lie in"),
        ({"surprise": 1.0}, "no setting"),
    ):
        config.write_text(json.dumps({**values, **changes}))
        with pytest.raises(CheckpointError, match=sentence):
            Trust.load(tmp_path, policy)


def test_the_command_calibrates_what_lies_there_and_changes_nothing_else(folder: Path, tmp_path: Path) -> None:
    policy, data = tmp_path / "policy", tmp_path / "data"
    shutil.copytree(folder, policy)
    shutil.rmtree(policy / TRUST)
    before = {path: path.read_bytes() for path in policy.rglob("*") if path.is_file()}
    for seed in range(4):
        save_demonstration(demonstration(seed), data / "lump" / f"{seed:06d}.npz")
    assert main(["prune", str(policy), "--data", str(data), "--calibrate-only", "--threads", "1"]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
    trust = Trust.load(policy, Policy.load(policy))
    assert (trust.config.observations, len(trust.novelty.known)) == (2, 6)
    FastPath.load(policy).require(WalkSettings("sag", fallback="on"))


def test_novelty_is_nothing_for_what_is_known_and_grows_with_the_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(60, 12, generator=generator) * torch.linspace(0.1, 3.0, 12)
    novelty = Novelty.of(known)
    assert max(novelty(row.unsqueeze(0)) for row in known) < 0.02
    direction = torch.randn(1, 12, generator=generator)
    near, far = (novelty(known[:1] + scale * direction) for scale in (3.0, 30.0))
    assert 0.3 < near < far


def test_the_correction_of_a_whole_walk_is_small_and_of_a_displaced_answer_about_its_error(fast: FastPath) -> None:
    policy = fast.policy
    with torch.inference_mode():
        condition = policy.network.encode(small_data().batch([1]).inputs)
        ends = policy.sampler.positions(condition, 3, Walk(SamplerConfig("ddim", 20)))
        still = policy.sampler.corrections(condition, ends)
        moved = policy.sampler.corrections(condition, ends + torch.tensor([0.05, 0.0, 0.0]))
    assert float(still.median()) < 0.25 * float(moved.median())
