"""Space-filling curves: cells of a grid in an order that keeps neighbours in space close in the sequence.

Legend: N cells. A code is an int64 whose order is the curve's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from minidiffuser_ros.model.config import SerializedOrder

BITS = 11
SPAN = 1 << BITS  # cells along each axis that a key can tell apart
MARGIN = SPAN // 2  # so that cells of points outside the workspace stay positive


def serialize(cells: Tensor, order: SerializedOrder) -> Tensor:
    """Codes [N] of cells [N, 3] int64 along the curve; `transposed` swaps x and y (Point Transformer v3, sec. 4.1)."""
    if order.endswith("transposed"):
        cells = cells[:, [1, 0, 2]]
    return z_order(cells) if order.startswith("z") else hilbert_order(cells)


def z_order(cells: Tensor) -> Tensor:
    """Morton code [N] of cells [N, 3]: the bits of the three axes interleaved."""
    return _interleave((cells + MARGIN).clamp(0, SPAN - 1).unbind(-1))


def hilbert_order(cells: Tensor) -> Tensor:
    """Distance [N] along the Hilbert curve: unlike on the z curve, cells one apart in it share a face.

    Undoes each octant's turn and reflection from the coarsest bit down, then reads the Gray code of the octants
    (Skilling 2004, Programming the Hilbert curve).
    """
    x, y, z = (cells + MARGIN).clamp(0, SPAN - 1).unbind(-1)
    axes = [x.clone(), y.clone(), z.clone()]
    for bit in reversed(range(1, BITS)):
        below = (1 << bit) - 1
        for axis in range(3):
            upper = (axes[axis] >> bit) & 1 == 1
            exchanged = (axes[0] ^ axes[axis]) & below
            # In the upper half the lower bits are mirrored; in the lower half they change places with the first axis.
            axes[0] = torch.where(upper, axes[0] ^ below, axes[0] ^ exchanged)
            if axis:
                axes[axis] = torch.where(upper, axes[axis], axes[axis] ^ exchanged)
    axes[1] = axes[1] ^ axes[0]
    axes[2] = axes[2] ^ axes[1]
    flips = torch.zeros_like(x)
    for bit in range(1, BITS):
        flips ^= ((axes[2] >> bit) & 1) * ((1 << bit) - 1)
    return _interleave(tuple(axis ^ flips for axis in reversed(axes)))


def _interleave(axes: tuple[Tensor, ...]) -> Tensor:
    """Bits of three tensors [N] taken in turn, those of the first lowest."""
    code = torch.zeros_like(axes[0])
    for bit in range(BITS):
        for place, axis in enumerate(axes):
            code |= ((axis >> bit) & 1) << (3 * bit + place)
    return code
