"""The world behind the Franka protocol: franky-sim steps it in real time, and an arm connects as to a real one.

Everything that touches the physics runs between two steps, in the thread that steps; the others hand it work and
wait. Pictures are drawn elsewhere, from copies.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, TypeVar

import franky_sim
import mujoco
import numpy as np
from franky_sim.mujoco_simulator import MujocoSimulator
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, UnknownTaskError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks import make_task
from minidiffuser_ros.simulation.tasks.base import Task
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS, PREFIX, SceneBuilder

T = TypeVar("T")

ANSWER_TIMEOUT_S = 5.0
Picture = tuple[NDArray[np.uint8], NDArray[np.float32]]


class ExchangeableSimulator(MujocoSimulator):
    """franky-sim's simulator whose scene can be exchanged while it runs: the arm goes on where it is.

    What it keeps of a scene are model, data and the addresses of the robot's joints in them; it has no method to change
    them, and a new server would cut off whoever drives the arm.
    """

    def take_over(self, fresh: MujocoSimulator) -> None:
        """Go on in the scene of another simulator that was initialised and never stepped. Call it between two steps."""
        model, data, before = fresh.model, fresh.data, self.data
        for name in (model.joint(i).name for i in range(model.njnt)):
            if name.startswith(PREFIX):
                mine, theirs = before.joint(name), data.joint(name)
                theirs.qpos[:], theirs.qvel[:] = mine.qpos, mine.qvel
                theirs.qfrc_applied[:] = mine.qfrc_applied
        data.time = before.time
        self._mj_model, self._mj_data = model, data
        for index, robot in enumerate(self._robots):
            robot._attach_to_scene(model, data, f"robot{index}_")
        mujoco.mj_forward(model, data)


@dataclass(frozen=True)
class Snapshot:
    """Model and data of a served world at one instant. source: the model that was copied, known by its identity:
    MuJoCo's signature of a model is the same for scenes that differ in sizes only.
    """

    source: mujoco.MjModel
    model: mujoco.MjModel
    data: mujoco.MjData


class ServedWorld:
    """A running simulation at one loopback address; its arm is moved only by who connects there.

    Made, it steps until `close`. Raises ConfigurationError where the address cannot be served.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._task: Task | None = None
        self._expert: Iterator[Keypose] | None = None
        self._failure: BaseException | None = None
        self._closing = threading.Event()
        self._simulator = SceneBuilder(ExchangeableSimulator()).simulator
        self._simulator.init()
        self._server = franky_sim.SimulationServer(self._simulator, [address])
        try:
            self._server.init()
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve an arm at {address}: it takes a free loopback address such as 127.0.0.3, "
                "and one simulation for each"
            ) from error
        self._simulator.register_pre_step_callback(self._between_steps)
        self._simulator.register_post_step_callback(self._watch)
        self._thread = threading.Thread(target=self._step_for_ever, name="physics", daemon=True)
        self._thread.start()

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model that is being stepped: read it only."""
        return self._simulator.model

    def reset(self, task: str, seed: int, variation: int | None = None) -> str:
        """Lay out a task's objects and return the instruction; the arm stays where it is.

        Raises UnknownTaskError for a task or variation that does not exist; then nothing has changed.
        """
        fresh = make_task(task)
        fresh.check_variation(variation)
        # Compiled here, in the caller's thread: those who drive the arm do not wait for it.
        scene = None if self._task is not None and self._task.name == task else _scene_of(fresh)

        def lay_out() -> str:
            if scene is not None:
                self._simulator.take_over(scene)
            self._stage = Stage(self._simulator.model, self._simulator.data)
            instruction = fresh.reset(self._stage, seed, variation)
            self._task, self._expert = fresh, None
            return instruction

        return self._in_physics(lay_out)

    def success(self) -> tuple[bool, str]:
        """Whether the rule of the present task holds now, and a sentence that says so."""

        def judge() -> tuple[bool, str]:
            if self._task is None:
                return False, "no task is laid out: reset the simulation first"
            holds = self._task.success(self._stage)
            return holds, f"'{self._task.instruction()}' is {'done' if holds else 'not done'}"

        return self._in_physics(judge)

    def expert_keypose(self, restart: bool = False) -> Keypose | None:
        """What the scripted expert of the present task would do next, from how things stand; None where it is done.

        restart: begin with its first keypose again; a reset does so, too. Raises UnknownTaskError before the first one.
        """

        def ask() -> Keypose | None:
            if self._task is None:
                raise UnknownTaskError("no task is laid out: reset the simulation first")
            if restart or self._expert is None:
                self._expert = self._task.expert(self._stage)
            return next(self._expert, None)

        return self._in_physics(ask)

    def snapshot(self, last: Snapshot | None = None) -> Snapshot:
        """A copy of the world as it is now: `last` brought up to date, where that is of the same scene."""

        def copied() -> Snapshot:
            mine, now = self._simulator.model, self._simulator.data
            if last is None or last.source is not mine:
                return Snapshot(mine, copy.copy(mine), copy.copy(now))
            last.model.geom_rgba[:] = mine.geom_rgba
            last.data.qpos[:], last.data.time = now.qpos, now.time
            last.data.mocap_pos[:], last.data.mocap_quat[:] = now.mocap_pos, now.mocap_quat
            return last

        return self._in_physics(copied)

    def close(self) -> None:
        """Stop stepping and free the address; harmless when called twice."""
        self._closing.set()
        self._thread.join(5.0)
        self._server.cleanup()

    def _in_physics(self, work: Callable[[], T]) -> T:
        """Result of `work`, run between two steps. Raises ConnectionLostError where nothing steps any more."""
        if self._failure is not None or self._closing.is_set():
            raise ConnectionLostError(f"the simulation at {self.address} has stopped: {self._failure or 'closed'}")
        future: Future[T] = Future()
        self._work.put((work, future))
        try:
            return future.result(ANSWER_TIMEOUT_S)
        except FutureTimeoutError:
            raise ConnectionLostError(f"the simulation at {self.address} does not step: {self._failure}") from None

    def _between_steps(self, simulator: Any) -> None:
        while not self._work.empty():
            work, future = self._work.get()
            try:
                future.set_result(work())
            except Exception as error:  # belongs to whoever asked for it
                future.set_exception(error)

    def _watch(self, simulator: Any) -> None:
        if self._task is not None:
            self._task.update(self._stage)

    def _step_for_ever(self) -> None:
        try:
            while not self._closing.is_set():
                self._server.run_once()
        except BaseException as error:  # nobody waits for this thread: keep it for the next question
            self._failure = error
            raise


def _scene_of(task: Task) -> MujocoSimulator:
    """A simulator of the task's own scene, ready to be taken over."""
    builder = SceneBuilder()
    task.build(builder)
    builder.simulator.init()
    builder.simulator.start()
    return builder.simulator


class WorldCameras:
    """Draws a served world. Make, use and close it in one thread: the GL context belongs to it."""

    def __init__(self, world: ServedWorld) -> None:
        self._world = world
        self._snapshot: Snapshot | None = None
        self._renderer: RgbdRenderer | None = None

    def snapshot(self) -> None:
        """Take over the state of the world: what `render` draws from now on. Raises ConnectionLostError."""
        self._snapshot = self._world.snapshot(self._snapshot)
        mujoco.mj_forward(self._snapshot.model, self._snapshot.data)

    def render(self, name: str) -> Picture:
        """Colour [H, W, 3] and depth [H, W] in metres of one of CAMERA_MOUNTS, of the last snapshot."""
        if name not in CAMERA_MOUNTS:
            raise ConfigurationError(f"there is no camera '{name}'; the world has {', '.join(CAMERA_MOUNTS)}")
        if self._snapshot is None:
            self.snapshot()
        assert self._snapshot is not None
        if self._renderer is None:
            self._renderer = RgbdRenderer(self._snapshot.model, CAMERA)
        return self._renderer.render(self._snapshot.model, self._snapshot.data, name)

    def close(self) -> None:
        """Free the GL context."""
        if self._renderer is not None:
            self._renderer.close()
