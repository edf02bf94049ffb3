"""One training step of a network over action sequences, with its observations encoded once or for every sample."""

from __future__ import annotations

import torch

from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_config import ActionUNetConfig, named_action_config
from minidiffuser_ros.model.action_unet import ActionUNet

TIMESTEPS = 100


class ActionUNetStep:
    """Forward and backward of a named network at any B and M; the loss's form does not matter to its cost."""

    def __init__(self, config: str, device: str, bf16: bool) -> None:
        self.device, self.bf16 = device, bf16
        self.network = ActionUNet(named_action_config(config)).to(device).train()

    def __call__(self, implementation: str, batch_size: int, num_samples: int) -> None:
        """`factored`: M samples of B observations; `literal`: Diffusion Policy's minibatch of B M observations."""
        self.loss(implementation, batch_size, num_samples).backward()
        self.network.zero_grad(set_to_none=True)
        if self.device != "cpu":
            torch.cuda.synchronize()

    def loss(self, implementation: str, batch_size: int, num_samples: int) -> torch.Tensor:
        """The same number from both implementations."""
        c, g = self.network.config, torch.Generator().manual_seed(0)
        inputs = observations(c, batch_size, g).to(self.device)
        actions = torch.randn(batch_size, num_samples, c.horizon, c.action_dim, generator=g).to(self.device)
        steps = torch.randint(TIMESTEPS, (batch_size, num_samples), generator=g).to(self.device)
        if implementation == "literal":
            parts = (inputs.states, inputs.images)
            inputs = ActionInputs(*(None if v is None else v.repeat_interleave(num_samples, 0) for v in parts))
            actions, steps = actions.flatten(0, 1).unsqueeze(1), steps.flatten().unsqueeze(1)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            predicted = self.network.denoise(self.network.encode(inputs), actions, steps)
        return predicted.float().square().mean()


def observations(config: ActionUNetConfig, batch_size: int, generator: torch.Generator) -> ActionInputs:
    """Noise in place of states and images."""
    states = torch.randn(batch_size, config.obs_steps, config.state_dim, generator=generator)
    shape = (batch_size, config.cameras, config.obs_steps, 3, *config.image_size)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return ActionInputs(states if config.state_dim else None, images if config.cameras else None)
