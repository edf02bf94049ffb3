"""Joystick and SpaceMouse. Both libraries are optional and imported only where their device is asked for."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minidiffuser_ros.arm.teleop_input import Intent, JoystickMapping, Reading, with_dead_zone
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError

MOUSE_DEAD_ZONE = 0.1


class Joystick:
    """The first joystick that SDL finds; it moves the arm only while the deadman button is held."""

    def __init__(self, mapping: JoystickMapping | None = None) -> None:
        """Raises ConfigurationError without pygame, without a joystick, and for buttons or axes that it lacks."""
        self.mapping = mapping or JoystickMapping()
        # No window is needed, and none may be asked to have the focus.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError as error:
            raise ConfigurationError(
                "a joystick is read through pygame, which is missing: pip install pygame"
            ) from error
        self._pygame: Any = pygame
        pygame.display.init()  # events come through it
        pygame.joystick.init()
        if not pygame.joystick.get_count():
            raise ConfigurationError("there is no joystick: connect one before the teleop node starts")
        self._joystick: Any = pygame.joystick.Joystick(0)
        self._check()
        self._centred: set[int] = set()  # a trigger rests at its end: only what was seen at its centre moves the arm
        self._events()  # whatever was pressed before counts as seen

    def read(self) -> Reading:
        """See `Device`."""
        intents, mapping = self._events(), self.mapping
        held = bool(self._joystick.get_button(mapping.deadman))
        twist = np.zeros(6)
        for index, (axis, sign) in enumerate(zip(mapping.axes, mapping.signs, strict=True)):
            if axis < 0:
                continue
            value = with_dead_zone(self._joystick.get_axis(axis), mapping.dead_zone)
            if value == 0.0:
                self._centred.add(axis)
            if held and axis in self._centred:
                twist[index] = sign * value
        return Reading(twist, held, intents)

    def close(self) -> None:
        """See `Device`."""
        self._pygame.joystick.quit()
        self._pygame.display.quit()

    def _events(self) -> tuple[Intent, ...]:
        pygame, buttons, intents = self._pygame, self.mapping.buttons, []
        mine = self._joystick.get_instance_id()
        for event in pygame.event.get():
            if getattr(event, "instance_id", mine) != mine:
                continue
            if event.type == pygame.JOYDEVICEREMOVED:
                raise ConnectionLostError("the joystick is gone: connect it and start the teleop node again")
            if event.type == pygame.JOYBUTTONDOWN and event.button in buttons:
                intents.append(buttons[event.button])
        return tuple(intents)

    def _check(self) -> None:
        axes, buttons = self._joystick.get_numaxes(), self._joystick.get_numbuttons()
        highest_button = max(self.mapping.deadman, *self.mapping.buttons)
        if max(self.mapping.axes) >= axes or highest_button >= buttons:
            name = self._joystick.get_name()
            self.close()
            raise ConfigurationError(
                f"the joystick '{name}' has {axes} axes and {buttons} buttons, the mapping uses axis "
                f"{max(self.mapping.axes)} and button {highest_button}: set the parameters joystick.*"
            )


class SpaceMouse:
    """A 3Dconnexion mouse: it centres itself, so the deadman is the hand on it. Left: gripper, right: mark."""

    def __init__(self) -> None:
        """Raises ConfigurationError without pyspacemouse and without a device."""
        try:
            import pyspacemouse
        except ImportError as error:
            raise ConfigurationError(
                "a SpaceMouse is read through pyspacemouse, which is missing: pip install pyspacemouse, "
                "or choose another device"
            ) from error
        try:
            self._device: Any = pyspacemouse.open()
        except Exception as error:  # its libraries raise what they like
            raise ConfigurationError(f"there is no SpaceMouse that can be opened: {error}") from error
        if not self._device:
            raise ConfigurationError("there is no SpaceMouse that can be opened: connect one, and allow hidraw to you")
        # Version 1 answers True and keeps its device to itself.
        self._read = self._device.read if hasattr(self._device, "read") else pyspacemouse.read
        self._close = self._device.close if hasattr(self._device, "close") else pyspacemouse.close
        self._down: list[bool] = []

    def read(self) -> Reading:
        """See `Device`."""
        try:
            state = self._read()
        except Exception as error:  # its libraries raise what they like
            raise ConnectionLostError(f"the SpaceMouse is gone: {error}") from error
        # Its y is forward and its x to the right, as seen by the operator behind the base.
        raw = (state.y, -state.x, state.z, -state.roll, state.pitch, -state.yaw)
        twist = np.array([with_dead_zone(float(value), MOUSE_DEAD_ZONE) for value in raw])
        down = [bool(button) for button in state.buttons]
        before = self._down or [False] * len(down)
        pressed = [now and not then for now, then in zip(down, before, strict=True)]
        self._down = down
        intents = tuple(i for i, p in zip((Intent.GRIPPER, Intent.MARK), pressed, strict=False) if p)
        return Reading(twist, bool(twist.any()), intents)

    def close(self) -> None:
        """See `Device`."""
        self._close()
