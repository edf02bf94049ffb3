"""Laws of cells: space-filling curves, neighbourhoods, pooling and the convolution over occupied voxels."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.model.config import SerializedOrder
from minidiffuser_ros.model.serialization import hilbert_order, serialize, z_order
from minidiffuser_ros.model.sparse_conv import neighbourhood_product
from minidiffuser_ros.model.voxels import VoxelLevel, build_levels, max_pool, mean_pool, voxelize

ORDERS = get_args(SerializedOrder)
CLOUDS, EDGE, SIZE = 2, 6, 0.01


def cube(edge: int) -> Tensor:
    """All cells [edge^3, 3] of a cube around the origin."""
    axis = torch.arange(-edge // 2, edge // 2)
    return torch.cartesian_prod(axis, axis, axis)


def scattered(seed: int = 0, count: int = 120) -> tuple[Tensor, Tensor]:
    """Points [n, 3] of two clouds in a cube of EDGE cells from the origin, with the cloud of each [n]."""
    g = torch.Generator().manual_seed(seed)
    batch = torch.arange(CLOUDS).repeat_interleave(count)
    return batch, torch.rand(CLOUDS * count, 3, generator=g) * EDGE * SIZE


def level(order: SerializedOrder = "z") -> VoxelLevel:
    batch, points = scattered()
    return voxelize(SIZE, batch, points, CLOUDS, order)


def test_one_step_along_the_hilbert_curve_crosses_one_face() -> None:
    cells = cube(8) + 4  # from the origin: a cube that the curve fills before it leaves
    walk = cells[hilbert_order(cells).argsort()]
    assert (walk.diff(dim=0).abs().sum(-1) == 1).all()


def test_the_z_curve_jumps() -> None:
    cells = cube(8) + 4
    assert cells[z_order(cells).argsort()].diff(dim=0).abs().sum(-1).max() > 1


@pytest.mark.parametrize("order", ORDERS)
def test_no_two_cells_share_a_place_on_a_curve(order: SerializedOrder) -> None:
    assert len(serialize(cube(12), order).unique()) == 12**3


@pytest.mark.parametrize("curve", ["z", "hilbert"])
def test_the_transposed_curve_is_the_curve_of_swapped_axes(curve: SerializedOrder) -> None:
    cells = cube(6)
    transposed: SerializedOrder = "z-transposed" if curve == "z" else "hilbert-transposed"
    assert serialize(cells, transposed).equal(serialize(cells[:, [1, 0, 2]], curve))
    assert not serialize(cells, transposed).equal(serialize(cells, curve))


@pytest.mark.parametrize("order", ORDERS)
def test_a_padded_cloud_lies_along_its_curve_and_unpads_to_itself(order: SerializedOrder) -> None:
    voxels = level(order)
    values = torch.randn(len(voxels.keys), 5)
    assert voxels.unpad(voxels.pad(values)).equal(values)
    codes = serialize(voxels.cells, order)
    for row, used in zip(voxels.slots, voxels.mask, strict=True):
        assert (codes[row[used]].diff() > 0).all()


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_sparse_convolution_equals_a_dense_one_on_occupied_voxels(kernel: int) -> None:
    torch.manual_seed(kernel)
    voxels = level()
    values = torch.randn(len(voxels.keys), 3, requires_grad=True)
    weight = torch.randn(kernel**3, 3, 4, requires_grad=True)
    places = (voxels.batch, slice(None), *voxels.cells.unbind(-1))
    grid = torch.zeros(CLOUDS, 3, EDGE, EDGE, EDGE)
    grid[places] = values
    kernels = weight.unflatten(0, (kernel, kernel, kernel)).permute(4, 3, 0, 1, 2)
    dense = F.conv3d(grid, kernels, padding=kernel // 2)[places]
    sparse = neighbourhood_product(values, weight, voxels.neighbourhood(kernel))
    torch.testing.assert_close(sparse, dense, atol=1e-4, rtol=1e-4)
    direction = torch.randn_like(dense)
    expected = torch.autograd.grad((dense * direction).sum(), (values, weight))
    found = torch.autograd.grad((sparse * direction).sum(), (values, weight))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_neighbours_of_a_position_are_those_of_its_voxel() -> None:
    voxels = level()
    found = voxels.around(voxels.batch, voxels.coord)
    assert found.counts == voxels.neighbours.counts
    assert found.cells.equal(voxels.neighbours.cells)
    assert found.places.equal(voxels.neighbours.places)


def test_each_level_doubles_the_cells_and_keeps_every_voxel() -> None:
    levels = build_levels(SIZE, ORDERS[:3], *scattered(), CLOUDS)
    assert [voxels.size for voxels in levels] == pytest.approx([SIZE, 2 * SIZE, 4 * SIZE])
    for fine, coarse in pairwise(levels):
        assert (fine.cells.div(2, rounding_mode="floor") == coarse.cells[coarse.parent]).all()
        assert (fine.batch == coarse.batch[coarse.parent]).all()


def test_pooling_takes_the_mean_and_the_maximum_of_each_cell() -> None:
    voxels = level()
    values = torch.randn(len(voxels.parent), 4)
    for row in (0, len(voxels.keys) - 1):
        inside = values[voxels.parent == row]
        torch.testing.assert_close(mean_pool(values, voxels)[row], inside.mean(0))
        torch.testing.assert_close(max_pool(values, voxels)[row], inside.amax(0))
