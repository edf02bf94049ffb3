"""What an operator asks of the other nodes: gripper goals and the recorder's services, none of which is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from minidiffuser_ros.action import Gripper
from minidiffuser_ros.arm.teleop_input import Intent, TeleopSettings
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.srv import LabelEpisode, ResetSimulation, StartRecording

Note = Callable[[str], None]
SERVICES: dict[Intent, tuple[Any, str]] = {
    Intent.START: (StartRecording, "recorder/start"),
    Intent.SAVE: (Trigger, "recorder/stop"),
    Intent.DISCARD: (Trigger, "recorder/discard"),
    Intent.MARK: (Trigger, "recorder/mark_keypose"),
    Intent.UNDO: (Trigger, "recorder/undo_keypose"),
    Intent.SUCCESS: (LabelEpisode, "recorder/label"),
    Intent.FAILURE: (LabelEpisode, "recorder/label"),
    Intent.GUIDE: (SetBool, "arm/guide"),
    Intent.HOME: (Trigger, "arm/home"),
    Intent.RECOVER: (Trigger, "arm/recover"),
    Intent.LAYOUT: (ResetSimulation, "simulator/reset"),
}
LABELS = {Intent.SUCCESS: "success", Intent.FAILURE: "failure"}


class GripperToggle:
    """Opens and closes the gripper in turn. A toggle during a motion is kept and sent when that has ended."""

    def __init__(self, node: Node, group: CallbackGroup, note: Note) -> None:
        self._client = ActionClient(node, Gripper, "arm/gripper", callback_group=group)
        self._note = note
        self._wanted: float | None = None
        self._sent: float | None = None  # while a goal runs

    def toggle(self, opening: float) -> None:
        """Ask for the contrary of what was asked last; of `opening` [0, 1] before that."""
        if not self._client.server_is_ready():
            self._note("the arm node does not answer: the gripper cannot be moved")
            return
        before = opening if self._wanted is None else self._wanted
        self._wanted = 0.0 if before > 0.5 else 1.0
        if self._sent is None:
            self._send()

    def _send(self) -> None:
        self._sent = self._wanted
        self._note("the gripper opens" if self._sent else "the gripper closes")
        self._client.send_goal_async(Gripper.Goal(opening=self._sent)).add_done_callback(self._on_accepted)

    def _on_accepted(self, future: Future) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            self._end("the gripper goal was refused")
            return
        handle.get_result_async().add_done_callback(lambda answer: self._end(answer.result().result.message))

    def _end(self, message: str) -> None:
        sent, self._sent = self._sent, None
        self._note(message)
        if self._wanted != sent:
            self._send()


class Requests:
    """Sends each request to its service, and notes the answer or that nobody is there to give one.

    say: called with the sentence of a scene that was laid out in the simulation; episodes note its seed then.
    """

    def __init__(
        self,
        node: Node,
        group: CallbackGroup,
        settings: Callable[[], TeleopSettings],
        note: Note,
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._note, self._say = settings, note, say
        self._seed, self._asked_seed = -1, -1
        self._clients: dict[str, Client] = {}
        for kind, name in SERVICES.values():
            if name not in self._clients:
                self._clients[name] = node.create_client(kind, name, callback_group=group)

    def send(self, intent: Intent, value: bool = True, refused: Callable[[], None] = lambda: None) -> None:
        """Ask for it and return at once. value: what `Intent.GUIDE` asks for. refused: called where it is not done."""
        _, name = SERVICES[intent]
        if not self._clients[name].service_is_ready():
            self._note(f"nobody offers {name}: start the {name.split('/')[0]} node")
            refused()
            return
        future = self._clients[name].call_async(self._request(intent, value))
        future.add_done_callback(lambda answer: self._on_answer(name, answer, refused))

    def _request(self, intent: Intent, value: bool) -> Any:
        kind, _ = SERVICES[intent]
        if kind is StartRecording:
            s = self._settings()
            about = {"task": s.task, "instruction": s.instruction, "operator_name": s.operator}
            return StartRecording.Request(**about, variation=-1, seed=self._seed)
        if kind is ResetSimulation:
            self._asked_seed += 1
            return ResetSimulation.Request(task=self._settings().task, variation=-1, seed=self._asked_seed)
        if kind is LabelEpisode:
            return LabelEpisode.Request(outcome=LABELS[intent])
        return SetBool.Request(data=value) if kind is SetBool else kind.Request()

    def _on_answer(self, name: str, future: Future, refused: Callable[[], None]) -> None:
        answer = future.result()
        if answer is None or not answer.success:
            refused()
        if answer is None:
            self._note(f"{name} gave no answer")
            return
        if isinstance(answer, ResetSimulation.Response) and answer.success:
            self._seed = self._asked_seed
            self._say(answer.instruction)
            self._note(f"the scene asks: {answer.instruction}")
            return
        self._note(("" if answer.success else "refused: ") + (answer.message or name))
