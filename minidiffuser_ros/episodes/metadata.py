"""`metadata.yaml` of a rosbag2 recording: what it holds, and what this package has to say of the episode in it.

It may come from elsewhere: it is read as data, and believed only where it can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minidiffuser_ros.contract.episode import METADATA, EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.episodes.timeline import Timeline
from minidiffuser_ros.episodes.typestore import message_definition

BAG = "rosbag2_bagfile_information"
# Version 9 is that of ROS 2 Jazzy. A description longer than this, or nested deeper, is none: an episode's takes
# 10 KiB, and YAML takes a hundred times its size in memory.
VERSION, MAX_BYTES, MAX_DEPTH = 9, 2**17, 20


class _Loader(yaml.SafeLoader):
    """Gives up on brackets within brackets, over which PyYAML can spend minutes."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        super().fetch_flow_collection_start(token)


@dataclass(frozen=True)
class Recording:
    """The file with the messages, whether each message is packed by itself, what the episode says of itself, and the
    custom data that says so and maybe more."""

    file: Path
    packed_messages: bool
    info: EpisodeInfo
    about: Mapping[str, str]


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
    content = _content(path)
    bag = content.get(BAG) if isinstance(content, dict) else None
    if not isinstance(bag, dict):
        raise EpisodeError(f"{path} does not describe a rosbag2 recording: it has no '{BAG}'")
    return bag


def custom_data(folder: Path, bag: Mapping[str, Any]) -> dict[str, str]:
    """What the description `bag` of a folder says beyond rosbag2's own. Raises EpisodeError if that is nothing."""
    data = bag.get("custom_data")
    if not isinstance(data, dict):
        raise EpisodeError(f"{folder} is a recording, but no episode of this package: it has no custom data")
    return {key: value for key, value in data.items() if isinstance(key, str) and isinstance(value, str)}


def read_custom_data(folder: Path) -> dict[str, str]:
    """What the recording says beyond rosbag2's own. Raises EpisodeError if that is nothing."""
    return custom_data(folder, read_metadata(folder))


def told_info(folder: Path, about: Mapping[str, str]) -> EpisodeInfo:
    """The episode in a folder's custom data. Raises EpisodeError, naming the folder."""
    try:
        return EpisodeInfo.from_custom_data(about)
    except EpisodeError as error:
        raise EpisodeError(f"{folder}: {error}") from None


def read_recording(folder: Path) -> Recording:
    """Read and check an episode's description. Raises EpisodeError: missing, foreign, or leading elsewhere."""
    bag = read_metadata(folder)
    # Only texts are quoted: with YAML's aliases, anything else may be endless.
    mode, how = (_word(bag.get(key)) for key in ("compression_mode", "compression_format"))
    if mode not in ("", "none", "message") or (mode == "message" and how != "zstd"):
        raise EpisodeError(
            f"{folder} is compressed per '{mode:.40}' with '{how:.40}': only messages by themselves, with zstd, and "
            "the chunks of an MCAP file may be"
        )
    about = custom_data(folder, bag)
    return Recording(_file(folder, bag), mode == "message", told_info(folder, about), about)


def bag_file(folder: Path) -> Path:
    """The one MCAP file of a recording. Raises EpisodeError if there is none, several, or it lies elsewhere."""
    return _file(folder, read_metadata(folder))


def write_custom_data(folder: Path, info: EpisodeInfo) -> None:
    """Replace what the recording says of itself, and nothing else in the file."""
    bag = read_metadata(folder)
    others = bag.get("custom_data")
    _replace(folder, {BAG: bag | {"custom_data": (others if isinstance(others, dict) else {}) | info.to_custom_data()}})


def _content(path: Path) -> Any:
    if path.exists() and not path.is_file():
        raise EpisodeError(f"{path} is no file: name the folder of a recorded episode")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EpisodeError(
            f"cannot read {path} ({error.strerror}): name the folder of an episode, and repair one that was interrupted"
        ) from None
    if len(text) > MAX_BYTES:
        raise EpisodeError(f"{path} is larger than {MAX_BYTES >> 10} KiB: it does not describe an episode")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, KeyError, OverflowError):
        raise EpisodeError(f"{path} is no YAML: it was damaged or is no episode's") from None


def _file(folder: Path, bag: Mapping[str, Any]) -> Path:
    """The one MCAP file; it lies in the folder itself."""
    storage, paths = _word(bag.get("storage_identifier")), bag.get("relative_file_paths")
    if storage != "mcap":
        raise EpisodeError(f"{folder} is stored as '{storage:.40}': episodes are MCAP files")
    if not isinstance(paths, list) or len(paths) != 1 or not isinstance(paths[0], str):
        count = len(paths) if isinstance(paths, list) else "something else"
        raise EpisodeError(f"{folder} must name one file of messages, not {count}: join its parts first")
    name = paths[0]
    path = folder / name
    if not name or "\0" in name or Path(name).name != name or name in (".", "..") or path.is_symlink():
        raise EpisodeError(f"{folder} names {name!r:.80} as its messages: they must be a file in the folder itself")
    if not path.is_file():
        raise EpisodeError(f"{folder} lacks its file of messages {name!r:.80}: copy the whole folder")
    return path


def _word(value: Any) -> str:
    return value.lower() if isinstance(value, str) else "" if value is None else "something else"


def _replace(folder: Path, content: Mapping[str, Any]) -> None:
    # Wide lines: a JSON document stays on one.
    text = yaml.safe_dump(dict(content), sort_keys=False, width=2**20, allow_unicode=True)
    replace_file(folder / METADATA, lambda path: path.write_text(text, encoding="utf-8"))
