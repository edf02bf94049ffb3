"""Stamps and headers: nanoseconds as one integer inside, `builtin_interfaces/Time` outside."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from minidiffuser_ros.perception.decoding import NANOSECONDS, stamp_to_ns

__all__ = ["header", "stamp_from_ns", "stamp_to_ns"]


def stamp_from_ns(nanoseconds: int) -> Time:
    """Inverse of `stamp_to_ns`."""
    sec, nanosec = divmod(int(nanoseconds), NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def header(frame_id: str, stamp_ns: int) -> Header:
    """Header with frame and stamp."""
    return Header(frame_id=frame_id, stamp=stamp_from_ns(stamp_ns))
