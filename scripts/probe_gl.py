"""Print the first MUJOCO_GL that renders off screen here: egl (fast) or osmesa (works without a GPU driver)."""

from __future__ import annotations

import os
import subprocess
import sys

RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(data)
    renderer.render()
"""


def renders(backend: str) -> bool:
    """Whether MuJoCo can draw with this backend; in a process of its own, since a failure may crash."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    result = subprocess.run([sys.executable, "-c", RENDER], env=environment, capture_output=True, timeout=60)
    return result.returncode == 0


def main() -> int:
    """Print the backend; nothing, with a warning, where none works."""
    for backend in ("egl", "osmesa"):
        if renders(backend):
            print(backend)
            return 0
    print("no off-screen rendering: neither EGL nor OSMesa works, so the simulated cameras will not", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
