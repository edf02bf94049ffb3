"""How goals end, and the phases they go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minidiffuser_ros.contract.errors import ConnectionLostError, GoalRejectedError, MinidiffuserError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, codes_of

OnPhase = Callable[[str], None]
CHECKING, PLANNING, MOVING, APPROACHING = "checking", "planning", "moving", "approaching"
SETTLING, GRIPPER, VERIFYING, RETREATING = "settling", "gripper", "verifying", "retreating"


@dataclass(frozen=True)
class Outcome:
    """How a goal ended. `reached` is what was read at rest, absent where the arm could not be read.

    width: metres between the fingers at the end; a grasp is judged by it. settled_ns: when the arm was at rest, on
    the executor's clock; 0 where nothing moved. codes: of what was against it or went wrong, as in `Reason`; empty
    with success. attempts: motions begun towards the keypose.
    """

    success: bool
    message: str
    reached: Keypose | None = None
    position_error: float = 0.0
    rotation_error_deg: float = 0.0
    width: float = 0.0
    duration_s: float = 0.0
    settled_ns: int = 0
    codes: tuple[str, ...] = ()
    attempts: int = 0


def codes_of_error(error: MinidiffuserError) -> tuple[str, ...]:
    """The codes that an error carries."""
    if isinstance(error, GoalRejectedError):
        return tuple(codes_of(error.reasons))
    if isinstance(error, MotionError):
        return tuple(codes_of([error.reason]))
    return (str(Reason.CONNECTION_LOST),) if isinstance(error, ConnectionLostError) else ()
