"""The card says what the files of a checkpoint say."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from minidiffuser_ros.cli.main import build_parser
from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.evaluation.model_card import reports_in, write_model_card
from minidiffuser_ros.policy.checkpoint import PolicyConfig, save_checkpoint
from minidiffuser_ros.policy.pruned import PRUNER, PrunedConfig

RATE = {"success": 0.5, "low": 0.4, "high": 0.6, "n": 10}
EXPERT = {"success": 1.0, "low": 0.9, "high": 1.0, "n": 10}
SHARES = {"within_1cm": 0.125, "within_2cm": 0.25, "gripper_right": 0.75, "steps": 64}


def report(**values: Any) -> dict[str, Any]:
    tasks = values.pop("tasks", {"push_button": RATE})
    expert = dict.fromkeys(tasks, EXPERT)
    return {"shift": "none", "live": False, "first_seed": 100000, "tasks": tasks, "expert": expert, **values}


def checkpoint(folder: Path, config: dict[str, Any] | None = None, **held_out: Any) -> Path:
    schedule = ScheduleConfig(beta_schedule="flow_matching")
    save_checkpoint(folder, PolicyConfig(schedule=schedule), {})
    record = {
        "config": {"batch_size": 32, "num_samples": 64, "learning_rate": 2e-3, "threads": 1, **(config or {})},
        "steps": 2000, "minutes": 60.0, "device": "cpu", "parameters": 4_700_000,
        "demonstrations": {"push_button": 800}, "keypose_steps": 3200, "held_out": held_out,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record))
    return folder


def test_the_card_names_the_held_out_shares_of_the_training(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, **SHARES, rotation_within_5deg=0.625, tasks={})
    assert (
        "On 64 held-out keyposes 12.5% of the sampled positions lie within 1 cm of the expert's, 25.0% within 2 cm; "
        "the rotation is within 5° of the expert's in 62.5%, the gripper is right in 75.0%."
    ) in write_model_card(folder, [report()]).read_text()


def test_the_card_tells_threads_and_processes_of_the_training(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"threads": 2})
    assert "60 minutes on cpu with 2 threads. Dem" in write_model_card(folder, [report()]).read_text()
    record = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps({**record, "processes": 4}))
    assert "60 minutes on cpu with 4 processes of 2 threads. Dem" in write_model_card(folder, [report()]).read_text()


def test_scenes_that_may_have_been_trained_on_are_not_called_unseen(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    texts = [write_model_card(folder, [report(first_seed=seed)]).read_text() for seed in (0, 100000)]
    assert ["none of them used in training" in text for text in texts] == [False, True]


def test_evaluations_under_shifts_and_through_the_graph_stand_side_by_side(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    worse = {"push_button": {**RATE, "success": 0.25, "n": 4}}
    others = [report(shift="camera", tasks=worse), report(live=True)]
    lines = write_model_card(folder, [report(), *others]).read_text().splitlines()
    assert "| task | camera | through the graph |" in lines
    assert "| push_button | 25% | 50% |" in lines
    assert "| episodes a task | 4 | 10 |" in lines


def test_the_means_are_over_tasks(tmp_path: Path) -> None:
    tasks = {"push_button": {**RATE, "n": 90}, "turn_tap": {**RATE, "success": 1.0}}
    text = write_model_card(checkpoint(tmp_path), [report(tasks=tasks)]).read_text()
    assert "| mean | 75.0% | | | 100.0% |" in text


def test_the_reports_of_a_folder_are_gathered_the_newest_of_each_kind_and_the_plain_one_first(tmp_path: Path) -> None:
    plain, camera, newest = report(), report(shift="camera"), report(shift="camera", first_seed=7)
    for name, content in (("eval.json", plain), ("eval_camera.json", camera), ("eval_live.json", report(live=True))):
        (tmp_path / name).write_text(json.dumps(content))
    assert reports_in(tmp_path, newest) == [plain, newest, report(live=True)]


@pytest.mark.parametrize("content", ["[]", "{}", '{"tasks": {}, "expert": {}}', "no json"])
def test_a_file_that_is_no_report_is_refused_naming_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "eval_mine.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"eval_mine\.json is not what `minidiffuser evaluate` writes"):
        reports_in(tmp_path, report())


def test_the_commands_that_are_quoted_are_commands_and_say_what_was_set(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"start": "models/other", "steps": 700, "batch_size": 8})
    live = report(live=True, tasks={"push_button": RATE, "turn_tap": RATE})
    text = write_model_card(folder, [report(shift="looks"), live], "make policy-mine").read_text()
    assert "    make policy-mine\n" in text
    quoted = [line.strip() for line in text.splitlines() if line.startswith("    minidiffuser ")]
    words = [shlex.split(line)[1:] for line in quoted]
    train, looks, graph = (build_parser(line[0]).parse_args(line) for line in words)
    assert (train.start, train.steps, train.batch_size, train.threads) == ("models/other", 700, 8, 1)
    assert train.schedule == "flow_matching"
    assert (looks.shift, looks.live, looks.episodes, looks.seed) == ("looks", False, 10, 100000)
    assert (graph.live, graph.tasks) == (True, ["push_button", "turn_tap"])


def test_a_pruner_beside_the_policy_is_named_with_its_command(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    assert "A pruner" not in write_model_card(folder, [report()]).read_text()
    save_checkpoint(folder / PRUNER, PrunedConfig("hash", 8, 0.6, False, SamplerConfig("ddim", 10)), {})
    text = write_model_card(folder, [report()]).read_text()
    assert "60% of the denoiser's branches are reused instead of computed, in a walk of 10 DDIM steps" in text
    (line,) = [line.strip() for line in text.splitlines() if line.startswith("    minidiffuser prune")]
    prune = build_parser("prune").parse_args(shlex.split(line)[1:])
    assert (prune.rate, prune.sampler, prune.sampler_steps, prune.own_buffers) == (0.6, "ddim", 10, True)
    used = {"steps": 40, "batch_size": 16, "learning_rate": 0.001, "fraction": 0.5, "teacher": "policy", "seed": 3}
    (folder / PRUNER / "training.json").write_text(json.dumps({"config": used}))
    (line,) = [
        line.strip() for line in write_model_card(folder, [report()]).read_text().splitlines() if "prune P" in line
    ]
    prune = vars(build_parser("prune").parse_args(shlex.split(line)[1:]))
    assert {name: prune[name] for name in used} == used


def test_a_card_counts_what_the_weights_that_it_began_with_had_taken(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"start": "runs/begun"})
    record = json.loads((folder / "training.json").read_text()) | {"before": {"steps": 5000, "minutes": 123.4}}
    (folder / "training.json").write_text(json.dumps(record))
    text = write_model_card(folder, [report()]).read_text()
    assert "2000 steps from the weights of begun, trained for 5000 steps and 123 minutes before, of B = 32" in text


def test_a_folder_without_a_record_is_refused_saying_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, PolicyConfig(), {})
    with pytest.raises(CheckpointError, match=r"training\.json does not say how the policy was trained"):
        write_model_card(tmp_path, [report()])
