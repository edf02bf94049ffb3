"""The message types that ROS 2 brings, as rosbags knows them, for machines without ROS."""

from __future__ import annotations

from functools import cache
from typing import Any

from minidiffuser_ros.contract.errors import EpisodeError


@cache
def typestore() -> Any:
    """The message types that ROS 2 Jazzy brings."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


@cache
def message_definition(msgtype: str) -> tuple[str, str]:
    """Definition of a standard message type with all that it is made of, and its hash.

    Raises EpisodeError for a type that ROS 2 Jazzy does not bring.
    """
    store = typestore()
    if msgtype not in store.fielddefs:
        raise EpisodeError(
            f"the message type '{msgtype:.80}' is none of ROS 2's own: an episode holds standard messages only"
        )
    return store.generate_msgdef(msgtype, ros_version=2)[0], store.hash_rihs01(msgtype)
