"""What the arm node says of itself: `~/status`, and what stands on `/diagnostics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.arm.protocol import ArmMode
from minidiffuser_ros.arm.settings import MotionSettings
from minidiffuser_ros.bridge.conversions import header, stamp_from_ns
from minidiffuser_ros.bridge.diagnostics import Level
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.qos import LATCHED
from minidiffuser_ros.contract.refusal import Reason, Refusal, codes_of
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm_goals import GoalRunner

# What a person has to look at before the arm may move again.
BLOCKING = {
    ArmMode.ERROR: Refusal(Reason.REFLEX, "the arm is in a reflex: clear its way, then call ~/recover"),
    ArmMode.STOPPED: Refusal(
        Reason.USER_STOPPED, "the arm was stopped by its user: release the stop and the brakes, then call ~/recover"
    ),
}


class StatusBoard:
    """blocked: why nothing moves until `~/recover`. settled_ns: when the last motion had ended and settled."""

    def __init__(self, node: ManagedNode, motion: NodeParameters[MotionSettings]) -> None:
        self._node, self._motion = node, motion
        self._publisher = node.create_publisher(ArmStatus, "~/status", LATCHED)
        self.blocked: Refusal | None = None
        self.settled_ns = 0

    def publish(self, state: int, message: str, codes: Sequence[str] = ()) -> None:
        """Say so."""
        motion = self._motion.value
        status = ArmStatus(state=state, message=str(message), codes=list(codes))
        status.speed, status.dry_run = motion.speed, motion.dry_run
        now_ns = int(self._node.get_clock().now().nanoseconds)
        status.header, status.settled_at = header(BASE_FRAME, now_ns), stamp_from_ns(self.settled_ns)
        self._publisher.publish(status)

    def block(self, reason: Refusal) -> None:
        """Nothing moves from now on; what blocked it first stays to be read."""
        if self.blocked is None:
            self.blocked = reason
            self._node.get_logger().error(reason)
            self.publish(ArmStatus.ERROR, reason, codes_of([reason]))

    def tell(self, message: str, codes: Sequence[str], runner: GoalRunner | None) -> None:
        """Publish the news in the state that the arm is in, unless it is stopped or lost: that stays to be read."""
        if self._node.is_active and self.blocked is None and runner is not None:
            moving = runner.goals.lent or runner.goals.busy
            self.publish(ArmStatus.MOVING if moving else ArmStatus.IDLE, message, codes)

    def tell_stale(self, reason: Refusal | None, runner: GoalRunner | None) -> None:
        """Readings have stopped coming, which ends what runs; with None: they come again."""
        if reason is None:
            self.tell("the arm can be read again", (), runner)
            return
        self._node.get_logger().error(reason)
        if runner is not None:
            runner.goals.halt()
        if self.blocked is None:
            self.publish(ArmStatus.ERROR, reason, codes_of([reason]))

    def condition(self, objections: list[str], runner: GoalRunner | None) -> tuple[Level, str, Mapping[str, object]]:
        """Level, sentence and values for `/diagnostics`."""
        motion, last = self._motion.value, runner.last if runner is not None else None
        values = {
            "active": self._node.is_active,
            "blocked": self.blocked or "no",
            "in use": (runner.goals.lent or ("executes a goal" if runner.goals.busy else "no")) if runner else "no",
            "speed": motion.speed,
            "dry run": motion.dry_run,
            "last outcome": last.message if last else "none",
            "codes": " ".join(last.codes) if last else "",
        }
        if self.blocked is not None:
            return Level.ERROR, self.blocked, values
        return (Level.WARN, "; ".join(objections), values) if objections else (Level.OK, "ready", values)
