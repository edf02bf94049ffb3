"""A table-top world for the FR3: one MJCF model, RGB-D cameras, language tasks with exact success rules."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is first imported: by default there is no screen
