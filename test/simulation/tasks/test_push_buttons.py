"""The named buttons, in the order of the sentence, and no other one."""

from __future__ import annotations

from collections import Counter

import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, FINGERTIP_BELOW_TOOL, down
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP, BUTTON_TRAVEL
from minidiffuser_ros.simulation.tasks.push_buttons import BUTTONS, SEQUENCES, PushButtons

FIRST, SECOND, THIRD = BUTTONS
ONE, TWO, THREE = (next(v for v, s in enumerate(SEQUENCES) if len(s) == count) for count in (1, 2, 3))


def press(world: Tabletop, *buttons: str, depth: float = 0.012) -> None:
    """Press buttons by `depth` metres with closed fingers, one after the other, and go up again each time."""
    top = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
    for button in buttons:
        x, y, _ = world.stage.position(button)
        for height in (0.1, -depth, 0.1):
            world.execute(down(x, y, top + height, CLOSED))


@pytest.mark.parametrize(("variation", "wanted"), [(ONE, BUTTONS[:1]), (TWO, BUTTONS[:2]), (THREE, BUTTONS)])
def test_the_named_buttons_in_their_order_are_enough_and_fewer_are_not(
    world: Tabletop, variation: int, wanted: tuple[str, ...]
) -> None:
    world.reset("push_buttons", 200, variation)
    for button in wanted:
        assert not world.success()
        press(world, button)
        assert not world.mistake()
    assert world.success()


def test_another_order_does_not_count(world: Tabletop) -> None:
    world.reset("push_buttons", 200, TWO)
    press(world, SECOND, FIRST)
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_a_wrong_button_cannot_be_made_good(world: Tabletop) -> None:
    world.reset("push_buttons", 200, ONE)
    press(world, THIRD, FIRST)
    assert not world.success()


def test_one_button_too_many_undoes_the_success(world: Tabletop) -> None:
    world.reset("push_buttons", 200, TWO)
    press(world, FIRST, SECOND)
    assert world.success()
    press(world, THIRD)
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_a_button_counts_and_latches_from_eight_millimetres_on(world: Tabletop) -> None:
    world.reset("push_buttons", 200, ONE)
    outcomes = []
    for depth in (0.004, 0.007, 0.0095):
        press(world, FIRST, depth=depth)
        outcomes.append((world.success(), world.stage.joint(f"{FIRST}_slide") < -0.001))
    assert outcomes == [(False, False), (False, False), (True, True)]


def test_a_pressed_button_stays_down_until_the_next_reset(world: Tabletop) -> None:
    world.reset("push_buttons", 200, THREE)
    press(world, SECOND)
    press(world, FIRST, THIRD)
    assert [world.stage.joint(f"{name}_slide") for name in BUTTONS] == pytest.approx([-BUTTON_TRAVEL] * 3, abs=1e-3)
    world.reset("push_buttons", 200, THREE)
    press(world, THIRD, depth=-0.02)
    assert [world.stage.joint(f"{name}_slide") for name in BUTTONS] == pytest.approx([0.0] * 3, abs=1e-3)


def test_the_cameras_see_which_buttons_are_down(world: Tabletop) -> None:
    world.reset("push_buttons", 200, TWO)
    press(world, FIRST)
    heights = [world.data.geom(f"{name}_cap").xpos[2] for name in BUTTONS]
    assert heights[0] < min(heights[1:]) - 0.01


def test_every_colour_is_seen_at_every_place_in_training() -> None:
    seen = Counter(
        (len(colors), place, color)
        for variation, colors in enumerate(SEQUENCES)
        if variation not in PushButtons.held_out
        for place, color in enumerate(colors)
    )
    assert len(seen) == 10 * (1 + 2 + 3)


def test_what_is_held_back_is_seen_in_the_reverse_order() -> None:
    for variation in PushButtons.held_out:
        assert SEQUENCES.index(SEQUENCES[variation][::-1]) not in PushButtons.held_out
