"""What an operator wants, whatever device it comes from: a motion while a deadman is held, and single requests.

A device answers `read` with a `Reading`; it never waits. Motions are fractions of the operator's speed, in [-1, 1].
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from minidiffuser_ros.arm.protocol import Array
from minidiffuser_ros.contract.errors import ConfigurationError, require_positive

DEVICES = ("keyboard", "joystick", "spacemouse", "guiding")
ESCAPE_S = 0.05  # an escape character that nothing follows for this long is the key itself
LONGEST_SEQUENCE = 8
STEP = 1.25  # of the speed, per key
SLOWEST, FASTEST = 0.1, 2.5  # of the operator's speed


class Intent(enum.Enum):
    """A single request; each one is told once per press."""

    GRIPPER = "open or close the gripper"
    START = "start recording"
    SAVE = "stop and save"
    DISCARD = "discard"
    MARK = "mark a keypose"
    UNDO = "undo the last mark"
    SUCCESS = "label: success"
    FAILURE = "label: failure"
    FASTER = "faster"
    SLOWER = "slower"
    AXES = "axes of base or tool"
    LAYOUT = "lay out the next scene of the simulation"
    HOME = "go home"
    RECOVER = "recover the arm"
    LET_GO = "let go at once"
    GUIDE = "lead by hand, on or off"
    HELP = "this help"


@dataclass(frozen=True)
class Reading:
    """twist [6]: fractions, linear above angular. held: the deadman is. intents: in the order of their keys."""

    twist: Array = field(default_factory=lambda: np.zeros(6))
    held: bool = False
    intents: tuple[Intent, ...] = ()


class Device(Protocol):
    """Where an operator's hands are."""

    def read(self) -> Reading:
        """What is wanted now; returns at once. Raises ConnectionLostError where the device is gone."""
        ...

    def close(self) -> None:
        """Leave everything as it was found; harmless when called twice."""
        ...


@dataclass(frozen=True)
class JoystickMapping:
    """Numbers of axes and buttons, as SDL counts them; -1: none. The defaults are those of an Xbox pad."""

    axes: tuple[int, ...] = field(
        default=(1, 0, 4, -1, -1, 3), metadata={"description": "Axes for x, y, z and the turns about them"}
    )
    signs: tuple[float, ...] = field(
        default=(-1.0, -1.0, -1.0, 1.0, 1.0, -1.0), metadata={"description": "Their directions, 1.0 or -1.0"}
    )
    dead_zone: float = field(
        default=0.12, metadata={"description": "Part of each axis that counts as centre", "range": (0.0, 0.9)}
    )
    deadman: int = field(default=5, metadata={"description": "Button to hold while moving"})
    gripper: int = field(default=0, metadata={"description": "Button: open or close the gripper"})
    discard: int = field(default=1, metadata={"description": "Button: discard"})
    mark: int = field(default=2, metadata={"description": "Button: mark a keypose"})
    undo: int = field(default=3, metadata={"description": "Button: undo the last mark"})
    save: int = field(default=6, metadata={"description": "Button: stop and save"})
    start: int = field(default=7, metadata={"description": "Button: start recording"})
    success: int = field(default=-1, metadata={"description": "Button: label success"})
    failure: int = field(default=-1, metadata={"description": "Button: label failure"})

    def __post_init__(self) -> None:
        if len(self.axes) != 6 or len(self.signs) != 6:
            raise ConfigurationError(
                f"a joystick's mapping needs six axes and six signs, got {len(self.axes)} and {len(self.signs)}"
            )
        if self.deadman < 0:
            raise ConfigurationError("a joystick needs a deadman: set its button to 0 or above")

    @property
    def buttons(self) -> dict[int, Intent]:
        """Intents of the buttons that have one."""
        pairs = {
            Intent.GRIPPER: self.gripper,
            Intent.DISCARD: self.discard,
            Intent.MARK: self.mark,
            Intent.UNDO: self.undo,
            Intent.SAVE: self.save,
            Intent.START: self.start,
            Intent.SUCCESS: self.success,
            Intent.FAILURE: self.failure,
        }
        return {button: intent for intent, button in pairs.items() if button >= 0}


@dataclass(frozen=True)
class TeleopSettings:
    """Device, speeds, and what is written into the episodes that the operator records."""

    device: str = field(default="keyboard", metadata={"description": "What drives the arm", "choices": DEVICES})
    linear: float = field(
        default=0.1, metadata={"description": "Speed of the tool", "unit": "m/s", "range": (0.005, 0.25)}
    )
    angular: float = field(
        default=0.4, metadata={"description": "Turning speed", "unit": "rad/s", "range": (0.02, 1.0)}
    )
    rate: float = field(default=40.0, metadata={"description": "Twists a second", "unit": "Hz", "range": (30.0, 50.0)})
    key_hold_s: float = field(
        default=0.35,
        metadata={"description": "A key counts as held for this long after its last repeat", "unit": "s"}
        | {"range": (0.05, 0.4)},
    )
    task: str = field(default="teleoperation", metadata={"description": "Task of recorded episodes"})
    instruction: str = field(default="", metadata={"description": "Sentence that the episodes answer"})
    operator: str = field(default="", metadata={"description": "Who demonstrates"})
    joystick: JoystickMapping = field(default_factory=JoystickMapping)

    def __post_init__(self) -> None:
        require_positive(self, ("linear", "angular", "rate", "key_hold_s"))


