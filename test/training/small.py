"""A few made-up demonstrations and a network small enough to train in a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.demonstration import Demonstration, demonstration_of
from minidiffuser_ros.geometry.rotation import quat_from_yaw
from minidiffuser_ros.model.config import MiniDiffuserConfig, named_config
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.loop import Trainer
from minidiffuser_ros.training.processes import Processes

SPEC = ObservationSpec()
# Clouds of a few patches: a cut that depended on the fullest cloud of a batch would show between processes.
MODEL = MiniDiffuserConfig(
    encoder_channels=(16, 16, 24, 24), decoder_channels=(16, 16, 24), head_channels=8, width=32, neck_levels=(3, 1, 0),
    patch_size=16,
)  # fmt: skip
ACTOR = replace(
    named_config("diffuser_actor"), encoder_channels=(16, 16), head_channels=8, width=32, num_heads=4,
    neck_levels=(0, 1), mlp_ratio=2,
)  # fmt: skip


def demonstration(seed: int, steps: int = 2, spec: ObservationSpec = SPEC, task: str = "lump") -> Demonstration:
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
    return demonstration_of(task, 0, seed, ("push the red button", "press the red button"), pairs)


CONFIG = TrainingConfig(steps=6, batch_size=4, num_samples=8, warmup_steps=2, threads=1, bf16=False, checkpoint_every=3)


def small_data(count: int = 6, encode: Callable[[str], Tensor] | None = None) -> DemonstrationSet:
    """Lumps; the same ones each time."""
    return DemonstrationSet([demonstration(i) for i in range(count)], MODEL.rotation_bins, encode)


def small_trainer(
    data: DemonstrationSet, config: TrainingConfig = CONFIG, processes: Processes | None = None
) -> Trainer:
    """A trainer of the small network."""
    return Trainer(config, PolicyConfig(spec=data.spec, model=MODEL), data, processes)
