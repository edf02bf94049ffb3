"""The training loop: it learns, it can be stopped anywhere, and what it writes can be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import MODEL, demonstration

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.loop import Trainer, TrainingConfig, train
from minidiffuser_ros.training.metrics import keypose_errors

CONFIG = TrainingConfig(steps=6, batch_size=4, num_samples=8, warmup_steps=2, threads=1, bf16=False, checkpoint_every=3)


@pytest.fixture(scope="module")
def data() -> DemonstrationSet:
    return DemonstrationSet([demonstration(i) for i in range(6)], MODEL.rotation_bins)


def trainer_of(data: DemonstrationSet, config: TrainingConfig = CONFIG) -> Trainer:
    return Trainer(config, PolicyConfig(spec=data.spec, model=MODEL), data, "cpu")


def test_a_training_stopped_in_the_middle_ends_bit_for_bit_where_an_uninterrupted_one_does(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    whole = trainer_of(data)
    train(whole, tmp_path / "whole", lambda step, losses: None)

    def stop(step: int, losses: dict[str, float]) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainer_of(data), tmp_path / "stopped", stop)
    again = trainer_of(data)
    again.resume(tmp_path / "stopped")
    assert again.step_number == 4
    train(again, tmp_path / "stopped", lambda step, losses: None)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    assert all(torch.equal(whole.average[name], again.average[name]) for name in whole.average)


@pytest.mark.parametrize(
    "schedule",
    [
        ScheduleConfig(beta_schedule="scaled_linear", prediction_type="epsilon"),
        ScheduleConfig(prediction_type="v_prediction"),
        ScheduleConfig(beta_schedule="flow_matching", prediction_type="flow_prediction"),
    ],
    ids=lambda schedule: schedule.prediction_type,
)
def test_every_prediction_type_trains_and_its_policy_decides(
    schedule: ScheduleConfig, data: DemonstrationSet, tmp_path: Path
) -> None:
    trainer = Trainer(CONFIG, PolicyConfig(spec=data.spec, model=MODEL, schedule=schedule), data, "cpu")
    train(trainer, tmp_path, lambda step, losses: None)
    errors = keypose_errors(tmp_path, data, limit=2)
    assert errors.steps == 2
    assert 0.0 <= errors.within_2cm <= 1.0


def test_the_loss_of_a_few_demonstrations_falls_by_half(data: DemonstrationSet) -> None:
    config = TrainingConfig(
        steps=60, batch_size=6, num_samples=16, learning_rate=2e-3, warmup_steps=5, threads=1, bf16=False
    )
    trainer = trainer_of(data, config)
    losses = [trainer.step()["position"] for _ in range(60)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_what_training_writes_is_a_complete_checkpoint_of_the_averaged_weights(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    trainer = trainer_of(data)
    train(trainer, tmp_path, lambda step, losses: None)
    config, weights = load_checkpoint(tmp_path)
    assert config == trainer.policy
    for name, value in trainer.average.items():
        torch.testing.assert_close(weights[name].float(), value.float(), atol=1e-3, rtol=1e-3)
    assert not list(tmp_path.glob("*.partial"))


def test_a_state_of_another_network_is_refused_and_said_so(data: DemonstrationSet, tmp_path: Path) -> None:
    train(trainer_of(data), tmp_path, lambda step, losses: None)
    other = Trainer(CONFIG, PolicyConfig(spec=data.spec), data, "cpu")
    with pytest.raises(CheckpointError, match="does not continue this training"):
        other.resume(tmp_path)
    (tmp_path / "resume.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="does not continue this training"):
        trainer_of(data).resume(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_training_before_the_weights_are_touched(data: DemonstrationSet) -> None:
    trainer = trainer_of(data)
    with torch.no_grad():
        trainer.network.displacement[0].weight.fill_(float("nan"))  # type: ignore[index,union-attr,operator]
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(ConfigurationError, match="lower learning_rate"):
        trainer.step()
    after = trainer.network.state_dict()
    assert all(torch.equal(value.nan_to_num(), after[name].nan_to_num()) for name, value in before.items())


def test_counts_below_one_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="num_samples must be at least 1, got 0"):
        TrainingConfig(num_samples=0)
