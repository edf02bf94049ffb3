"""One voxel-hash structure for pooling, submanifold convolution and the local query.

Legend: B clouds, N voxels of all clouds together (packed), V voxels of the fullest cloud (padded), P points.
A packed tensor is [N, C] with `batch` [N] saying whose each row is; a padded one is [B, V, C] with a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from minidiffuser_ros.model.config import SerializedOrder
from minidiffuser_ros.model.serialization import MARGIN, SPAN, serialize
from minidiffuser_ros.model.sparse_conv import CellPairs


@lru_cache
def neighbour_offsets(kernel: int) -> Tensor:
    """Offsets of the kernel^3 = Q cells around one [Q, 3], kernel odd."""
    axis = torch.arange(-(kernel // 2), kernel // 2 + 1)
    return torch.cartesian_prod(axis, axis, axis)


def cell_keys(batch: Tensor, cells: Tensor) -> Tensor:
    """One int64 per cell; cells [..., 3] int64, batch [...] int64."""
    shifted = (cells + MARGIN).clamp(0, SPAN - 1)
    return ((batch * SPAN + shifted[..., 0]) * SPAN + shifted[..., 1]) * SPAN + shifted[..., 2]


def occupied_around(keys: Tensor, batch: Tensor, cells: Tensor, kernel: int) -> CellPairs:
    """Which of the kernel^3 cells around each of cells [S, 3] of clouds [S] are among the sorted keys [N]."""
    around = cells.unsqueeze(1) + neighbour_offsets(kernel).to(cells.device)
    wanted = cell_keys(batch.unsqueeze(1).expand(around.shape[:2]), around)
    found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return CellPairs.of(torch.where(keys[found] == wanted, found, len(keys)), len(keys))


@dataclass(frozen=True)
class VoxelLevel:
    """The occupied cells of one resolution. Sizes in metres; `size` is the cell's edge.

    coord [N, 3]: mean position of what lies in the cell. parent [n]: row here of each row of the finer level.
    slots [B, V]: packed row of each padded slot (N where empty), each cloud along a space-filling curve, so that
    neighbours in the sequence are neighbours in space. places [N]: flat slot of each row. mask [B, V]: slot in use.
    neighbours: the occupied ones of the 27 cells around each.
    """

    size: float
    keys: Tensor
    batch: Tensor
    cells: Tensor
    coord: Tensor
    parent: Tensor
    neighbours: CellPairs
    slots: Tensor
    places: Tensor
    mask: Tensor

    def around(self, batch: Tensor, positions: Tensor) -> CellPairs:
        """The occupied ones of the 27 cells around positions [S, 3] in metres of clouds [S]."""
        return occupied_around(self.keys, batch, torch.floor(positions / self.size).long(), 3)

    def neighbourhood(self, kernel: int) -> CellPairs:
        """The occupied ones of the kernel^3 cells around each voxel."""
        return self.neighbours if kernel == 3 else occupied_around(self.keys, self.batch, self.cells, kernel)

    def pad(self, packed: Tensor) -> Tensor:
        """[N, C] -> [B, V, C], zeros in empty slots."""
        with_empty = torch.cat([packed, packed.new_zeros(1, packed.shape[1])])
        out: Tensor = with_empty.index_select(0, self.slots.flatten()).unflatten(0, self.slots.shape)
        return out

    def unpad(self, padded: Tensor) -> Tensor:
        """[B, V, C] -> [N, C]; inverse of `pad`."""
        return padded.flatten(0, 1).index_select(0, self.places)


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
    return VoxelLevel(
        size, keys, cloud, cells, mean, parent, occupied_around(keys, cloud, cells, 3), slots, places, mask
    )


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
