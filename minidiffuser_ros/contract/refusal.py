"""Why something was refused: a sentence for people that carries a code for programs."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Reason(enum.StrEnum):
    """Codes of refusals and failures, as they stand in results, on `~/status` and in logs; never renamed.

    The first group: the goal is no goal. The second: it is not allowed. The third: not now. The last: it went wrong.
    """

    NOT_FINITE = "not_finite"
    NOT_A_ROTATION = "not_a_rotation"
    BAD_OPENING = "bad_opening"
    BAD_SPEED = "bad_speed"
    BAD_OFFSET = "bad_offset"
    UNKNOWN_FRAME = "unknown_frame"
    WRONG_UNIT = "wrong_unit"
    UNKNOWN_WAY = "unknown_way"

    OUTSIDE_WORKSPACE = "outside_workspace"
    BELOW_TABLE = "below_table"
    HAND_INTO_TABLE = "hand_into_table"
    TOO_FAR = "too_far"
    TOO_LARGE_TURN = "too_large_turn"
    UNREACHABLE = "unreachable"
    SINGULAR = "singular"
    ELBOW_FLIP = "elbow_flip"
    JOINT_LIMIT = "joint_limit"
    NO_LINE = "no_line"
    NO_PATH = "no_path"
    IN_COLLISION = "in_collision"

    STALE = "stale"
    FROM_THE_FUTURE = "from_the_future"
    UNDATED = "undated"
    BEFORE_LAST_MOTION = "before_last_motion"
    BUSY = "busy"
    MOVING = "moving"
    LENT = "lent"
    NOT_ACTIVE = "not_active"
    NOT_ENABLED = "not_enabled"
    STATE_STALE = "state_stale"
    USER_STOPPED = "user_stopped"
    GUIDED = "guided"
    REFLEX = "reflex"
    STOPPED = "stopped"
    DRY_RUN = "dry_run"
    NOT_CONFIRMED = "not_confirmed"
    CONNECTION_LOST = "connection_lost"

    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    POSE_MISSED = "pose_missed"
    WIDTH_MISSED = "width_missed"
    OBJECT_LOST = "object_lost"
    UNSETTLED = "unsettled"
    NO_TRAJECTORY = "no_trajectory"
    COMMAND_REFUSED = "command_refused"
    TIMED_OUT = "timed_out"


class Refusal(str):
    """One sentence against a goal, which joins and prints like any text; `code` says the same to a program."""

    code: Reason

    def __new__(cls, code: Reason, sentence: str) -> Refusal:
        refusal = super().__new__(cls, sentence)
        refusal.code = code
        return refusal

    def __getnewargs__(self) -> tuple[Reason, str]:  # type: ignore[override]
        return self.code, str(self)


def codes_of(sentences: Iterable[str]) -> list[str]:
    """The codes among sentences, in their order and each once; a sentence without one has none."""
    codes = [str(sentence.code) for sentence in sentences if isinstance(sentence, Refusal)]
    return list(dict.fromkeys(codes))
