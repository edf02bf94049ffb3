"""The whole graph as real processes: simulator, arm over the Franka protocol, observer, policy, command line.

The policy is a scripted one that sees the point cloud alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_policy import with_scripted_policy
from spinning import own_domain

from minidiffuser_ros.bridge.graph_client import OPEN, GraphClient, Progress
from minidiffuser_ros.bringup import plan
from minidiffuser_ros.bringup_runner import ProcessGroup, ProcessSpec, process_of
from minidiffuser_ros.cli.live import NODES
from minidiffuser_ros.contract.errors import ConnectionLostError

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
ADDRESS = f"127.0.{1 + os.getpid() % 250}.7"


def graph_processes(domain: int) -> list[ProcessSpec]:
    # The scripted policy loads nothing; the bring-up wants an existing folder.
    values = {"checkpoint": str(ROOT / "config"), "sim_address": ADDRESS, "speed": "0.6"}
    specs = [with_scripted_policy(process_of(node)) for node in plan("policy", values)]
    return [replace(s, environment={**s.environment, "ROS_DOMAIN_ID": str(domain)}) for s in specs]


class Graph:
    """A running graph with the scripted policy."""

    def __init__(self, client: GraphClient, group: ProcessGroup, lines: list[str]) -> None:
        self.client, self.group, self.lines = client, group, lines

    def lay_out(self, task: str, seed: int) -> str:
        self.client.drive_gripper(OPEN)
        self.client.home()
        sentence = self.client.reset_simulation(task, seed)
        time.sleep(0.8)
        return sentence

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(own_domain())}
        command = [sys.executable, "-m", "minidiffuser_ros.cli.main", *arguments]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    lines: list[str] = []
    with (
        ProcessGroup(graph_processes(own_domain()), lines.append) as group,
        GraphClient("end_to_end", domain_id=own_domain()) as client,
    ):
        try:
            client.wait_active(NODES, 60.0)
        except ConnectionLostError as error:
            pytest.fail(f"{error}\n" + "\n".join(lines))
        yield Graph(client, group, lines)


def test_a_sentence_on_the_command_line_moves_the_arm_until_the_task_is_done(graph: Graph) -> None:
    sentence = graph.lay_out("push_button", 100000)
    process = graph.command("run", sentence, "--seed", "1")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "done: " in output
    assert "gripper closed" in output
    assert output.count(" m, gripper") == 2


def test_every_keypose_of_a_run_is_told_with_the_time_each_stage_took(graph: Graph) -> None:
    sentence = graph.lay_out("push_button", 100001)
    told: list[Progress] = []
    outcome = graph.client.run_policy(sentence, seed=3, on_progress=told.append)
    assert outcome.success, outcome.message
    assert len(outcome.decisions) == 2
    for record in outcome.decisions:
        assert record.lift_ms > 1.0
        assert record.move_ms > 200.0
        assert record.candidates == 6
    stamps = [record.stamp_ns for record in outcome.decisions]
    assert all(np.diff(stamps) > 0.2e9)
    assert {progress.stage for progress in told} >= {"observing", "inferring", "moving"}


def test_ctrl_c_stops_the_arm_and_the_graph_stays_usable(graph: Graph) -> None:
    sentence = graph.lay_out("push_button", 100002)
    process = graph.command("run", sentence)
    assert process.stdout is not None
    assert "  1  (" in process.stdout.readline()
    # The second motion has begun: it takes more than a second.
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1, output
    assert "cancelled: " in output
    # The arm takes goals again at once.
    graph.client.home()


def test_a_sentence_the_policy_cannot_use_fails_with_its_reason(graph: Graph) -> None:
    graph.lay_out("push_button", 100004)
    process = graph.command("run", "push the black button")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1, output
    assert "failed: only buttons and blocks of known colours are understood" in output


def test_a_simulator_that_dies_in_mid_run_ends_the_run_with_a_reason(graph: Graph) -> None:
    """The last test of this graph: it breaks it."""
    sentence = graph.lay_out("stack_pair", 100005)
    victims = [r.process for r in graph.group._running if r.spec.name == "simulator"]
    killed: list[float] = []

    def kill_at_second_keypose(progress: Progress) -> None:
        if progress.index == 1 and progress.stage == "moving" and not killed:
            killed.append(time.monotonic())
            victims[0].kill()

    outcome = graph.client.run_policy(sentence, on_progress=kill_at_second_keypose)
    assert killed
    assert time.monotonic() - killed[0] < 30.0
    assert not outcome.success
    assert len(outcome.message) > 10
    assert graph.group.ended() == ("simulator", -signal.SIGKILL)
