"""Rotations as three Euler bins: extrinsic xyz degrees, 5 degrees each by default; the round trip is within 2.5."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.geometry.rotation import euler_deg_from_quat, quat_from_euler_deg


def bins_from_quat(quat_wxyz: ArrayLike, num_bins: int) -> NDArray[np.int64]:
    """Bin indices [..., 3] of unit quaternions [..., 4]; -180 and 180 degrees share a bin."""
    width = 360.0 / num_bins
    index: NDArray[np.int64] = np.round((euler_deg_from_quat(quat_wxyz) + 180.0) / width).astype(np.int64) % num_bins
    return index


def quat_from_bins(bins: ArrayLike, num_bins: int) -> NDArray[np.float64]:
    """Quaternion [..., 4] at the centres of the bins [..., 3]."""
    return quat_from_euler_deg(np.asarray(bins, np.float64) * (360.0 / num_bins) - 180.0)
