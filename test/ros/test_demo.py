"""`minidiffuser demo` as a user runs it, with a scripted policy that needs no training, and with the shipped one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from marked import ROOT, marked_processes, start_marked
from PIL import Image
from scripted_policy import with_scripted_policy
from spinning import eventually

import minidiffuser_ros.cli.live
from minidiffuser_ros.action import ExecuteKeypose
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.calls import perform, succeeded
from minidiffuser_ros.bridge.graph_client import CLOSED, OPEN, GraphClient
from minidiffuser_ros.bridge.poses import keypose_to_message
from minidiffuser_ros.bringup_runner import ProcessSpec
from minidiffuser_ros.cli.demo import TASKS
from minidiffuser_ros.cli.live import NODES, LiveTable
from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.simulation.tabletop import DEFAULT_SPEC, shared_world
from minidiffuser_ros.simulation.tasks.base import down, smallest_yaw
from minidiffuser_ros.simulation.tasks.slide_block_to_target import BAYS

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(240)]


class ScriptedTable(LiveTable):
    """The graph as shipped, but for the policy."""

    def processes(self, domain: int) -> list[ProcessSpec]:
        return [with_scripted_policy(spec) for spec in super().processes(domain)]


def start_demo(out: Path, *arguments: str, scripted: bool = True) -> subprocess.Popen[str]:
    """Start `minidiffuser demo`, marked."""
    program = [str(Path(__file__))] if scripted else ["-m", "minidiffuser_ros.cli.main"]
    # The scripted policy loads nothing; the bring-up wants an existing folder.
    checkpoint = ["--checkpoint", str(ROOT / "config")] if scripted else []
    return start_marked(*program, "demo", "--out", str(out), *checkpoint, *arguments)


def test_the_demo_plays_its_tasks_in_turn_and_leaves_results_and_no_process(tmp_path: Path) -> None:
    process = start_demo(tmp_path, "--episodes", "2", "--require", "1.0")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "2 of 2 succeeded" in output
    assert marked_processes() == []
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [episode["task"] for episode in summary["episodes"]] == ["push_button", "stack_pair"]
    assert all(episode["latency_ms"]["move"] > 100 for episode in summary["episodes"])
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.width > 6 * 400
    assert "[arm]" in (tmp_path / "graph.log").read_text()


def test_an_evaluation_through_the_graph_is_counted_beside_the_expert(tmp_path: Path) -> None:
    report = tmp_path / "live.json"
    live = ("evaluate", "models/tabletop_small", "--live", "--tasks", "push_button", "--episodes", "1")
    process = start_marked(str(Path(__file__)), *live, "--json", str(report))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert marked_processes() == []
    found = json.loads(report.read_text())
    assert (found["live"], found["first_seed"], found["tasks"]["push_button"]["success"]) == (True, 200000, 1.0)
    assert found["expert"]["push_button"]["success"] == 1.0


def close_into_a_bay(graph: GraphClient, seed: int) -> None:
    """The closed hand, down between the walls of a bay of `slide_block_to_target`."""
    world = shared_world(DEFAULT_SPEC)
    world.reset("slide_block_to_target", seed)
    (x, y, _), yaw = world.stage.position(BAYS[1]), smallest_yaw(world.stage.yaw(BAYS[1]), 2)
    graph.reset_simulation("slide_block_to_target", seed)
    execute = ActionClient(graph.node, ExecuteKeypose, "arm/execute_keypose")
    for height in (0.15, 0.022):
        goal = ExecuteKeypose.Goal(keypose=keypose_to_message(down(x, y, height, CLOSED, yaw), "", 0))
        status, result = perform(execute, "arm/execute_keypose", goal, 10.0)
        assert succeeded(status), result.message
    execute.destroy()


def test_a_hand_without_room_to_open_does_not_spoil_the_next_scene(tmp_path: Path) -> None:
    with ScriptedTable(str(ROOT / "config"), 0.5, tmp_path / "graph.log") as table:
        close_into_a_bay(table._graph, 200000)
        with pytest.raises(MotionError, match=r"the gripper opened to \d+ mm instead of 80 mm"):
            table._graph.drive_gripper(OPEN)
        run = table.play("push_button", 200000)
    assert run.report.success, run.report.message


def test_ctrl_c_ends_the_demo_and_everything_it_started(tmp_path: Path) -> None:
    process = start_demo(tmp_path)
    log = tmp_path / "graph.log"
    eventually(lambda: log.is_file() and "loaded" in log.read_text(), 40.0)
    assert len(marked_processes()) == 1 + len(NODES)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert marked_processes() == []


def test_a_checkpoint_that_is_none_ends_the_demo_with_the_nodes_own_words(tmp_path: Path) -> None:
    pytest.importorskip("minidiffuser_ros.policy.policy")
    empty = tmp_path / "empty"
    empty.mkdir()
    process = start_demo(tmp_path / "out", "--checkpoint", str(empty), scripted=False)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1, output
    assert str(empty) in output
    assert marked_processes() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--checkpoint", "/nowhere"),
        ("--episodes", "0"),
        ("--require", "1.5"),
        ("--seed", "-1"),
        ("--tasks", "push_button", "fly"),
    ],
)
def test_bad_input_starts_nothing_and_exits_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_the_shipped_policy_performs_sentences_of_several_tasks(tmp_path: Path) -> None:
    process = start_demo(tmp_path, "--episodes", "4", "--require", "0.75", scripted=False)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    episodes = json.loads((tmp_path / "summary.json").read_text())["episodes"]
    # One of them may fail: the policy is measured elsewhere, here the graph is.
    assert [episode["task"] for episode in episodes] == list(TASKS[:4])
    assert sum(episode["success"] for episode in episodes) >= 3
    assert all(episode["latency_ms"]["denoise"] > 0.0 for episode in episodes)


if __name__ == "__main__":
    minidiffuser_ros.cli.live.LiveTable = ScriptedTable  # type: ignore[misc]
    sys.exit(main())
