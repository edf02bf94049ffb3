"""Keyposes that an operator marks, as standard markers: RViz shows them, and any reader of bags knows them."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from minidiffuser_ros.bridge.headers import header

NAMESPACE = "keypose"
DIAMETER = 0.02


def keypose_mark(index: int, tool: PoseStamped, stamp_ns: int) -> Marker:
    """Mark number `index` where the tool was last seen."""
    marker = Marker(header=header(tool.header.frame_id, stamp_ns), ns=NAMESPACE, id=index, type=Marker.SPHERE)
    marker.action, marker.pose = Marker.ADD, tool.pose
    marker.scale = Vector3(x=DIAMETER, y=DIAMETER, z=DIAMETER)
    marker.color = ColorRGBA(r=0.1, g=0.5, b=1.0, a=0.9)
    return marker


def keypose_unmark(index: int, frame_id: str, stamp_ns: int) -> Marker:
    """Take mark number `index` back."""
    return Marker(header=header(frame_id, stamp_ns), ns=NAMESPACE, id=index, action=Marker.DELETE)


def no_keyposes() -> Marker:
    """Take back all marks, those of the episode before."""
    return Marker(ns=NAMESPACE, action=Marker.DELETEALL)
