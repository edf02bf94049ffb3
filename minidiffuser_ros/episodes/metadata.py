"""`metadata.yaml` of a rosbag2 recording: what it holds, and what this package has to say of the episode in it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from rosbags.typesys import Stores, get_typestore

from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.episodes.timeline import Timeline

METADATA = "metadata.yaml"
BAG = "rosbag2_bagfile_information"
# Version 9 is that of ROS 2 Jazzy. A description longer than this, or nested deeper, is none.
VERSION, MAX_BYTES, MAX_DEPTH = 9, 2**18, 20


class _Loader(yaml.SafeLoader):
    """Gives up on brackets within brackets, over which PyYAML can spend minutes."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        super().fetch_flow_collection_start(token)


@cache
def message_definition(msgtype: str) -> tuple[str, str]:
    """Definition of a standard message type with all that it is made of, and its hash.

    Raises EpisodeError for a type that ROS 2 Jazzy does not bring.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    if msgtype not in store.fielddefs:
        raise EpisodeError(
            f"the message type '{msgtype:.80}' is none of ROS 2's own: an episode holds standard messages only"
        )
    return store.generate_msgdef(msgtype, ros_version=2)[0], store.hash_rihs01(msgtype)


def write_metadata(
    folder: Path,
    file: str,
    info: EpisodeInfo,
    types: Mapping[str, str],
    timelines: Mapping[str, Timeline],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Describe the bag `file` in `folder`, whole or not at all; times and counts come from the timelines.

    notes: more custom data, beside that of the episode.
    """
    times = [(min(t.log_ns), max(t.log_ns)) for t in timelines.values() if len(t)]
    start = min((first for first, _ in times), default=0)
    length = max((last for _, last in times), default=start) - start
    count = sum(map(len, timelines.values()))
    topics = [
        {
            "topic_metadata": {
                "name": topic,
                "type": msgtype,
                "serialization_format": "cdr",
                "offered_qos_profiles": [],
                "type_description_hash": message_definition(msgtype)[1],
            },
            "message_count": len(timelines[topic]),
        }
        for topic, msgtype in types.items()
    ]
    bag = {
        "version": VERSION,
        "storage_identifier": "mcap",
        "relative_file_paths": [file],
        "starting_time": {"nanoseconds_since_epoch": start},
        "duration": {"nanoseconds": length},
        "message_count": count,
        "topics_with_message_count": topics,
        "compression_format": "",
        "compression_mode": "",
        "files": [
            {
                "path": file,
                "starting_time": {"nanoseconds_since_epoch": start},
                "duration": {"nanoseconds": length},
                "message_count": count,
            }
        ],
        "custom_data": info.to_custom_data() | dict(notes or {}),
        "ros_distro": "jazzy",
    }
    _replace(folder, {BAG: bag})


def read_metadata(folder: Path) -> dict[str, Any]:
    """Everything below the file's one key. Raises EpisodeError for what is missing, too long or no such description."""
    path = folder / METADATA
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EpisodeError(f"{path} has more than {MAX_BYTES} bytes: it is no description of a recording")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise EpisodeError(f"cannot read {path} ({error.strerror}): name the folder of an episode") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = str(error).split("\n", 1)[0]
        raise EpisodeError(f"{path} is no YAML ({reason:.100}): repair the episode or discard it") from None
    bag = content.get(BAG) if isinstance(content, dict) else None
    if not isinstance(bag, dict):
        raise EpisodeError(f"{path} has no '{BAG}': it describes no rosbag2 recording")
    return bag


def read_custom_data(folder: Path) -> dict[str, str]:
    """What the recording says beyond rosbag2's own. Raises EpisodeError if that is nothing."""
    data = read_metadata(folder).get("custom_data")
    if not isinstance(data, dict):
        raise EpisodeError(f"{folder} has no custom data: it was not recorded by this package")
    return data


def write_custom_data(folder: Path, info: EpisodeInfo) -> None:
    """Replace what the recording says of itself, and nothing else in the file."""
    bag = read_metadata(folder)
    others = bag.get("custom_data")
    _replace(folder, {BAG: bag | {"custom_data": (others if isinstance(others, dict) else {}) | info.to_custom_data()}})


def bag_file(folder: Path) -> Path:
    """The one MCAP file of a recording. Raises EpisodeError if there is none, several, or it lies elsewhere."""
    bag = read_metadata(folder)
    names = bag.get("relative_file_paths")
    if bag.get("storage_identifier") != "mcap" or not isinstance(names, list) or len(names) != 1:
        raise EpisodeError(f"{folder} must hold one MCAP file, its {METADATA} tells otherwise")
    name = names[0]
    if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
        raise EpisodeError(f"{folder} has no file {name!r:.80}, which its {METADATA} names: repair or discard it")
    return folder / name


def _replace(folder: Path, content: Mapping[str, Any]) -> None:
    # Wide lines: a JSON document stays on one.
    text = yaml.safe_dump(dict(content), sort_keys=False, width=2**20, allow_unicode=True)
    replace_file(folder / METADATA, lambda path: path.write_text(text, encoding="utf-8"))
