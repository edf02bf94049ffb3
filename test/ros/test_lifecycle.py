"""The base of the nodes as a real node: transitions, failures half way, one teardown, and a clean process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from spinning import eventually, spinning

from minidiffuser_ros.bridge.lifecycle import EXIT_CRASH, EXIT_USER_ERROR, ManagedNode
from minidiffuser_ros.contract.errors import ConfigurationError

pytestmark = pytest.mark.ros


class Probe(ManagedNode):
    """Writes down which hooks ran; `fail` says in which hook to raise what."""

    def __init__(self, context: Context, fail: dict[str, Exception] | None = None, autostart: bool = False) -> None:
        super().__init__("probe", context=context, parameter_overrides=[Parameter("autostart", value=autostart)])
        self.calls: list[str] = []
        self._fail = fail or {}

    def _ran(self, name: str) -> None:
        self.calls.append(name)
        if name in self._fail:
            raise self._fail[name]

    def configure(self) -> None:
        self._ran("configure")

    def activate(self) -> None:
        self._ran("activate")

    def deactivate(self) -> None:
        self._ran("deactivate")

    def cleanup(self) -> None:
        self._ran("cleanup")


def state_of(node: ManagedNode) -> str:
    return str(node._state_machine.current_state[1])


@pytest.fixture
def client(context: Context) -> Node:
    return Node("client", context=context)


def test_a_lifecycle_manager_takes_it_through_all_states(context: Context, client: Node) -> None:
    probe = Probe(context)
    with spinning(context, probe, client):
        change = client.create_client(ChangeState, "/probe/change_state")
        get = client.create_client(GetState, "/probe/get_state")
        assert change.wait_for_service(10.0)
        assert get.wait_for_service(10.0)
        for transition, state in [
            (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
            (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
            (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
            (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        ]:
            request = ChangeState.Request(transition=Transition(id=transition))
            done = change.call_async(request)
            eventually(done.done)
            assert done.result().success
            answer = get.call_async(GetState.Request())
            eventually(answer.done)
            assert answer.result().current_state.id == state
        assert probe.calls == ["configure", "activate", "deactivate", "cleanup"]


def test_it_starts_itself_without_a_manager(context: Context) -> None:
    probe = Probe(context, autostart=True)
    with spinning(context, probe):
        eventually(lambda: state_of(probe) == "active")
        assert probe.is_active
    assert probe.calls == ["configure", "activate", "deactivate", "cleanup"]
    assert probe.stop_reason == "the test is over"


def test_a_configure_that_fails_is_cleaned_up_and_tells_why(context: Context) -> None:
    probe = Probe(context, {"configure": ConfigurationError("no checkpoint")})
    assert probe.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert (probe.calls, state_of(probe)) == (["configure", "cleanup"], "unconfigured")
    assert probe.stop_reason == "no checkpoint"
    probe.destroy_node()


def test_an_activate_that_fails_is_deactivated_and_stays_configured(context: Context) -> None:
    probe = Probe(context, {"activate": ConfigurationError("no arm")})
    probe.trigger_configure()
    assert probe.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert (probe.calls, state_of(probe)) == (["configure", "activate", "deactivate"], "inactive")
    assert not probe.is_active
    probe.destroy_node()


def test_a_defect_in_a_hook_leaves_nothing_up_and_the_node_usable(context: Context) -> None:
    probe = Probe(context, {"activate": ZeroDivisionError()})
    probe.trigger_configure()
    assert probe.trigger_activate() == TransitionCallbackReturn.ERROR
    assert (probe.calls, state_of(probe)) == (["configure", "activate", "deactivate", "cleanup"], "unconfigured")
    assert probe.trigger_configure() == TransitionCallbackReturn.SUCCESS
    probe.destroy_node()


@pytest.mark.parametrize(
    ("error", "exit_code"), [(ConfigurationError("fix me"), EXIT_USER_ERROR), (ZeroDivisionError(), EXIT_CRASH)]
)
def test_a_failed_autostart_asks_the_process_to_end(context: Context, error: Exception, exit_code: int) -> None:
    probe = Probe(context, {"configure": error}, autostart=True)
    with spinning(context, probe):
        assert probe.ended.wait(10.0)
        assert probe.exit_code == exit_code
        assert probe.calls == ["configure", "cleanup"]


def test_one_broken_part_does_not_keep_the_rest_from_being_freed(context: Context) -> None:
    probe = Probe(context, {"deactivate": RuntimeError("stuck")})
    probe.trigger_configure()
    probe.trigger_activate()
    probe.teardown("over")
    probe.teardown("again")
    assert probe.calls == ["configure", "activate", "deactivate", "cleanup"]
    assert probe.stop_reason == "over"
    probe.destroy_node()


def test_a_teardown_waits_for_the_hook_that_runs(context: Context) -> None:
    inside, release = threading.Event(), threading.Event()

    class Slow(Probe):
        def configure(self) -> None:
            inside.set()
            release.wait(10.0)
            super().configure()

    probe = Slow(context)
    configuring = threading.Thread(target=probe.trigger_configure)
    configuring.start()
    inside.wait(10.0)
    stopping = threading.Thread(target=probe.teardown, args=("over",))
    stopping.start()
    stopping.join(0.1)
    assert probe.calls == []
    release.set()
    configuring.join(10.0)
    stopping.join(10.0)
    assert probe.calls == ["configure", "cleanup"]
    probe.destroy_node()


PROGRAM = """
import sys, time
from std_msgs.msg import String
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import LATCHED
from minidiffuser_ros.contract.errors import ConfigurationError

class Program(ManagedNode):
    def __init__(self):
        if "refuse" in sys.argv:
            raise ConfigurationError("refused by the test")
        super().__init__("program")
        self.out = self.create_publisher(String, "out", LATCHED)
    def activate(self):
        print("active", flush=True)
        if "callback" in sys.argv:
            self.create_timer(0.01, lambda: 1 / 0)
        if "end" in sys.argv:
            self.end("the arm is gone", 2)
    def deactivate(self):
        self.out.publish(String(data=self.stop_reason))  # raises once the context is invalid
        print("deactivated:", self.stop_reason, flush=True)

sys.exit(run_node(Program))
"""


def start_program(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "asked to terminate")])
def test_a_node_that_is_asked_to_end_can_still_publish_and_exits_0(number: signal.Signals, reason: str) -> None:
    program = start_program()
    assert program.stdout is not None
    assert program.stdout.readline() == "active\n"
    os.kill(program.pid, number)
    out, err = program.communicate(timeout=15)
    assert program.returncode == 0, err
    assert out == f"deactivated: {reason}\n"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("word", "exit_code", "told"),
    [
        ("refuse", EXIT_USER_ERROR, "refused by the test"),
        ("callback", EXIT_CRASH, "ZeroDivisionError"),
        ("end", 2, "the arm is gone"),
    ],
)
def test_what_ends_a_node_shows_in_its_exit_code_and_its_log(word: str, exit_code: int, told: str) -> None:
    program = start_program(word)
    _, err = program.communicate(timeout=15)
    assert program.returncode == exit_code
    assert told in err
