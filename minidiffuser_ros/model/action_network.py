"""The networks over action sequences, of either kind: both `encode` once and `denoise` per step and sample."""

from __future__ import annotations

from minidiffuser_ros.model.action_config import ActionTransformerConfig, ActionUNetConfig
from minidiffuser_ros.model.action_transformer import ActionTransformer
from minidiffuser_ros.model.action_unet import ActionUNet

ActionNetworkConfig = ActionUNetConfig | ActionTransformerConfig
ActionNetwork = ActionUNet | ActionTransformer


def action_network(config: ActionNetworkConfig) -> ActionNetwork:
    """The network of a configuration, untrained."""
    return ActionTransformer(config) if isinstance(config, ActionTransformerConfig) else ActionUNet(config)
