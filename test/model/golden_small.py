"""What `mini_diffuser_small` computes, written down: parameters, outputs and gradients for made-up weights.

`python test/model/golden_small.py` rewrites golden/small.json. Do so only where a change of the network is meant:
checkpoints made before such a change no longer mean the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.model.mini_diffuser import TOOL_FEATURES, Inputs, MiniDiffuser

GOLDEN = Path(__file__).parent / "golden" / "small.json"
B, M, P, T = 2, 3, 150, 4


def fill(network: MiniDiffuser, rng: np.random.Generator) -> None:
    """Weights from numpy's generator, whose numbers stay the same from one torch to the next."""
    for name, value in sorted(network.state_dict().items()):
        noise = torch.from_numpy(rng.standard_normal(value.shape, dtype=np.float32))
        if value.dim() > 1:
            inputs = value[0].numel() if value.dim() == 2 else value.shape[0] * value.shape[1]
            value.copy_(noise * inputs**-0.5)
        else:
            value.copy_(0.1 * noise + (1.0 if "norm.weight" in name else 0.0))


def inputs(rng: np.random.Generator) -> Inputs:
    """Two clouds of table-top size, the second with a shorter sentence."""

    def uniform(*shape: int) -> Tensor:
        return torch.from_numpy(rng.random(shape, dtype=np.float32))

    mask = torch.ones(B, T, dtype=torch.bool)
    mask[1, T - 1] = False
    return Inputs(
        uniform(B * P, 3) * torch.tensor([0.2, 0.2, 0.1]) + torch.tensor([0.4, -0.1, 0.0]), 255 * uniform(B * P, 3),
        torch.arange(B).repeat_interleave(P), uniform(B, 3), uniform(B, TOOL_FEATURES),
        2 * uniform(B, T, 768) - 1, mask,
    )  # fmt: skip


def compute() -> dict[str, Any]:
    """Outputs, and of every parameter its shape, its gradient's norm and that gradient along one direction."""
    rng = np.random.default_rng(0)
    network = MiniDiffuser(MiniDiffuserConfig()).train()
    fill(network, rng)
    condition = network.encode(inputs(rng))
    positions = torch.tensor(rng.random((B, M, 3)) * [0.2, 0.2, 0.1] + [0.4, -0.1, 0.0], dtype=torch.float32)
    displacement = network.denoise(condition, positions, torch.tensor([[0, 40, 99], [7, 7, 63]]))
    rotation, gripper = network.classify(condition, positions)
    (100.0 * displacement.square().mean() + rotation.square().mean() + gripper.square().mean()).backward()
    parameters = {}
    for name, parameter in network.named_parameters():
        direction = torch.from_numpy(rng.standard_normal(parameter.shape, dtype=np.float32))
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        along = (gradient * direction).sum().item()
        parameters[name] = [list(parameter.shape), _digits(gradient.norm().item()), _digits(along)]
    return {
        "displacement": _rounded(displacement),
        "rotation": _rounded(rotation[..., ::6]),
        "gripper": _rounded(gripper),
        "parameters": parameters,
    }


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(tensor: Tensor) -> list[float]:
    return [_digits(value) for value in tensor.detach().flatten().tolist()]


if __name__ == "__main__":
    result = compute()
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in result.pop("parameters").items())
    head = "".join(f"{json.dumps(name)}: {json.dumps(values)},\n" for name, values in result.items())
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(f'{{\n{head}"parameters": {{\n{rows}\n}}\n}}\n')
