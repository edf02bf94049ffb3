"""A few made-up demonstrations and a network small enough to train in a test."""

from __future__ import annotations

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.demonstration import Demonstration, demonstration_of
from minidiffuser_ros.geometry.rotation import quat_from_yaw
from minidiffuser_ros.model.config import MiniDiffuserConfig

SPEC = ObservationSpec()
MODEL = MiniDiffuserConfig(
    encoder_channels=(16, 16, 24, 24), decoder_channels=(16, 16, 24), head_channels=8, width=32, neck_levels=(3, 1, 0)
)


def demonstration(seed: int, steps: int = 2, spec: ObservationSpec = SPEC) -> Demonstration:
    """A red lump somewhere on the table; the keypose is its centre."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(steps):
        centre = np.array([rng.uniform(0.35, 0.65), rng.uniform(-0.25, 0.25), 0.05])
        count = int(rng.integers(40, 60))
        observation = Observation(
            points=(centre + rng.normal(0.0, 0.015, (count, 3))).astype(np.float32),
            colors=rng.integers(0, 255, (count, 3)).astype(np.uint8),
            tool_position=np.array([0.45, 0.0, 0.35]),
            tool_quat_wxyz=quat_from_yaw(0.3),
            joint_positions=np.zeros(7),
            opening=1.0,
            stamp_ns=0,
            spec=spec,
        )
        pairs.append((observation, Keypose(centre, quat_from_yaw(rng.uniform(-1.0, 1.0)), float(rng.integers(2)))))
    return demonstration_of("lump", 0, seed, ("push the red button", "press the red button"), pairs)
