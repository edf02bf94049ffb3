"""What a person asks of the policy node while it performs a sentence: start, stop, approve, reject, pause, step."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from minidiffuser_ros.bridge.approval import Approval
from minidiffuser_ros.bridge.worker import Worker
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.policy.supervision import Answer, Pacing


class PolicyRequests:
    """Services `~/start ~/stop ~/approve ~/reject ~/pause ~/step ~/set_dry_run` of a node.

    start() begins a run and says so, or raises MinidiffuserError. worker() performs the runs, None while there is none.
    """

    def __init__(
        self, node: Node, start: Callable[[], str], worker: Callable[[], Worker | None], group: CallbackGroup
    ) -> None:
        self.approval, self.pacing = Approval(), Pacing()
        self._node, self._start, self._worker = node, start, worker
        triggers = {
            "start": self._on_start,
            "stop": self._on_stop,
            "approve": lambda: self._on_answer(Answer.YES, "approved"),
            "reject": lambda: self._on_answer(Answer.NO, "rejected; the policy looks again and proposes another one"),
            "step": self._on_step,
        }
        for name, answer in triggers.items():
            node.create_service(Trigger, f"~/{name}", _trigger(answer), callback_group=group)
        for name, switch in {"set_dry_run": self._on_set_dry_run, "pause": self._on_pause}.items():
            node.create_service(SetBool, f"~/{name}", _switch(switch), callback_group=group)

    def approved(self, timeout_s: float, cancelled: Callable[[], bool]) -> Answer:
        """Ask whether a keypose may be sent; a pause withdraws the question."""
        return self.approval.wait(timeout_s, lambda: cancelled() or self.pacing.holds)

    def _on_start(self) -> tuple[bool, str]:
        try:
            return True, self._start()
        except MinidiffuserError as error:
            return False, str(error)

    def _on_stop(self) -> tuple[bool, str]:
        worker = self._worker()
        stopped = worker is None or worker.cancel()
        return stopped, "nothing runs any more" if stopped else "the run is still stopping"

    def _on_answer(self, answer: Answer, sentence: str) -> tuple[bool, str]:
        given = self.approval.give(answer)
        return given, sentence if given else "no keypose waits for approval"

    def _on_step(self) -> tuple[bool, str]:
        worker = self._worker()
        if worker is None or not worker.busy:
            return False, "nothing is being performed; start a run first"
        if not self.pacing.paused:
            return False, "the policy is not paused; call ~/pause first"
        given = self.pacing.step()
        return given, "one more keypose" if given else "a step is asked for already"

    def _on_pause(self, on: bool) -> tuple[bool, str]:
        if on:
            self.pacing.pause()
            return True, "paused: a motion under way is finished, none is begun"
        self.pacing.resume(int(self._node.get_clock().now().nanoseconds))
        return True, "not paused any more"

    def _on_set_dry_run(self, on: bool) -> tuple[bool, str]:
        (answer,) = self._node.set_parameters([Parameter("dry_run", value=on)])
        return answer.successful, answer.reason or f"dry_run is {'on' if on else 'off'}"


def _trigger(
    answer: Callable[[], tuple[bool, str]],
) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
    def respond(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = answer()
        return response

    return respond


def _switch(
    switch: Callable[[bool], tuple[bool, str]],
) -> Callable[[SetBool.Request, SetBool.Response], SetBool.Response]:
    def respond(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = switch(bool(request.data))
        return response

    return respond
