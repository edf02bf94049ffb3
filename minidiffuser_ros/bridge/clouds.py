"""`sensor_msgs/PointCloud2` ↔ points and colours, in the layout RViz and PCL use: x y z and a packed rgb."""

from __future__ import annotations

import array
import sys

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField

from minidiffuser_ros.bridge.headers import header
from minidiffuser_ros.contract.errors import MessageError

POINT_BYTES = 16
# The packed colour is 0x00RRGGBB, by custom declared as a float32 field.
COLOR_FIELDS = ("rgb", "rgba")


def cloud_from_points(
    points: NDArray[np.floating], colors: NDArray[np.uint8], frame_id: str = "", stamp_ns: int = 0
) -> PointCloud2:
    """PointCloud2 of points [P, 3] in metres and RGB colours [P, 3]."""
    if points.shape != colors.shape or points.ndim != 2 or points.shape[1] != 3:
        raise MessageError(f"a cloud has points and colours [P, 3], got {points.shape} and {colors.shape}")
    packed = np.empty((len(points), 4), np.float32)
    packed[:, :3] = points
    red, green, blue = colors.T.astype(np.uint32)
    packed.view(np.uint32)[:, 3] = (red << 16) | (green << 8) | blue
    message = PointCloud2(
        header=header(frame_id, stamp_ns),
        height=1,
        width=len(points),
        is_bigendian=sys.byteorder == "big",
        point_step=POINT_BYTES,
        row_step=POINT_BYTES * len(points),
        is_dense=bool(np.isfinite(points).all()),
    )
    message.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(("x", "y", "z", "rgb"))
    ]
    message.data = array.array("B", packed.tobytes())
    return message


def points_from_cloud(message: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points [P, 3] in metres and RGB colours [P, 3] (grey 128 where the cloud has none).

    Raises MessageError if x, y, z are not float32 fields or the data is shorter than its size says.
    """
    order = ">" if message.is_bigendian else "<"
    fields = {field.name: field for field in message.fields}
    missing = [n for n in "xyz" if n not in fields or fields[n].datatype != PointField.FLOAT32]
    if missing:
        raise MessageError(f"a cloud needs float32 fields x, y and z; {', '.join(missing)} missing in {list(fields)}")
    names, offsets = ["x", "y", "z"], [fields[n].offset for n in "xyz"]
    color = next((fields[n] for n in COLOR_FIELDS if n in fields), None)
    if color is not None:
        names.append("rgb")
        offsets.append(color.offset)
    formats = [order + "f4"] * 3 + ([order + "u4"] if color is not None else [])
    count = message.width * message.height
    if message.point_step * message.width > message.row_step or message.row_step * message.height > len(message.data):
        raise MessageError(
            f"a cloud of {count} points of {message.point_step} bytes in rows of {message.row_step} "
            f"does not fit its {len(message.data)} bytes"
        )
    layout = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": message.point_step})
    rows = np.frombuffer(message.data, np.uint8, message.row_step * message.height)
    rows = rows.reshape(message.height, message.row_step)[:, : message.point_step * message.width]
    records = np.ascontiguousarray(rows).reshape(-1).view(layout)
    points = np.stack([records[n] for n in "xyz"], axis=-1).astype(np.float32)
    if color is None:
        return points, np.full((count, 3), 128, np.uint8)
    packed = records["rgb"]
    return points, np.stack([packed >> 16, packed >> 8, packed], axis=-1).astype(np.uint8)
