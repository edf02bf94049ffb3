"""`push_button`: three buttons, one of the named colour; press it and no other."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    Task,
    down,
    paint,
    place_button,
    scatter,
)
from minidiffuser_ros.simulation.world import BODIES, BUTTON_CAP_TOP

PRESSED_AT = 0.008  # m of travel after which a button counts as pressed
FINGERTIP_BELOW_TOOL = 0.0085  # m from fr3_hand_tcp to the end of the fingers
HOVER, PRESS = 0.07, -0.012  # m of the fingertip above the resting cap


class PushButton(Task):
    """Success: the button of the named colour has been pressed 8 mm, and no other one ever was."""

    name = "push_button"
    num_variations = len(COLOR_NAMES)
    max_keyposes = 6

    def instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (
            f"push the {color} button",
            f"press the {color} button",
            f"push down on the {color} button",
            f"hit the button that is {color}",
            f"press the button with the {color} cap",
        )

    def _lay_out(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        others = [i for i in range(len(COLOR_NAMES)) if i != self.variation]
        colors = [self.variation, *rng.choice(others, size=len(BODIES.buttons) - 1, replace=False)]
        places = scatter(rng, len(BODIES.buttons), np.array([0.38, -0.24]), np.array([0.62, 0.24]), 0.14)
        for name, color, place in zip(BODIES.buttons, colors, places, strict=True):
            place_button(model, data, name, np.array([*place, 0.0]))
            paint(model, f"{name}_cap", COLOR_NAMES[color])
        self._pressed = [False] * len(BODIES.buttons)

    def update(self, data: mujoco.MjData) -> None:
        for index, name in enumerate(BODIES.buttons):
            self._pressed[index] |= bool(data.joint(f"{name}_slide").qpos[0] < -PRESSED_AT)

    def success(self, data: mujoco.MjData) -> bool:
        return self._pressed[0] and not any(self._pressed[1:])

    def expert(self, data: mujoco.MjData) -> list[Keypose]:
        # The push is the end. After a retreat the scene would look as it did before the push, and a policy that sees
        # no more than the scene could not tell whether to push or to rest.
        x, y, _ = data.body(BODIES.buttons[0]).xpos
        top = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
        return [down(x, y, top + height, CLOSED) for height in (HOVER, PRESS)]
