"""`push_buttons`: three buttons; press one, two or three of them in the order of the sentence, and no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    FINGERTIP_BELOW_TOOL,
    Task,
    down,
    scatter,
    some_colors,
)
from minidiffuser_ros.simulation.tasks.objects import (
    BUTTON_CAP_TOP,
    BUTTON_SPRING,
    BUTTON_TRAVEL,
    PRESSED_AT,
    add_button,
)
from minidiffuser_ros.simulation.world import SceneBuilder

BUTTONS = tuple(f"button_{i}" for i in range(3))
STEPS = ((0,), (0, 3), (0, 2, 5))
HOVER, PRESS = 0.10, -0.012  # m of the fingertip above the resting cap
LATCHED = -BUTTON_TRAVEL - BUTTON_SPRING  # where the spring of a pressed button pulls to: its cap stays down


def _sequences() -> tuple[tuple[str, ...], ...]:
    """Every colour alone, then 20 pairs and 20 triples: ten and their reverses, as only the sentence tells the order.

    Each colour comes twice at each place of the pairs and of the triples, once forwards and once backwards.
    """
    count = len(COLOR_NAMES)
    single, pairs, triples = (
        [tuple(COLOR_NAMES[(first + step) % count] for step in steps) for first in range(count)] for steps in STEPS
    )
    return (*single, *pairs, *(p[::-1] for p in pairs), *triples, *(t[::-1] for t in triples))


SEQUENCES = _sequences()
_FORWARDS = (10, 30)  # where the ten pairs and triples begin that are listed forwards
_UNSEEN = (0, 2, 5, 7)  # of these ten: their reverses are seen


class PushButtons(Task):
    """Success: the buttons of the named colours have been pressed 8 mm in this order, and no other one ever was.

    A pressed button stays down.
    """

    name = "push_buttons"
    num_variations = len(SEQUENCES)
    max_keyposes = 14
    held_out = frozenset(start + i for start in _FORWARDS for i in _UNSEEN)
    grasps = False

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        for name in BUTTONS:
            add_button(scene, name)

    def instructions(self) -> Sequence[str]:
        first, *others = colors = SEQUENCES[self.variation]
        if not others:
            # Without the "only" these would be the sentences of `push_button`.
            return (
                f"push only the {first} button",
                f"press just the {first} button",
                f"push the {first} button and no other one",
                f"press the {first} button, leave the others alone",
            )
        return (
            ", then ".join(f"push the {color} button" for color in colors),
            f"press the {first} button" + "".join(f", then the {color} one" for color in others),
            f"push the {', then the '.join(colors)} button",
            f"press the buttons in this order: {', '.join(colors)}",
            " and after that ".join(f"press the {color} button" for color in colors),
        )

    def held_out_instructions(self) -> Sequence[str]:
        first, *others = colors = SEQUENCES[self.variation]
        if not others:
            return (f"of all the buttons touch the {first} one only", f"only the {first} button is to be pressed")
        return (
            f"begin with the {first} button" + "".join(f", go on with the {color} one" for color in others),
            f"push one button after the other: {', '.join(colors)}",
        )

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        colors = some_colors(rng, SEQUENCES[self.variation], len(BUTTONS))
        places = scatter(rng, len(BUTTONS), np.array([0.38, -0.24]), np.array([0.62, 0.24]), 0.14)
        for name, color, place in zip(BUTTONS, colors, places, strict=True):
            stage.place(name, (*place, 0.0))
            stage.paint(f"{name}_cap", color)
            _pull(stage, name, BUTTON_SPRING)
        self._wanted = list(BUTTONS[: len(SEQUENCES[self.variation])])
        self._pressed: list[str] = []

    def update(self, stage: Stage) -> None:
        for name in BUTTONS:
            if name not in self._pressed and stage.joint(f"{name}_slide") < -PRESSED_AT:
                self._pressed.append(name)
                _pull(stage, name, LATCHED)

    def success(self, stage: Stage) -> bool:
        return self._pressed == self._wanted

    def mistake(self, stage: Stage) -> str:
        return "" if self._pressed == self._wanted[: len(self._pressed)] else "wrong object"

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        top = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
        for name in self._wanted:
            x, y, _ = stage.position(name)
            yield down(x, y, top + HOVER, CLOSED)
            yield down(x, y, top + PRESS, CLOSED)
            if name != self._wanted[-1]:
                # The low hand may hide the next button from the cameras.
                yield down(x, y, top + HOVER, CLOSED)


def _pull(stage: Stage, name: str, height: float) -> None:
    """Let the spring of a button pull to a height of its joint."""
    stage.model.qpos_spring[stage.model.joint(f"{name}_slide").qposadr] = height
