"""Pictures for RViz: the candidates of one decision, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from minidiffuser_ros.bridge.headers import header
from minidiffuser_ros.bridge.poses import pose_to_message
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import matrix_from_quat

CANDIDATE_DIAMETER = 0.012
APPROACH_LENGTH = 0.05
AXIS_LENGTH = 0.08
AXIS_WIDTH = 0.006


def candidate_markers(candidates: Sequence[Keypose], chosen: Keypose, frame_id: str, stamp_ns: int) -> MarkerArray:
    """Spheres and approach lines of the candidates, green where the gripper opens and orange where it closes,
    and the axes of the chosen keypose. The first marker clears the previous decision."""
    markers = [Marker(header=header(frame_id, stamp_ns), action=Marker.DELETEALL)]
    spheres = _marker("candidates", 0, Marker.SPHERE_LIST, frame_id, stamp_ns)
    spheres.scale = Vector3(x=CANDIDATE_DIAMETER, y=CANDIDATE_DIAMETER, z=CANDIDATE_DIAMETER)
    lines = _marker("approach", 0, Marker.LINE_LIST, frame_id, stamp_ns)
    lines.scale.x = 0.25 * CANDIDATE_DIAMETER
    for keypose in candidates:
        color = _opening_color(keypose.is_open)
        # The tool's z axis points out of the hand: the approach comes from against it.
        start = keypose.position - APPROACH_LENGTH * matrix_from_quat(keypose.quat_wxyz)[:, 2]
        spheres.points.append(_point(keypose.position))
        spheres.colors.append(color)
        lines.points.extend([_point(start), _point(keypose.position)])
        lines.colors.extend([color, color])
    if candidates:
        markers.extend([spheres, lines])
    for axis in range(3):
        arrow = _marker("chosen", axis, Marker.ARROW, frame_id, stamp_ns)
        tip = chosen.position + AXIS_LENGTH * matrix_from_quat(chosen.quat_wxyz)[:, axis]
        arrow.points = [_point(chosen.position), _point(tip)]
        arrow.scale = Vector3(x=AXIS_WIDTH, y=2.0 * AXIS_WIDTH, z=0.0)
        arrow.color = ColorRGBA(r=float(axis == 0), g=float(axis == 1), b=float(axis == 2), a=1.0)
        markers.append(arrow)
    return MarkerArray(markers=markers)


def _marker(namespace: str, index: int, kind: int, frame_id: str, stamp_ns: int) -> Marker:
    marker = Marker(header=header(frame_id, stamp_ns), ns=namespace, id=index, type=kind, action=Marker.ADD)
    marker.pose = pose_to_message(np.zeros(3), (1.0, 0.0, 0.0, 0.0))
    return marker


def _opening_color(is_open: bool) -> ColorRGBA:
    return ColorRGBA(r=0.2, g=0.8, b=0.3, a=0.7) if is_open else ColorRGBA(r=1.0, g=0.55, b=0.1, a=0.7)


def _point(position: np.ndarray) -> Point:
    x, y, z = (float(v) for v in position)
    return Point(x=x, y=y, z=z)
