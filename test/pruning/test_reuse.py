"""Prune, then reuse (SAG, eq. 12 and 13): the laws of skipping."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.neck import run_block
from minidiffuser_ros.pruning.reuse import gated_steps, pruned_steps
from minidiffuser_ros.pruning.units import PrunableUnits, kind_of

UNITS = PrunableUnits(("0.attention", "0.mlp", "1.attention", "1.mlp", "2.attention", "2.mlp"), 9)
B = 3


def branch(name: str, h: Tensor) -> Tensor:
    """Some function of the stream that differs from branch to branch, and is too gentle to magnify rounding."""
    return torch.sin(h + UNITS.names.index(name)) / 3


def walk(h: Tensor, executors, called: list[str] | None = None) -> Tensor:
    """A denoiser of residual branches, step after step."""
    for execute in executors:
        for name in UNITS.names:

            def compute(h: Tensor, name: str = name) -> Tensor:
                if called is not None:
                    called.append(name)
                return branch(name, h)

            h = execute(name, h, compute)
    return h


def reference(h: Tensor, mask: Tensor, key: Callable[[str], str]) -> Tensor:
    """Eq. 12 and 13 as they are printed, one observation, buffers that begin at zero."""
    tau = {key(name): torch.zeros_like(h) for name in UNITS.names}
    for row in mask.double():
        for name, reuse in zip(UNITS.names, row, strict=True):
            d, kept = branch(name, h), tau[key(name)]
            h = h + (1.0 - reuse) * d + reuse * kept
            tau[key(name)] = (1.0 - reuse) * d + reuse * kept
    return h


class AdditionCount(TorchDispatchMode):
    """Counts the additions of two tensors."""

    additions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.additions += func is torch.ops.aten.add.Tensor and all(isinstance(arg, Tensor) for arg in args[:2])
        return func(*args, **(kwargs or {}))


def start() -> Tensor:
    return torch.randn(B, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def random_mask(seed: int) -> Tensor:
    return torch.rand(UNITS.shape, generator=torch.Generator().manual_seed(seed)) < 0.7


def test_a_mask_of_zeros_changes_nothing():
    plain = walk(start(), [run_block] * UNITS.steps)
    assert torch.equal(walk(start(), pruned_steps(UNITS, torch.zeros(UNITS.shape, dtype=torch.bool))), plain)


def test_a_mask_of_ones_computes_nothing_and_adds_nothing():
    called: list[str] = []
    h = walk(start(), pruned_steps(UNITS, torch.ones(UNITS.shape, dtype=torch.bool)), called)
    assert called == []
    assert torch.equal(h, start())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shared", [True, False])
def test_what_is_reused_is_what_the_printed_equations_say(seed: int, shared: bool):
    mask = random_mask(seed)
    called: list[str] = []
    h = walk(start(), pruned_steps(UNITS, mask, shared), called)
    torch.testing.assert_close(h, reference(start(), mask, kind_of if shared else str))
    assert len(called) == int((~mask).sum())


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_reused_together_is_added_up_once_until_something_is_computed(shared: bool):
    mask = torch.ones(UNITS.shape, dtype=torch.bool)
    mask[0], mask[4, 2:4] = False, False
    with AdditionCount() as count:
        walk(start(), pruned_steps(UNITS, mask, shared))
    computed = len(UNITS.names) + 2
    # A run is all six branches; at step 4 the two before and the two behind what is computed; then all six again.
    assert count.additions == computed + 5 + 3 + (1 + 1) + (1 + 1) + 5 + 4


@pytest.mark.parametrize("shared", [True, False])
def test_gates_of_zeros_and_ones_do_what_masks_do_each_observation_for_itself(shared: bool):
    masks = torch.stack([random_mask(seed) for seed in range(B)])
    together = walk(start(), gated_steps(UNITS, masks.double(), shared))
    for row, mask, one in zip(together, masks, start(), strict=True):
        torch.testing.assert_close(row, walk(one, pruned_steps(UNITS, mask, shared)))


def test_gradients_reach_every_gate_whose_output_could_differ():
    gates = torch.stack([random_mask(seed).double() for seed in range(B)]).requires_grad_()
    walk(start(), gated_steps(UNITS, gates)).square().sum().backward()
    assert gates.grad is not None
    assert gates.grad.isfinite().all()
    assert (gates.grad.abs() > 0).all()


def test_a_mask_of_other_units_is_refused():
    with pytest.raises(ConfigurationError, match=r"truth values \(9, 6\), got torch.bool \(9, 5\)"):
        pruned_steps(UNITS, torch.zeros(9, 5, dtype=torch.bool))
