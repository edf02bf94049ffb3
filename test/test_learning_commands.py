"""The commands from nothing to a measured policy, and what they say to bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from minidiffuser_ros.cli.main import main
from minidiffuser_ros.episodes.demonstration import load_demonstration
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.simulation.tabletop import shared_world

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def command(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert command("demos", "--out", folder, "--per-task", 4, "--workers", 1) == 0
    return folder


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    sizes = ("--batch-size", 4, "--num-samples", 8, "--threads", 1)
    assert command("train", data, "--out", folder, "--steps", 2, *sizes) == 0
    return folder


def test_demonstrations_that_exist_are_kept_and_only_the_missing_are_made(data: Path) -> None:
    files = sorted(data.glob("*/*.npz"))
    assert len(files) >= 6
    kept, missing = files[0], files[-1]
    before, content = kept.stat().st_mtime_ns, load_demonstration(missing)
    missing.unlink()
    assert command("demos", "--out", data, "--per-task", 4, "--workers", 1) == 0
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(load_demonstration(missing).points, content.points)


def test_a_trained_policy_is_measured_beside_the_expert_and_gets_a_card(checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "eval.json"
    options = ("--episodes", 1, "--workers", 1, "--tasks", "push_button", "--json", report, "--card")
    assert command("evaluate", checkpoint, *options) == 0
    figures = json.loads(report.read_text())
    rate = figures["tasks"]["push_button"]
    assert rate["n"] == 1
    assert rate["low"] <= rate["success"] <= rate["high"]
    assert figures["mean"] == rate["success"]
    assert figures["expert"]["push_button"]["success"] == 1.0
    card = (checkpoint / "README.md").read_text()
    assert "| push_button |" in card
    assert "2 steps of B = 4 observations times M = 8" in card
    held_out = json.loads((checkpoint / "training.json").read_text())["held_out"]
    assert f"On {held_out['steps']} held-out keyposes {held_out['within_1cm']:.1%}" in card
    assert f"within 5° of the expert's in {held_out['rotation_within_5deg']:.1%}" in card
    assert set(held_out["tasks"]) <= {"push_button", "stack_pair"}


def test_a_policy_sees_as_many_points_as_its_demonstrations_have_when_it_is_measured(tmp_path: Path) -> None:
    data, out, report = tmp_path / "data", tmp_path / "policy", tmp_path / "eval.json"
    assert (
        command("demos", "--out", data, "--tasks", "push_button", "--per-task", 2, "--points", 96, "--workers", 1) == 0
    )
    assert {int(load_demonstration(path).counts.max()) for path in data.glob("*/*.npz")} == {96}
    sizes = ("--batch-size", 2, "--num-samples", 4, "--threads", 1, "--validation-steps", 2)
    assert command("train", data, "--out", out, "--steps", 2, *sizes) == 0
    assert Policy.load(out).spec.max_points == 96
    assert command("evaluate", out, "--episodes", 1, "--workers", 1, "--json", report) == 0
    assert json.loads(report.read_text())["tasks"]["push_button"]["n"] == 1


def test_a_network_that_diffuses_rotation_too_is_trained_measured_and_described(data: Path, tmp_path: Path) -> None:
    sizes = ("--batch-size", 2, "--num-samples", 4, "--threads", 1, "--validation-steps", 2)
    assert command("train", data, "--out", tmp_path, "--network", "diffuser_actor", "--steps", 2, *sizes) == 0
    weights = json.loads((tmp_path / "training.json").read_text())["config"]
    assert (weights["position_weight"], weights["rotation_weight"]) == (30.0, 10.0)
    config = Policy.load(tmp_path).config
    assert config.rotation_schedule is not None
    schedules = (config.schedule.beta_schedule, config.rotation_schedule.beta_schedule)
    assert schedules == ("scaled_linear", "squaredcos_cap_v2")
    report = tmp_path / "eval.json"
    options = ("--episodes", 1, "--workers", 1, "--tasks", "push_button", "--json", report, "--card")
    assert command("evaluate", tmp_path, *options) == 0
    assert json.loads(report.read_text())["tasks"]["push_button"]["n"] == 1
    card = (tmp_path / "README.md").read_text()
    assert "times M = 4 noised keyposes" in card
    assert "keyposes are denoised in 10 DDIM steps" in card


def test_a_policy_sees_in_the_running_world_what_it_saw_in_training(data: Path, checkpoint: Path) -> None:
    demonstration = load_demonstration(data / "push_button" / "000000.npz")
    world = shared_world()
    world.reset("push_button", 0)
    observation = world.observe()
    first = slice(0, demonstration.counts[0])
    np.testing.assert_array_equal(observation.points, demonstration.points[first])
    np.testing.assert_array_equal(observation.colors, demonstration.colors[first])
    assert Policy.load(checkpoint).spec == observation.spec == demonstration.spec


def test_a_decision_is_a_function_of_observation_sentence_and_seed(checkpoint: Path) -> None:
    world = shared_world()
    sentence = world.reset("stack_pair", 7)
    observation, policy = world.observe(), Policy.load(checkpoint)
    first, second, other = (policy.decide(observation, sentence, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.candidates, second.candidates)
    assert not np.array_equal(first.candidates, other.candidates)
    assert len(first.candidates) == len(first.candidate_keyposes) == policy.config.num_candidates


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("evaluate", "/nowhere"), "/nowhere is no checkpoint"),
        (("evaluate", "CHECKPOINT", "--tasks", "juggle"), "juggle"),
        (("evaluate", "CHECKPOINT", "--episodes", "0"), "at least 1"),
        (("demos", "--out", "OUT", "--tasks", "juggle"), "juggle"),
        (("demos", "--out", "OUT", "--per-task", "100001"), "below 100000"),
        (("demos", "--out", "OUT", "--disturbed", "1.5"), "--disturbed must lie between 0 and 1, got 1.5"),
        (("train", "OUT", "--out", "OUT"), "holds 0 demonstrations"),
        (("train", "DATA", "--out", "OUT", "--steps", "0"), "steps must be at least 1, got 0"),
        (("train", "DATA", "--out", "OUT", "--device", "abacus"), "abacus"),
        (("train", "DATA", "--out", "OUT", "--learning-rate", "-1"), "learning_rate must be a number of at least 0"),
        (("train", "DATA", "--out", "SHIPPED"), "holds a policy and nothing to go on from"),
        (("train", "DATA", "--out", "OUT", "--loss", "huber"), "loss must be one of l1, l2, got 'huber'"),
        (("train", "DATA", "--out", "OUT", "--schedule", "wavy"), "'wavy' is not one of scaled_linear"),
        (("train", "DATA", "--out", "CHECKPOINT", "--batch-size", "8"), "batch_size was 4, now 8"),
        (("train", "DATA", "--out", "CHECKPOINT", "--schedule", "flow_matching"), "now flow_matching"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: tuple[str, ...],
    expected: str,
    data: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {
        "SHIPPED": ROOT / "models" / "tabletop_small",
        "CHECKPOINT": checkpoint,
        "DATA": data,
        "OUT": tmp_path / "out",
    }
    assert command(*(places.get(word, word) for word in words)) == 2
    error = capsys.readouterr().err.strip()
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.rglob("*.npz"))
