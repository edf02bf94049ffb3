"""Off-screen RGB-D: colour and depth of one camera from a single render pass."""

from __future__ import annotations

import atexit

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.geometry.camera import PinholeCamera

MAX_GEOMS = 1000  # of a scene: what is more is not drawn


class RgbdRenderer:
    """Renders named cameras of scenes. The GL context belongs to the thread that made it: use it there only.

    What a graphics card keeps of a scene are meshes and textures, and all scenes of this package have the same ones
    (the robot's and the lab's): one renderer, made from any of them, draws them all. It takes 0.2 GB.
    Several may live in one thread: each makes its own context current before it draws.
    """

    def __init__(self, model: mujoco.MjModel, camera: PinholeCamera) -> None:
        self._camera = camera
        self._gl = mujoco.GLContext(camera.width, camera.height)
        atexit.register(self.close)  # before mujoco ends the display: a context that outlives it complains
        self._gl.make_current()
        self._context: mujoco.MjrContext | None = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._option = mujoco.MjvOption()
        self._viewport = mujoco.MjrRect(0, 0, camera.width, camera.height)

    def render(
        self, model: mujoco.MjModel, data: mujoco.MjData, name: str
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Colour [H, W, 3] and metric depth along z [H, W] of camera `name`; the far plane reads as NaN."""
        self._gl.make_current()
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = model.camera(name).id
        mujoco.mjv_updateScene(model, data, self._option, None, view, mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        color = np.empty((self._camera.height, self._camera.width, 3), np.uint8)
        depth = np.empty((self._camera.height, self._camera.width), np.float32)
        mujoco.mjr_readPixels(color, depth, self._viewport, self._context)
        return color[::-1].copy(), _metric(model, depth[::-1].astype(np.float64))

    def close(self) -> None:
        """Free the GL context; harmless when called twice."""
        if self._context is None:
            return
        self._gl.make_current()
        self._context.free()
        self._gl.free()
        self._context = None
        atexit.unregister(self.close)


def _metric(model: mujoco.MjModel, reversed_z: NDArray[np.float64]) -> NDArray[np.float32]:
    """Invert the reversed-z projection (1 at the near plane, 0 at the far plane)."""
    near, far = model.vis.map.znear * model.stat.extent, model.vis.map.zfar * model.stat.extent
    depth = near * far / (near + reversed_z * (far - near))
    depth[reversed_z <= 0.0] = np.nan
    return np.asarray(depth, np.float32)
