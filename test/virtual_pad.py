"""A joystick inside SDL, driven by the test and seen by pygame like any other."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

pygame = pytest.importorskip("pygame")
GAME_CONTROLLER, FULL = 1, 32767


class VirtualPad:
    """A pad with six axes and twelve buttons inside SDL, seen by pygame like any other."""

    def __init__(self, axes: int = 6, buttons: int = 12) -> None:
        library = next((Path(pygame.__file__).parents[1] / "pygame.libs").glob("libSDL2-2*"), None)
        if library is None:
            pytest.skip("pygame does not carry its own SDL here")
        self.sdl = ctypes.CDLL(str(library))
        self.sdl.SDL_JoystickFromInstanceID.restype = ctypes.c_void_p
        pygame.display.init()
        pygame.joystick.init()
        self.index = self.sdl.SDL_JoystickAttachVirtual(GAME_CONTROLLER, axes, buttons, 0)
        if self.index < 0:
            pytest.skip("this SDL has no virtual joysticks")

    def _pointer(self) -> ctypes.c_void_p:
        instance = self.sdl.SDL_JoystickGetDeviceInstanceID(self.index)
        return ctypes.c_void_p(self.sdl.SDL_JoystickFromInstanceID(instance))

    def axis(self, number: int, value: float) -> None:
        assert self.sdl.SDL_JoystickSetVirtualAxis(self._pointer(), number, ctypes.c_int16(int(value * FULL))) == 0
        self.sdl.SDL_JoystickUpdate()

    def button(self, number: int, down: bool) -> None:
        assert self.sdl.SDL_JoystickSetVirtualButton(self._pointer(), number, ctypes.c_uint8(down)) == 0
        self.sdl.SDL_JoystickUpdate()

    def remove(self) -> None:
        self.sdl.SDL_JoystickDetachVirtual(self.index)
