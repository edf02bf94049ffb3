"""A joystick through SDL's own virtual device; a SpaceMouse through a stand-in for its library."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from virtual_pad import VirtualPad

from minidiffuser_ros.arm.teleop_handheld import Joystick, SpaceMouse
from minidiffuser_ros.arm.teleop_input import Intent, JoystickMapping
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError

pygame = pytest.importorskip("pygame")


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.quit()


def test_only_the_deadman_lets_the_sticks_move_the_arm() -> None:
    pad = VirtualPad()
    joystick = Joystick()
    joystick.read()
    pad.axis(1, -1.0)
    pad.axis(3, 0.5)
    still = joystick.read()
    assert not still.held
    assert not still.twist.any()
    pad.button(5, True)
    moving = joystick.read()
    assert moving.held
    np.testing.assert_allclose(moving.twist, [1.0, 0.0, 0.0, 0.0, 0.0, -(0.5 - 0.12) / 0.88], atol=1e-3)
    pad.button(5, False)
    assert not joystick.read().held
    joystick.close()


def test_an_axis_that_does_not_rest_at_its_centre_moves_nothing_before_it_was_there() -> None:
    pad = VirtualPad()
    joystick = Joystick()
    pad.axis(4, -1.0)
    pad.button(5, True)
    assert joystick.read().twist[2] == 0.0
    pad.axis(4, 0.0)
    joystick.read()
    pad.axis(4, -1.0)
    assert joystick.read().twist[2] == pytest.approx(1.0, abs=1e-3)
    joystick.close()


def test_a_button_asks_once_per_press() -> None:
    pad = VirtualPad()
    joystick = Joystick()
    pad.button(0, True)
    assert joystick.read().intents == (Intent.GRIPPER,)
    assert joystick.read().intents == ()
    pad.button(0, False)
    pad.button(7, True)
    pad.button(2, True)
    assert joystick.read().intents == (Intent.START, Intent.MARK)
    joystick.close()


def test_a_joystick_that_is_pulled_out_is_reported() -> None:
    pad = VirtualPad()
    joystick = Joystick()
    pad.remove()
    with pytest.raises(ConnectionLostError, match="joystick is gone"):
        joystick.read()


def test_without_a_joystick_the_sentence_says_so() -> None:
    with pytest.raises(ConfigurationError, match="no joystick"):
        Joystick()


def test_a_mapping_beyond_the_joystick_is_refused() -> None:
    VirtualPad(axes=2, buttons=4)
    with pytest.raises(ConfigurationError, match="2 axes and 4 buttons"):
        Joystick(JoystickMapping())


class Mouse:
    """Stands in for pyspacemouse, which needs the device."""

    def __init__(self) -> None:
        self.state = types.SimpleNamespace(x=0.0, y=0.0, z=0.0, roll=0.0, pitch=0.0, yaw=0.0, buttons=[0, 0])
        self.gone = False

    def open(self) -> Any:
        return True

    def close(self) -> None: ...

    def read(self) -> Any:
        if self.gone:
            raise OSError("read error")
        return self.state


def test_a_spacemouse_moves_while_it_is_pushed_and_its_buttons_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mouse = Mouse()
    monkeypatch.setitem(sys.modules, "pyspacemouse", mouse)
    device = SpaceMouse()
    mouse.state.z = 0.05
    assert not device.read().held
    mouse.state.z, mouse.state.buttons = -1.0, [1, 0]
    reading = device.read()
    assert reading.held
    assert reading.twist[2] == -1.0
    assert reading.intents == (Intent.GRIPPER,)
    assert device.read().intents == ()
    mouse.gone = True
    with pytest.raises(ConnectionLostError, match="SpaceMouse is gone"):
        device.read()


def test_without_its_library_a_spacemouse_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with pytest.raises(ConfigurationError, match="pip install pyspacemouse"):
        SpaceMouse()
