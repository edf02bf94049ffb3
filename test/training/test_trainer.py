"""The training loop: it learns, it can be stopped anywhere, and what it writes can be loaded."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small import CONFIG, MODEL, small_data, small_trainer

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint, new_policy
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.loop import Trainer, Watch, train
from minidiffuser_ros.training.metrics import Validation


@pytest.fixture(scope="module")
def data() -> DemonstrationSet:
    return small_data()


def stop_after(last: int) -> Callable[[int, dict[str, float], float], None]:
    def stop(step: int, losses: dict[str, float], learning_rate: float) -> None:
        if step == last:
            raise KeyboardInterrupt

    return stop


def assert_same_weights(first: Trainer, second: Trainer) -> None:
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
        assert torch.equal(first.average[name], second.average[name]), name


def test_a_training_stopped_in_the_middle_ends_bit_for_bit_where_an_uninterrupted_one_does(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    whole = small_trainer(data)
    train(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(small_trainer(data), tmp_path / "stopped", watch=Watch(on_step=stop_after(4)))
    again = small_trainer(data)
    again.resume(tmp_path / "stopped")
    assert again.step_number == 4
    train(again, tmp_path / "stopped")
    assert_same_weights(whole, again)


def test_a_training_may_begin_with_another_policys_weights_and_goes_on_as_one_that_did_not(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    train(small_trainer(data), tmp_path / "before")
    config = replace(CONFIG, start=str(tmp_path / "before"))
    _, weights = load_checkpoint(tmp_path / "before")
    for name, value in small_trainer(data, config).network.state_dict().items():
        torch.testing.assert_close(value, weights[name].to(value), rtol=0, atol=0, msg=name)
    whole = small_trainer(data, config)
    train(whole, tmp_path / "whole")
    record = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert (record["steps"], record["before"]["steps"]) == (CONFIG.steps, CONFIG.steps)
    third = small_trainer(data, replace(CONFIG, start=str(tmp_path / "whole")))
    assert third.before["steps"] == 2 * CONFIG.steps
    with pytest.raises(KeyboardInterrupt):
        train(small_trainer(data, config), tmp_path / "stopped", watch=Watch(on_step=stop_after(3)))
    again = small_trainer(data, config)
    again.resume(tmp_path / "stopped")
    train(again, tmp_path / "stopped")
    assert_same_weights(whole, again)
    with pytest.raises(CheckpointError, match=r"start was .*before, now None"):
        small_trainer(data).resume(tmp_path / "stopped")


def test_the_weights_of_another_network_are_refused_saying_what_differs(data: DemonstrationSet, tmp_path: Path) -> None:
    small_trainer(data).save(tmp_path)
    other = new_policy(replace(MODEL, history=not MODEL.history), data.spec)
    with pytest.raises(ConfigurationError, match=r"another network than this training \(history was False, now True\)"):
        Trainer(replace(CONFIG, start=str(tmp_path)), other, data)


def test_chance_inside_the_network_is_a_function_of_the_step_too(data: DemonstrationSet, tmp_path: Path) -> None:
    def noisy_trainer(steps: int) -> Trainer:
        trainer = small_trainer(data, replace(CONFIG, steps=steps))
        trainer.network.displacement.register_forward_hook(lambda module, args, out: torch.dropout(out, 0.5, True))
        return trainer

    whole, again = noisy_trainer(4), noisy_trainer(4)
    train(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(noisy_trainer(4), tmp_path / "stopped", watch=Watch(on_step=stop_after(2)))
    again.resume(tmp_path / "stopped")
    torch.rand(7)
    train(again, tmp_path / "stopped")
    assert_same_weights(whole, again)


def test_ctrl_c_amid_an_update_waits_until_the_update_is_whole(
    data: DemonstrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    stopped, expected = small_trainer(data), small_trainer(data)
    update = stopped.optimizer.step

    def interrupted_update() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        update()

    monkeypatch.setattr(stopped.optimizer, "step", interrupted_update)
    # A shell without job control starts its background jobs with Ctrl-C ignored, and Python leaves it so.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, tmp_path)
    expected.step()
    again = small_trainer(data)
    again.resume(tmp_path)
    assert again.step_number == 1
    assert_same_weights(expected, again)


def test_a_network_with_experts_learns_to_use_them_evenly_and_resumes_as_one(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    policy = PolicyConfig(spec=data.spec, model=replace(MODEL, num_experts=4))
    first = Trainer(replace(CONFIG, balance_weight=0.0), policy, data)
    balanced = Trainer(replace(CONFIG, balance_weight=0.5), policy, data)
    losses = [trainer.step() for trainer in (first, balanced)]
    assert losses[0].keys() == {"position", "rotation", "gripper", "balance"}
    assert losses[0] == losses[1]
    routers = [[p for name, p in t.network.named_parameters() if "router" in name] for t in (first, balanced)]
    assert any(not torch.equal(a, b) for a, b in zip(*routers, strict=True))
    train(balanced, tmp_path)
    again = Trainer(replace(CONFIG, balance_weight=0.5), policy, data)
    again.resume(tmp_path)
    assert_same_weights(balanced, again)


@pytest.mark.parametrize(
    "schedule",
    [
        ScheduleConfig(beta_schedule="scaled_linear", prediction_type="epsilon"),
        ScheduleConfig(prediction_type="v_prediction"),
        ScheduleConfig(beta_schedule="flow_matching", prediction_type="flow_prediction"),
    ],
    ids=lambda schedule: schedule.prediction_type,
)
def test_every_prediction_type_trains_and_its_policy_is_measured(
    schedule: ScheduleConfig, data: DemonstrationSet, tmp_path: Path
) -> None:
    policy = PolicyConfig(spec=data.spec, model=MODEL, schedule=schedule)
    trainer = Trainer(CONFIG, policy, data)
    train(trainer, tmp_path, Validation(policy, data, limit=2))
    assert trainer.held_out["steps"] == 2
    assert 0.0 <= trainer.held_out["within_2cm"] <= 1.0


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_of_a_few_demonstrations_falls_by_half(loss: str, data: DemonstrationSet) -> None:
    config = TrainingConfig(
        steps=60, batch_size=6, num_samples=16, learning_rate=2e-3, warmup_steps=5, threads=1, bf16=False,
        loss=loss,  # type: ignore[arg-type]
    )  # fmt: skip
    trainer = small_trainer(data, config)
    losses = [trainer.step()["position"] for _ in range(60)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_what_training_writes_is_a_complete_checkpoint_of_the_averaged_weights(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    trainer = small_trainer(data)
    train(trainer, tmp_path)
    config, weights = load_checkpoint(tmp_path)
    assert config == trainer.policy
    for name, value in trainer.average.items():
        torch.testing.assert_close(weights[name].float(), value.float(), atol=1e-3, rtol=1e-3)
    assert not list(tmp_path.glob("*.partial"))
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["config"] == asdict(CONFIG)
    assert record["steps"] == CONFIG.steps


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"batch_size": 2}, "batch_size was 4, now 2"),
        ({"num_samples": 16}, "num_samples was 8, now 16"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"loss": "l2"}, "loss was l1, now l2"),
        ({"steps": 3}, "it has done 6 steps, more than the 3 asked for"),
    ],
)
def test_a_state_of_another_training_is_refused_naming_what_differs(
    change: dict[str, object], expected: str, data: DemonstrationSet, tmp_path: Path
) -> None:
    train(small_trainer(data), tmp_path)
    with pytest.raises(CheckpointError, match=rf"does not continue this training \({expected}\): use another --out"):
        small_trainer(data, replace(CONFIG, **change)).resume(tmp_path)  # type: ignore[arg-type]


def test_a_state_of_another_network_or_schedule_or_a_damaged_one_is_refused(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    train(small_trainer(data), tmp_path)
    flow = new_policy(MODEL, data.spec, schedule=ScheduleConfig(beta_schedule="flow_matching"))
    with pytest.raises(CheckpointError, match=r"schedule was squaredcos_cap_v2, now flow_matching\)"):
        Trainer(CONFIG, flow, data).resume(tmp_path)
    with pytest.raises(CheckpointError, match=r"does not continue this training \(model\."):
        Trainer(CONFIG, PolicyConfig(spec=data.spec), data).resume(tmp_path)
    for damage in (b"not a checkpoint", b"", (tmp_path / "resume.pt").read_bytes()[:2000]):
        (tmp_path / "resume.pt").write_bytes(damage)
        with pytest.raises(CheckpointError, match="does not continue this training"):
            small_trainer(data).resume(tmp_path)


def test_a_finished_training_goes_on_with_more_steps_and_the_cosine_of_the_longer_run(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    train(small_trainer(data), tmp_path)
    longer = small_trainer(data, replace(CONFIG, steps=8))
    longer.resume(tmp_path)
    fresh = small_trainer(data, replace(CONFIG, steps=8))
    fresh.step_number = 6
    assert longer.learning_rate() == fresh.learning_rate() > CONFIG.final_fraction * CONFIG.learning_rate
    train(longer, tmp_path)
    assert longer.step_number == 8


def broken_trainer(data: DemonstrationSet) -> Trainer:
    trainer = small_trainer(data)
    with torch.no_grad():
        trainer.network.displacement[0].weight.fill_(float("nan"))  # type: ignore[index,union-attr,operator]
    return trainer


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched_and_its_batch_is_kept(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    trainer = broken_trainer(data)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(ConfigurationError, match=r"not finite at step 0 .*bad_batch\.safetensors") as caught:
        train(trainer, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    after = trainer.network.state_dict()
    assert all(torch.equal(value.nan_to_num(), after[name].nan_to_num()) for name, value in before.items())
    expected = trainer.sampler.batch(0).tensors()
    with safe_open(tmp_path / "bad_batch.safetensors", "pt") as file:
        assert {name: file.metadata()[name] for name in ("step", "seed")} == {"step": "0", "seed": "0"}
        assert set(file.keys()) == set(expected)
        assert all(torch.equal(file.get_tensor(name), value) for name, value in expected.items())


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(data: DemonstrationSet) -> None:
    trainer = small_trainer(data)
    trainer.network.gripper.bias.register_hook(lambda grad: grad * float("inf"))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(ConfigurationError, match=r"gradient (inf|nan)"):
        trainer.step()
    assert all(torch.equal(value, trainer.network.state_dict()[name]) for name, value in before.items())


def test_a_regression_learns_and_answers_the_same_whatever_the_seed(data: DemonstrationSet, tmp_path: Path) -> None:
    schedule = ScheduleConfig(num_train_timesteps=2, beta_schedule="regression")
    sampler = SamplerConfig(num_inference_steps=1)
    policy = PolicyConfig(spec=data.spec, model=MODEL, schedule=schedule, sampler=sampler, num_candidates=1)
    trainer = Trainer(replace(CONFIG, steps=40, num_samples=1, warmup_steps=4), policy, data)
    first = trainer.step()["position"]
    train(trainer, tmp_path)
    assert trainer.step(trainer.batch(0))["position"] < 0.5 * first
    loaded = Policy.load(tmp_path)
    with torch.inference_mode():
        condition = loaded.network.encode(data.batch([0]).inputs)
        answers = [loaded.sampler.positions(condition, seed) for seed in range(3)]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_a_regression_of_several_steps_is_refused(data: DemonstrationSet) -> None:
    schedule = ScheduleConfig(num_train_timesteps=2, beta_schedule="regression")
    with pytest.raises(ConfigurationError, match="answers in one step, got a sampler of 2"):
        PolicyConfig(schedule=schedule, sampler=SamplerConfig(num_inference_steps=2))
