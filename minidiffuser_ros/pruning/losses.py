"""What the pruner is trained to do: act as the expert does, and prune as much as it is told (SAG, eq. 8 to 11)."""

from __future__ import annotations

from torch import Tensor


def fidelity_loss(actions: Tensor, expert: Tensor) -> Tensor:
    """Eq. 9: mean Euclidean distance of the pruned policy's actions [B, M, ...] from the expert's [B, ...].

    In the units of diffusion, where each axis of the workspace is [-1, 1]. The norm is not named in the paper; the
    Euclidean one, not squared, lets the few observations that go wrong not outweigh all others.
    """
    difference = (actions - expert.unsqueeze(1)).flatten(2)
    return (difference.square().sum(-1) + 1e-12).sqrt().mean()


def sparsity_loss(gates: Tensor, rate: float, per_branch: bool = False) -> Tensor:
    """Eq. 10: how far the share of reused units [B, K, U] is from the wanted rate, over the whole walk.

    per_branch, for comparison: of every branch by itself, as L2C and others ask for it.
    """
    share = gates.mean(1) if per_branch else gates.flatten(1).mean(1)
    return (share - rate).abs().mean()