MOTION_KEYS: dict[str, tuple[int, float]] = {
    "up": (0, 1.0),
    "down": (0, -1.0),
    "left": (1, 1.0),
    "right": (1, -1.0),
    "page up": (2, 1.0),
    "page down": (2, -1.0),
    "e": (2, 1.0),
    "d": (2, -1.0),
    "y": (3, 1.0),
    "h": (3, -1.0),
    "t": (4, 1.0),
    "g": (4, -1.0),
    "a": (5, 1.0),
    "f": (5, -1.0),
}
INTENT_KEYS: dict[str, Intent] = {
    " ": Intent.GRIPPER,
    "r": Intent.START,
    "s": Intent.SAVE,
    "x": Intent.DISCARD,
    "k": Intent.MARK,
    "u": Intent.UNDO,
    "1": Intent.SUCCESS,
    "0": Intent.FAILURE,
    "+": Intent.FASTER,
    "=": Intent.FASTER,
    "-": Intent.SLOWER,
    "b": Intent.AXES,
    "n": Intent.LAYOUT,
    "o": Intent.HOME,
    "c": Intent.RECOVER,
    "esc": Intent.LET_GO,
    ".": Intent.LET_GO,
    "?": Intent.HELP,
}
GUIDING_KEYS = INTENT_KEYS | {"\n": Intent.GUIDE, "\r": Intent.GUIDE}
SEQUENCES = {
    b"[A": "up", b"[B": "down", b"[C": "right", b"[D": "left", b"[5~": "page up", b"[6~": "page down",
    b"OA": "up", b"OB": "down", b"OC": "right", b"OD": "left",
}  # fmt: skip

HELP = """\
hold to move    arrows: x and y    e d, page keys: z    y h, t g, a f: turn about x, y, z    Esc or . lets go
once            space: gripper     + -: speed           b: axes of base or tool
scene, arm      n: next layout of the simulation        o: go home    c: recover the arm after an error
recording       r: start           s: stop and save     x: discard    k: mark a keypose    u: undo the mark
afterwards      1: success         0: failure           ?: this help  Ctrl-C: end
"""
GUIDING_HELP = """\
Enter: lead the arm by hand, on or off    space: gripper
scene, arm      n: next layout of the simulation        o: go home    c: recover the arm after an error
recording       r: start           s: stop and save     x: discard    k: mark a keypose    u: undo the mark
afterwards      1: success         0: failure           ?: this help  Ctrl-C: end
"""


class KeyDecoder:
    """Names of keys from what a terminal sends, in pieces of any size; what it does not know it drops."""

    def __init__(self) -> None:
        self._pending = b""
        self._since = 0.0

    def feed(self, data: bytes, now_s: float) -> list[str]:
        """The keys that are complete by now."""
        keys: list[str] = []
        if data:
            self._pending, self._since = self._pending + data, now_s
        while self._pending:
            if self._pending[0] != 0x1B:
                character = self._pending[:1].decode("ascii", errors="ignore").lower()
                self._pending = self._pending[1:]
                if character:
                    keys.append(character)
                continue
            length = _sequence_length(self._pending[1:])
            if length == 0:  # not complete: either more is to come, or it was the key itself
                if now_s - self._since < ESCAPE_S:
                    break
                keys.append("esc")
                self._pending = self._pending[1:]
                continue
            if name := SEQUENCES.get(self._pending[1 : 1 + length]):
                keys.append(name)
            self._pending = self._pending[1 + length :]
        return keys


class HeldKeys:
    """Which motion keys are held: terminals only tell of presses and repeats, so a key is let go of by silence."""

    def __init__(self, hold_s: float, intents: dict[str, Intent], moves: bool = True) -> None:
        self._hold_s, self._intents, self._moves = hold_s, intents, moves
        self._pressed: dict[int, tuple[float, float]] = {}  # axis: direction, when

    def feed(self, keys: Iterable[str], now_s: float) -> Reading:
        """What is wanted at `now_s`, after these keys."""
        intents = []
        for key in keys:
            if self._moves and key in MOTION_KEYS:
                axis, direction = MOTION_KEYS[key]
                self._pressed[axis] = direction, now_s
            elif intent := self._intents.get(key):
                intents.append(intent)
                if intent is Intent.LET_GO:
                    self._pressed.clear()
        twist = np.zeros(6)
        for axis, (direction, when_s) in list(self._pressed.items()):
            if now_s - when_s > self._hold_s:
                del self._pressed[axis]
            else:
                twist[axis] = direction
        return Reading(twist, bool(self._pressed), tuple(intents))


def twist_of(reading: Reading, linear: float, angular: float) -> Array:
    """Twist [6] in m/s and rad/s: diagonals are no faster than the axes."""
    parts = reading.twist[:3], reading.twist[3:]
    lengths = [max(1.0, float(np.linalg.norm(part))) for part in parts]
    return np.concatenate([linear * parts[0] / lengths[0], angular * parts[1] / lengths[1]])


def with_dead_zone(value: float, dead_zone: float) -> float:
    """An axis in [-1, 1] whose centre is wide; it grows from 0 at the border of the dead zone."""
    beyond = abs(value) - dead_zone
    return float(np.sign(value) * np.clip(beyond / (1.0 - dead_zone), 0.0, 1.0))


def _sequence_length(rest: bytes) -> int:
    """Length of the control sequence at the start of what follows an escape; 0 while it is not complete."""
    if not rest:
        return 0
    if rest[:1] == b"O":
        return 2 if len(rest) > 1 else 0
    if rest[:1] != b"[":
        return 1  # Alt and a key
    for index, byte in enumerate(rest[1:LONGEST_SEQUENCE], start=1):
        if 0x40 <= byte <= 0x7E:
            return index + 1
    return LONGEST_SEQUENCE if len(rest) >= LONGEST_SEQUENCE else 0
