"""What the subcommands share when they talk to the graph."""

from __future__ import annotations

import os
import signal

import pytest
from rclpy.context import Context
from rclpy.node import Node
from spinning import ros_context, spinning
from std_srvs.srv import Trigger

from minidiffuser_ros.bridge.calls import call
from minidiffuser_ros.bridge.graph_client import GraphClient
from minidiffuser_ros.cli.graph import StopRequest, free_domain
from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import ConnectionLostError
from minidiffuser_ros.srv import Capture

pytestmark = pytest.mark.ros


def test_a_domain_in_which_somebody_is_at_home_is_not_free() -> None:
    domain = free_domain()
    context = Context()
    context.init(domain_id=domain)
    node = Node("somebody", context=context)
    assert free_domain() != domain
    node.destroy_node()
    context.try_shutdown()


def test_the_first_ctrl_c_asks_and_the_second_one_leaves() -> None:
    told: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(lambda: told.append(True)) as stop:
        assert not stop.asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked()
        assert told == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_graph_the_user_is_told_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    assert main(["run", "push the red button", "--wait", "0.3"]) == 3
    assert "start the graph with: minidiffuser bringup policy" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("  ",), ("push the red button", "--max-keyposes", "-1")])
def test_bad_input_exits_with_2_before_anything_is_asked(arguments: tuple[str, ...]) -> None:
    assert main(["run", *arguments]) == 2


def test_a_node_that_is_missing_is_named() -> None:
    with (
        GraphClient(domain_id=free_domain()) as graph,
        pytest.raises(ConnectionLostError, match=r"'policy' was not ready within 0\.2 s: nobody of this name answers"),
    ):
        graph.wait_active(["policy"], 0.2)


def test_a_service_that_never_answers_is_given_up_in_time() -> None:
    with ros_context() as context:
        node = Node("user", context=context)
        mute = Node("mute", context=context)
        mute.create_service(Trigger, "mute/never", lambda request, response: response)
        client = node.create_client(Trigger, "mute/never")
        # Only the asking node is spun: the other one is there, and does not answer.
        with spinning(context, node), pytest.raises(ConnectionLostError, match=r"did not answer within 0\.5 s"):
            call(client, Trigger.Request(), 0.5)
        mute.destroy_node()


def test_a_service_that_nobody_offers_is_named() -> None:
    with ros_context() as context:
        node = Node("user", context=context)
        client = node.create_client(Capture, "observer/capture")
        with spinning(context, node), pytest.raises(ConnectionLostError, match=r"nobody offers .*observer/capture"):
            call(client, Capture.Request(), 0.2)
