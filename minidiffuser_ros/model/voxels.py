"""One voxel-hash structure for pooling, submanifold convolution and the local query.

Legend: B clouds, N voxels of all clouds together (packed), V voxels of the fullest cloud (padded), P points.
A packed tensor is [N, C] with `batch` [N] saying whose each row is; a padded one is [B, V, C] with a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from minidiffuser_ros.model.config import SerializedOrder
from minidiffuser_ros.model.serialization import MARGIN, SPAN, serialize


@lru_cache
def neighbour_offsets(kernel: int) -> Tensor:
    """Offsets of the kernel^3 = Q cells around one [Q, 3], kernel odd; entry Q - 1 - i is the opposite of entry i."""
    axis = torch.arange(-(kernel // 2), kernel // 2 + 1)
    return torch.cartesian_prod(axis, axis, axis)


def cell_keys(batch: Tensor, cells: Tensor) -> Tensor:
    """One int64 per cell; cells [..., 3] int64, batch [...] int64."""
    shifted = (cells + MARGIN).clamp(0, SPAN - 1)
    return ((batch * SPAN + shifted[..., 0]) * SPAN + shifted[..., 1]) * SPAN + shifted[..., 2]


@dataclass(frozen=True)
class VoxelLevel:
    """The occupied cells of one resolution. Sizes in metres; `size` is the cell's edge.

    coord [N, 3]: mean position of what lies in the cell. parent [n]: row here of each row of the finer level.
    slots [B, V]: packed row of each padded slot (N where empty), each cloud along a space-filling curve, so that
    neighbours in the sequence are neighbours in space. places [N]: flat slot of each row. mask [B, V]: slot in use.
    neighbours [N, 27]: packed rows of the cells around each, N where empty.
    """

    size: float
    keys: Tensor
    batch: Tensor
    cells: Tensor
    coord: Tensor
    parent: Tensor
    neighbours: Tensor
    slots: Tensor
    places: Tensor
    mask: Tensor

    def lookup(self, batch: Tensor, cells: Tensor) -> Tensor:
        """Packed row of each cell [...], N where there is no such voxel."""
        keys = cell_keys(batch, cells)
        found = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[found] == keys, found, len(self.keys))

    def around(self, batch: Tensor, positions: Tensor) -> Tensor:
        """Packed rows [..., 27] of the cells around positions [..., 3] in metres, N where empty."""
        return self._surroundings(batch, torch.floor(positions / self.size).long(), 3)

    def neighbourhood(self, kernel: int) -> Tensor:
        """Packed rows [N, kernel^3] of the cells around each voxel, N where empty."""
        return self.neighbours if kernel == 3 else self._surroundings(self.batch, self.cells, kernel)

    def _surroundings(self, batch: Tensor, cells: Tensor, kernel: int) -> Tensor:
        around = cells.unsqueeze(-2) + neighbour_offsets(kernel).to(cells.device)
        return self.lookup(batch.unsqueeze(-1).expand(around.shape[:-1]), around)

    def pad(self, packed: Tensor) -> Tensor:
        """[N, C] -> [B, V, C], zeros in empty slots."""
        return torch.cat([packed, packed.new_zeros(1, packed.shape[1])])[self.slots]

    def unpad(self, padded: Tensor) -> Tensor:
        """[B, V, C] -> [N, C]; inverse of `pad`."""
        return padded.flatten(0, 1)[self.places]


def voxelize(
    size: float, batch: Tensor, coord: Tensor, num_clouds: int, serialized_order: SerializedOrder = "z"
) -> VoxelLevel:
    """Group rows (points, or voxels of the finer level) [n] into cells of `size` metres with a fixed origin."""
    keys, parent, counts = torch.unique(
        cell_keys(batch, torch.floor(coord / size).long()), return_inverse=True, return_counts=True
    )
    total = len(keys)
    mean = coord.new_zeros(total, 3).index_add_(0, parent, coord) / counts.unsqueeze(1)
    cloud = keys // SPAN**3
    cells = torch.stack([(keys // SPAN**2) % SPAN, (keys // SPAN) % SPAN, keys % SPAN], dim=-1) - MARGIN
    # Keys sort by cloud first, so the rows of one cloud are contiguous.
    occupancy = torch.bincount(cloud, minlength=num_clouds)
    column = torch.arange(int(occupancy.max()), device=coord.device).unsqueeze(0)
    mask = column < occupancy.unsqueeze(1)
    order = torch.argsort(cloud * SPAN**3 + serialize(cells, serialized_order))
    slots = torch.full(mask.shape, total, device=coord.device)
    slots[mask] = order
    places = torch.empty_like(order)
    places[order] = mask.flatten().nonzero().squeeze(1)
    level = VoxelLevel(size, keys, cloud, cells, mean, parent, keys, slots, places, mask)
    return replace(level, neighbours=level._surroundings(cloud, cells, 3))


def build_levels(
    size: float, orders: Sequence[SerializedOrder], batch: Tensor, coord: Tensor, num_clouds: int
) -> list[VoxelLevel]:
    """One level for each of `orders`, of doubling cell size, finest first. batch [n], coord [n, 3] metres."""
    levels = [voxelize(size, batch, coord, num_clouds, orders[0])]
    for order in orders[1:]:
        finer = levels[-1]
        levels.append(voxelize(2 * finer.size, finer.batch, finer.coord, num_clouds, order))
    return levels


def mean_pool(values: Tensor, level: VoxelLevel) -> Tensor:
    """Mean of the rows [n, C] that fall into each voxel: [N, C]."""
    total = values.new_zeros(len(level.keys), values.shape[1]).index_add_(0, level.parent, values)
    count = torch.bincount(level.parent, minlength=len(level.keys)).clamp(min=1).to(values.dtype)
    return total / count.unsqueeze(1)


def max_pool(values: Tensor, level: VoxelLevel) -> Tensor:
    """Maximum over the rows [n, C] that fall into each voxel: [N, C]."""
    index = level.parent.unsqueeze(1).expand_as(values)
    empty = values.new_zeros(len(level.keys), values.shape[1])
    return empty.scatter_reduce(0, index, values, "amax", include_self=False)


class _SubmanifoldConv(torch.autograd.Function):
    """Gather-only forward and backward: neighbourhood is symmetric, so no scatter is ever needed."""

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(features, weight, neighbours)
        return _columns(features, neighbours) @ weight.flatten(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:  # type: ignore[no-untyped-def]
        features, weight, neighbours = ctx.saved_tensors
        grad = grad.contiguous()
        dtype, kept = weight.dtype, features.dtype
        features = features.to(grad.dtype)
        weight = weight.to(grad.dtype)  # under autocast the product was taken in a narrower type
        grad_weight = (_columns(features, neighbours).T @ grad).view_as(weight)
        if not ctx.needs_input_grad[0]:  # the stem's input, whose columns of the gradient would be the largest of all
            return None, grad_weight.to(dtype), None
        # If i is the neighbour of j at offset o, then j is the neighbour of i at -o.
        grad_features = _columns(grad, neighbours) @ weight.flip(0).transpose(1, 2).flatten(0, 1)
        return grad_features.to(kept), grad_weight.to(dtype), None


class _NeighbourhoodProduct(torch.autograd.Function):
    """Keeps the row numbers for the backward pass and gathers again: the gathered features are 27 times as large."""

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, rows: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(features, weight, rows)
        return _columns(features, rows) @ weight.flatten(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        features, weight, rows = ctx.saved_tensors
        columns = _columns(features, rows).to(grad.dtype)
        grad_weight = (columns.T @ grad).view_as(weight).to(weight.dtype)
        spread = (grad @ weight.to(grad.dtype).flatten(0, 1).T).view(-1, features.shape[1]).to(features.dtype)
        padded = features.new_zeros(len(features) + 1, features.shape[1])
        return padded.index_add_(0, rows.flatten(), spread)[:-1], grad_weight, None


def neighbourhood_product(features: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """Sum over 27 cells of a voxel's features times the cell's own matrix; empty cells count as zero.

    features [N, C], weight [27, C, D], rows [..., 27] as `VoxelLevel.around` gives them -> [..., D].
    """
    out: Tensor = _NeighbourhoodProduct.apply(features, weight.to(features.dtype), rows.flatten(0, -2))
    return out.view(*rows.shape[:-1], -1)


def _columns(features: Tensor, neighbours: Tensor) -> Tensor:
    padded = torch.cat([features, features.new_zeros(1, features.shape[1])])
    return padded[neighbours].flatten(1)


def submanifold_conv(features: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """Convolution on occupied voxels only. features [N, C], weight [Q, C, D], neighbours [N, Q] -> [N, D]."""
    out: Tensor = _SubmanifoldConv.apply(features, weight.to(features.dtype), neighbours)
    return out
