"""The local query against plain loops."""

from __future__ import annotations

import torch

from minidiffuser_ros.model.sparse_conv import neighbourhood_product
from minidiffuser_ros.model.voxels import VoxelLevel, build_levels, neighbour_offsets

SIZE, CLOUDS = 0.01, 2


def cloud() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.arange(CLOUDS).repeat_interleave(60), torch.rand(CLOUDS * 60, 3, generator=g) * 0.06 - 0.03


def levels() -> list[VoxelLevel]:
    return build_levels(SIZE, ("z", "z", "z"), *cloud(), CLOUDS)


def row_of(level: VoxelLevel, batch: int, cell: torch.Tensor) -> int | None:
    found = ((level.batch == batch) & (level.cells == cell).all(dim=1)).nonzero()
    return int(found) if len(found) else None


def gathered(level: VoxelLevel, features: torch.Tensor, batch: int, cell: torch.Tensor) -> torch.Tensor:
    """Features of the 27 cells around one, zero where there is no voxel: [27, C]."""
    rows = [row_of(level, batch, cell + offset) for offset in neighbour_offsets(3)]
    return torch.stack([features[row] if row is not None else torch.zeros(features.shape[1]) for row in rows])


def test_the_local_query_sees_all_27_cells_of_its_level_and_so_do_its_gradients() -> None:
    g = torch.Generator().manual_seed(3)
    positions = torch.rand(CLOUDS, 7, 3, generator=g) * 0.06 - 0.03
    batch = torch.arange(CLOUDS).unsqueeze(1).expand(CLOUDS, 7)
    for level in levels():
        features = torch.randn(len(level.keys), 3, generator=g).requires_grad_()
        weight = torch.randn(27, 3, 4, generator=g).requires_grad_()
        pairs = level.around(batch.flatten(), positions.flatten(0, 1))
        out = neighbourhood_product(features, weight, pairs).unflatten(0, batch.shape)
        cells = torch.floor(positions / level.size).long()
        loop = torch.stack(
            [
                torch.einsum("oc,ocd->d", gathered(level, features, b, cells[b, m]), weight)
                for b in range(CLOUDS)
                for m in range(7)
            ]
        ).view_as(out)
        torch.testing.assert_close(out, loop, atol=1e-4, rtol=1e-4)
        cotangent = torch.randn(out.shape, generator=g)
        for mine, expected in zip(
            torch.autograd.grad(out, (features, weight), cotangent),
            torch.autograd.grad(loop, (features, weight), cotangent),
            strict=True,
        ):
            torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_samples_in_the_air_find_nothing_and_teach_nothing() -> None:
    level = levels()[0]
    features = torch.randn(len(level.keys), 3).requires_grad_()
    weight = torch.randn(27, 3, 4).requires_grad_()
    out = neighbourhood_product(features, weight, level.around(torch.zeros(5, dtype=torch.long), torch.ones(5, 3)))
    assert out.shape == (5, 4)
    for tensor in (out, *torch.autograd.grad(out.sum(), (features, weight))):
        assert not tensor.any()
