"""The voxel structure against plain loops."""

from __future__ import annotations

import torch

from minidiffuser_ros.model.voxels import (
    OFFSETS,
    VoxelLevel,
    build_levels,
    mean_pool,
    neighbourhood_product,
    submanifold_conv,
)

SIZE, CLOUDS = 0.01, 2


def cloud() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.arange(CLOUDS).repeat_interleave(60), torch.rand(CLOUDS * 60, 3, generator=g) * 0.06 - 0.03


def levels() -> list[VoxelLevel]:
    return build_levels(SIZE, 3, *cloud(), CLOUDS)


def row_of(level: VoxelLevel, batch: int, cell: torch.Tensor) -> int | None:
    found = ((level.batch == batch) & (level.cells == cell).all(dim=1)).nonzero()
    return int(found) if len(found) else None


def gathered(level: VoxelLevel, features: torch.Tensor, batch: int, cell: torch.Tensor) -> torch.Tensor:
    """Features of the 27 cells around one, zero where there is no voxel: [27, C]."""
    rows = [row_of(level, batch, cell + offset) for offset in OFFSETS]
    return torch.stack([features[row] if row is not None else torch.zeros(features.shape[1]) for row in rows])


def test_every_point_lies_in_its_voxel_and_pooling_takes_the_mean() -> None:
    batch, points = cloud()
    level = levels()[0]
    assert torch.equal(level.batch[level.parent], batch)
    assert torch.equal(level.cells[level.parent], torch.floor(points / SIZE).long())
    pooled = mean_pool(points, level)
    torch.testing.assert_close(pooled, level.coord)
    torch.testing.assert_close(pooled[5], points[level.parent == 5].mean(0))


def test_coarser_cells_hold_their_finer_ones() -> None:
    fine, coarse = levels()[:2]
    assert torch.equal(coarse.cells[coarse.parent], torch.floor(fine.coord / (2 * SIZE)).long())


def test_padding_and_unpadding_is_lossless_and_keeps_clouds_apart() -> None:
    level = levels()[0]
    features = torch.randn(len(level.keys), 4, generator=torch.Generator().manual_seed(1))
    padded = level.pad(features)
    assert torch.equal(level.unpad(padded), features)
    assert torch.equal(padded[~level.mask], torch.zeros_like(padded[~level.mask]))
    assert torch.equal(level.pad(level.batch.float().unsqueeze(1))[1][level.mask[1]].unique(), torch.ones(1))


def test_submanifold_convolution_is_the_loop_over_27_cells_and_so_are_its_gradients() -> None:
    level, g = levels()[0], torch.Generator().manual_seed(2)
    features = torch.randn(len(level.keys), 3, generator=g, dtype=torch.float64).float().requires_grad_()
    weight = torch.randn(27, 3, 5, generator=g).requires_grad_()
    out = submanifold_conv(features, weight, level)
    loop = torch.stack(
        [
            torch.einsum("oc,ocd->d", gathered(level, features, int(level.batch[i]), level.cells[i]), weight)
            for i in range(len(level.keys))
        ]
    )
    torch.testing.assert_close(out, loop, atol=1e-4, rtol=1e-4)
    cotangent = torch.randn(out.shape, generator=g)
    for mine, expected in zip(
        torch.autograd.grad(out, (features, weight), cotangent),
        torch.autograd.grad(loop, (features, weight), cotangent),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_the_local_query_sees_all_27_cells_of_its_level_and_so_do_its_gradients() -> None:
    g = torch.Generator().manual_seed(3)
    positions = torch.rand(CLOUDS, 7, 3, generator=g) * 0.06 - 0.03
    batch = torch.arange(CLOUDS).unsqueeze(1).expand(CLOUDS, 7)
    for level in levels():
        features = torch.randn(len(level.keys), 3, generator=g).requires_grad_()
        weight = torch.randn(27, 3, 4, generator=g).requires_grad_()
        out = neighbourhood_product(features, weight, level.around(batch, positions))
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
