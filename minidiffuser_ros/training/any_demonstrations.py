"""What a policy was trained on, whichever kind it is of."""

from __future__ import annotations

from pathlib import Path

from minidiffuser_ros.policy.action_sequence import ActionSequencePolicy
from minidiffuser_ros.policy.pruned import PrunablePolicy
from minidiffuser_ros.training.dataset import DemonstrationSet, load_split
from minidiffuser_ros.training.sequence_data import SequenceSet, load_sequences, split_sequences


def split_data_of(
    policy: PrunablePolicy, folder: Path
) -> tuple[DemonstrationSet, DemonstrationSet] | tuple[SequenceSet, SequenceSet]:
    """The demonstrations in a folder that are learned from, and the held-out ones.

    Raises EpisodeError for a folder without any, ConfigurationError where they have other numbers than the policy's.
    """
    if not isinstance(policy, ActionSequencePolicy):
        return load_split(folder, policy.config.model.rotation_bins)
    training, held_out = split_sequences(load_sequences(folder))
    return SequenceSet(training, policy.config), SequenceSet(held_out, policy.config)
