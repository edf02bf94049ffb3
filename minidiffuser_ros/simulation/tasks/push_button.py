"""`push_button`: three buttons, one of the named colour; press it and no other."""

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
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP, PRESSED_AT, add_button
from minidiffuser_ros.simulation.world import SceneBuilder

BUTTONS = tuple(f"button_{i}" for i in range(3))
COLORS = COLOR_NAMES[:5]
HOVER, PRESS = 0.07, -0.012  # m of the fingertip above the resting cap


class PushButton(Task):
    """Success: a button of the named colour has been pressed 8 mm, and no other one ever was."""

    name = "push_button"
    num_variations = len(COLORS)
    max_keyposes = 6
    double = 1
    grasps = False

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        for name in BUTTONS:
            add_button(scene, name)

    def instructions(self) -> Sequence[str]:
        color = COLORS[self.variation]
        return (
            f"push the {color} button",
            f"press the {color} button",
            f"push down on the {color} button",
            f"hit the button that is {color}",
            f"press the button with the {color} cap",
        )

    def held_out_instructions(self) -> Sequence[str]:
        color = COLORS[self.variation]
        return (f"touch the {color} button until it goes down", f"the {color} button, press it")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        colors = some_colors(rng, [COLORS[self.variation]], len(BUTTONS), COLORS)
        for index in self.right:
            colors[index] = colors[0]
        places = scatter(rng, len(BUTTONS), np.array([0.38, -0.24]), np.array([0.62, 0.24]), 0.14)
        for name, color, place in zip(BUTTONS, colors, places, strict=True):
            stage.place(name, (*place, 0.0))
            stage.paint(f"{name}_cap", color)
        self._pressed = [False] * len(BUTTONS)

    def update(self, stage: Stage) -> None:
        for index, name in enumerate(BUTTONS):
            self._pressed[index] |= stage.joint(f"{name}_slide") < -PRESSED_AT

    def success(self, stage: Stage) -> bool:
        return sum(self._pressed) == 1 and any(self._pressed[index] for index in self.right)

    def mistake(self, stage: Stage) -> str:
        return "wrong object" if any(self._pressed) and not self.success(stage) else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        # The push is the end. After a retreat the scene would look as it did before the push, and a policy that sees
        # no more than the scene could not tell whether to push or to rest.
        x, y, _ = stage.position(BUTTONS[0])
        top = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
        for height in (HOVER, PRESS):
            yield down(x, y, top + height, CLOSED)
