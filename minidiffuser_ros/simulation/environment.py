"""The simulated table as a gymnasium environment, registered as `minidiffuser/Tabletop-v0` when this is imported.

`gymnasium.make("minidiffuser_ros.simulation.environment:minidiffuser/Tabletop-v0")` does both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, MotionError, UnknownTaskError
from minidiffuser_ros.simulation.environment_actions import make_control
from minidiffuser_ros.simulation.environment_observations import Values, observation_space, observe
from minidiffuser_ros.simulation.failures import TIMEOUT, UNREACHABLE, failure_of
from minidiffuser_ros.simulation.registration import register
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.shifts import SPLITS, shift_named, split_of
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS, make_task
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS

OPTIONS = ("task", "variation", "shift")
TASK_STREAM = 23  # keeps the draw of the task apart from what else a seed decides
MAX_RENDER_SIZE = (1280, 960)  # of the off-screen buffer

register()


class TabletopEnvironment(gymnasium.Env[Values, NDArray[np.float64]]):
    """One arm, one table, one sentence an episode. One thread owns it: it holds a GL context.

    Reward 1 and `terminated` when the task's rule holds. `truncated` after the keyposes that the task allows, with
    control 'delta' after 25 steps for each of them. Actions, observations: see `environment_actions` and
    `environment_observations`; no object's place is among them.

    info: `success`; `failure`, what is wrong now, a word of `simulation.failures` or "": "wrong object", "missed grasp"
    while the gripper is closed on nothing, else "unreachable" after a motion that was refused, else "timeout" at the
    truncation; `reason`, why nothing moved, else ""; `seed`, `task`, `variation` and `shift`, which make the same
    scene again; `stamp_ns`, the simulated time.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (as in gymnasium)

    def __init__(
        self,
        tasks: str | Sequence[str] | None = None,
        control: str = "keypose",
        shift: str = "none",
        render_mode: str | None = None,
        render_camera: str | None = None,
        render_size: tuple[int, int] | None = None,
    ) -> None:
        """tasks: drawn from, by default all; shift: of a reset that names none.

        render_camera: by default all, side by side. render_size: width and height of each in pixels, by default those
        of the observation. There is no render mode 'human': the GL context draws off screen, and
        `gymnasium.make(..., render_mode="human")` shows 'rgb_array' in a window where pygame is installed.
        Raises ConfigurationError and UnknownTaskError.
        """
        self.tasks = tuple(TASKS) if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
        if not self.tasks:
            raise ConfigurationError("an environment needs at least one task, got none; leave `tasks` out for all")
        self._shift = shift
        for task in self.tasks:
            make_task(task).check_variation(None, shift_named(shift))
        _check_rendering(render_mode, render_camera, render_size)
        self.render_mode = render_mode
        self._render_cameras = tuple(CAMERA_MOUNTS) if render_camera is None else (render_camera,)
        self._render_size = render_size
        self._renderer: RgbdRenderer | None = None
        self._control = make_control(control)
        self.action_space = self._control.space
        self.observation_space = observation_space()
        self.world = Tabletop()
        """For experts and tests: it knows where everything is, which a policy must not."""
        self._running = False
        self._pictures: dict[str, NDArray[np.uint8]] = {}

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Values, Values]:
        """Lay out a new scene: that of `seed`, which also draws the task, or one of a fresh training seed.

        options: `task`, one of the environment's; `variation` of it; `shift`, a name out of SHIFTS.
        Raises ConfigurationError and UnknownTaskError; then the episode goes on as before.
        """
        task, variation, shift = self._read({} if options is None else options)
        if seed is not None:
            split_of(seed)
        super().reset(seed=seed)
        if seed is None:
            training = SPLITS["training"]
            seed = int(self.np_random.integers(training.start, training.stop))
        if task is None:
            task = self.tasks[int(np.random.default_rng([seed, TASK_STREAM]).integers(len(self.tasks)))]
        self._sentence = self.world.reset(task, seed, variation, shift_named(shift))
        self._scene = {"seed": seed, "task": task, "variation": self.world.task.variation, "shift": shift}
        self._steps, self._most_steps = 0, self.world.task.max_keyposes * self._control.steps_per_keypose
        self._running = True
        return self._observe(), self._info()

    def step(self, action: ArrayLike) -> tuple[Values, float, bool, bool, Values]:
        """One action. Raises ConfigurationError for one that is none, ResetNeeded when no episode runs."""
        if not self._running:
            raise ResetNeeded("no episode is running: call reset first")
        goal = self._control.goal(self.world, action)
        reason = ""
        try:
            self._control.move(self.world, goal)
        except MotionError as error:
            reason = str(error)
        self._steps += 1
        success = self.world.success()
        truncated = not success and self._steps >= self._most_steps
        failure = "" if success else failure_of(self.world, UNREACHABLE if reason else TIMEOUT if truncated else "")
        self._running = not (success or truncated)
        return self._observe(), float(success), success, truncated, self._info(success, failure, reason)

    def render(self) -> NDArray[np.uint8] | None:
        """What the cameras of `render_camera` saw last, side by side [H, W, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        if not self._pictures:
            raise ResetNeeded("there is nothing to show yet: call reset first")
        if self._render_size is None:
            return np.concatenate([self._pictures[name] for name in self._render_cameras], axis=1)
        model, data = self.world.model, self.world.data
        if self._renderer is None:
            self._renderer = RgbdRenderer(model, CAMERA.scaled(*self._render_size))
        return np.concatenate([self._renderer.render(model, data, name)[0] for name in self._render_cameras], axis=1)

    def close(self) -> None:
        """Free the GL contexts; harmless when called twice. A reset makes new ones."""
        self._running, self._pictures = False, {}
        self.world.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _read(self, options: Mapping[str, Any]) -> tuple[str | None, int | None, str]:
        """Task, variation and shift of a reset. Raises ConfigurationError and UnknownTaskError."""
        if not isinstance(options, Mapping) or not set(options) <= set(OPTIONS):
            given = sorted(map(str, options)) if isinstance(options, Mapping) else options
            raise ConfigurationError(f"the options of a reset are {', '.join(OPTIONS)}, got {given}")
        task, variation = options.get("task"), options.get("variation")
        if task is not None and task not in self.tasks:
            raise UnknownTaskError(f"this environment has no task {task!r}; it has {', '.join(self.tasks)}")
        if variation is not None and (isinstance(variation, bool) or not isinstance(variation, (int, np.integer))):
            raise ConfigurationError(f"a variation is a whole number or None for any, got {variation!r}")
        shift = self._shift if options.get("shift") is None else str(options["shift"])
        shift_named(shift)
        return task, None if variation is None else int(variation), shift

    def _observe(self) -> Values:
        values = observe(self.world, self._sentence)
        if self.render_mode is not None:
            self._pictures = {name: values[f"{name}_color"].copy() for name in CAMERA_MOUNTS}
        return values

    def _info(self, success: bool = False, failure: str = "", reason: str = "") -> Values:
        outcome = {"success": success, "failure": failure, "reason": reason}
        return outcome | self._scene | {"stamp_ns": self.world.stamp_ns()}


def _check_rendering(mode: str | None, camera: str | None, size: tuple[int, int] | None) -> None:
    """Raises ConfigurationError."""
    modes = TabletopEnvironment.metadata["render_modes"]
    if mode is not None and mode not in modes:
        raise ConfigurationError(f"there is no render mode {mode!r}; choose {', '.join(modes)} or None")
    if camera is not None and camera not in CAMERA_MOUNTS:
        raise ConfigurationError(f"there is no camera {camera!r}; choose one of {', '.join(CAMERA_MOUNTS)}")
    if size is not None and (
        len(size) != 2 or not all(0 < wanted <= most for wanted, most in zip(size, MAX_RENDER_SIZE, strict=True))
    ):
        raise ConfigurationError(f"render_size is a width and a height up to {MAX_RENDER_SIZE} pixels, got {size!r}")
