"""Stamps and headers: nanoseconds as one integer inside, `builtin_interfaces/Time` outside."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

NANOSECONDS = 1_000_000_000


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of the clock in use."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def stamp_from_ns(nanoseconds: int) -> Time:
    """Inverse of `stamp_to_ns`."""
    sec, nanosec = divmod(int(nanoseconds), NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def header(frame_id: str, stamp_ns: int) -> Header:
    """Header with frame and stamp."""
    return Header(frame_id=frame_id, stamp=stamp_from_ns(stamp_ns))
