"""`push_button`: the named button has been pressed deep enough, and no other ever was."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import perform, present

from minidiffuser_ros.simulation.shifts import SHIFTS
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, FINGERTIP_BELOW_TOOL, down
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS, COLORS, PushButton

TASK = PushButton.name
RIGHT, WRONG, OTHER = BUTTONS


def press(world: Tabletop, button: str, depth: float = 0.012) -> None:
    """Press a button by `depth` metres with closed fingers and go up again."""
    x, y, _ = world.stage.position(button)
    rest = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
    perform(world, [down(x, y, rest + height, CLOSED) for height in (0.07, -depth, 0.07)])


def colors(world: Tabletop) -> list[str]:
    """Of the caps, the one to press first."""
    return [world.stage.color_of(f"{name}_cap") for name in BUTTONS]


def named(sentence: str) -> list[str]:
    """The colours in a sentence, in the order of the words."""
    return [word.strip(",") for word in sentence.split() if word.strip(",") in COLORS]


@pytest.mark.parametrize("variation", range(PushButton.num_variations))
def test_every_sentence_names_the_colour_of_the_button_to_press_and_no_other(world: Tabletop, variation: int) -> None:
    for seed in range(5):
        world.reset(TASK, seed, variation)
        for sentence in (*world.task.instructions(), *world.task.held_out_instructions()):
            assert named(sentence) == [colors(world)[0]], sentence


def test_three_buttons_of_different_colours_lie_apart_and_anywhere(world: Tabletop) -> None:
    spots = []
    for seed in range(40):
        world.reset(TASK, seed)
        assert present(world.model, world.data) == list(BUTTONS)
        assert len(set(colors(world))) == len(BUTTONS)
        spots.append([world.stage.position(name)[:2] for name in BUTTONS])
        gaps = np.linalg.norm(np.subtract(spots[-1][:2], spots[-1][1:]), axis=-1)
        assert gaps.min() > 0.11
    assert (np.ptp(np.concatenate(spots), axis=0) > [0.2, 0.4]).all()


def test_every_colour_is_also_a_distractor(world: Tabletop) -> None:
    # Else a policy could know what to do from the picture alone.
    distractors = set()
    for seed in range(60):
        world.reset(TASK, seed)
        distractors |= set(colors(world)[1:])
    assert distractors == set(COLORS)


def test_pressing_the_right_button_is_enough(world: Tabletop) -> None:
    world.reset(TASK, 200)
    press(world, RIGHT)
    assert world.success()
    assert world.mistake() == ""


@pytest.mark.parametrize("button", [WRONG, OTHER])
def test_pressing_a_wrong_button_does_not_count(world: Tabletop, button: str) -> None:
    world.reset(TASK, 200)
    press(world, button)
    assert world.data.time > 0.5
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_a_wrong_button_cannot_be_made_good(world: Tabletop) -> None:
    world.reset(TASK, 200)
    press(world, WRONG)
    press(world, RIGHT)
    assert not world.success()


def test_a_wrong_button_afterwards_undoes_the_success(world: Tabletop) -> None:
    world.reset(TASK, 200)
    press(world, RIGHT)
    assert world.success()
    press(world, OTHER)
    assert not world.success()


def test_a_button_counts_as_pressed_from_eight_millimetres_on(world: Tabletop) -> None:
    world.reset(TASK, 200)
    outcomes = []
    for depth in (0.0, 0.004, 0.007, 0.0095):
        press(world, RIGHT, depth)
        outcomes.append(world.success())
    assert outcomes == [False, False, False, True]


def test_a_button_springs_back(world: Tabletop) -> None:
    world.reset(TASK, 200)
    press(world, RIGHT)
    assert world.stage.joint(f"{RIGHT}_slide") > -0.001


def test_of_two_buttons_of_the_named_colour_either_one_is_right_and_both_are_wrong(world: Tabletop) -> None:
    for buttons, right in (([RIGHT], True), ([WRONG], True), ([OTHER], False), ([RIGHT, WRONG], False)):
        world.reset(TASK, 7, shift=SHIFTS["doubles"])
        for button in buttons:
            press(world, button)
        assert (world.success(), world.mistake()) == (right, "" if right else "wrong object"), buttons
