"""Products over occupied cells: the submanifold convolution and the local query share them.

Legend: N voxels packed, S places (voxels or samples), Q offsets, E pairs, C and D channels.
Clouds of the simulated table fill 4.5 to 9.6 of the 27 cells around each of their voxels, and 0.3 to 3.2 % of those
around a noised sample, which mostly hangs in the air (`benchmarks/occupancy.py data/tabletop_small --batch 256`).
Only pairs of a place and an occupied cell are multiplied, offset by offset; an empty cell costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CellPairs:
    """The occupied cells around each of `num_places` places.

    cells [E]: packed row of the cell; places [E]: whose surroundings it belongs to; both sorted by offset, of which
    `counts` says how many pairs each has.
    """

    cells: Tensor
    places: Tensor
    counts: tuple[int, ...]
    num_places: int

    @classmethod
    def of(cls, rows: Tensor, num_voxels: int) -> CellPairs:
        """From the packed row of every cell around every place [S, Q], `num_voxels` standing for an empty one."""
        by_offset = rows.T
        present = by_offset < num_voxels
        offsets, places = present.nonzero(as_tuple=True)
        return cls(by_offset[offsets, places], places, tuple(present.sum(dim=1).tolist()), by_offset.shape[1])

    def groups(self) -> Iterator[tuple[int, slice]]:
        """Each offset that has pairs, and which they are."""
        start = 0
        for offset, count in enumerate(self.counts):
            if count:
                yield offset, slice(start, start + count)
            start += count


class _PairProduct(torch.autograd.Function):
    """Keeps features and pairs for the backward pass and gathers again, instead of keeping E rows of features."""

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, pairs: CellPairs) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        gathered = features.index_select(0, pairs.cells)
        products = features.new_empty(len(gathered), weight.shape[2])
        for offset, rows in pairs.groups():
            torch.mm(gathered[rows], weight[offset], out=products[rows])
        return _summed(products, pairs.places, pairs.num_places)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:  # type: ignore[no-untyped-def]
        features, weight = ctx.saved_tensors
        pairs: CellPairs = ctx.pairs
        gathered, grads = features.index_select(0, pairs.cells), grad.index_select(0, pairs.places)
        grad_weight = torch.zeros_like(weight)
        for offset, rows in pairs.groups():
            torch.mm(gathered[rows].T, grads[rows], out=grad_weight[offset])
        if not ctx.needs_input_grad[0]:  # the stem's input
            return None, grad_weight, None
        for offset, rows in pairs.groups():  # the gathered features are not needed any more
            torch.mm(grads[rows], weight[offset].T, out=gathered[rows])
        return _summed(gathered, pairs.cells, len(features)), grad_weight, None


def _summed(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Rows [E, C] added up at their places: [count, C]; in full precision, as a matrix product would."""
    total = torch.zeros(count, rows.shape[1], device=rows.device, dtype=torch.promote_types(rows.dtype, torch.float32))
    return total.index_add_(0, places, rows.to(total.dtype)).to(rows.dtype)


def neighbourhood_product(features: Tensor, weight: Tensor, pairs: CellPairs) -> Tensor:
    """Sum over the cells around each place of their features times their offset's matrix.

    features [N, C], weight [Q, C, D] -> [S, D]. Over the voxels themselves this is the submanifold convolution, over
    samples the local query (Mini-Diffuser v1, eq. 15-18). Follows autocast, as a linear layer does.
    """
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    out: Tensor = _PairProduct.apply(features.to(dtype), weight.to(dtype), pairs)
    return out
