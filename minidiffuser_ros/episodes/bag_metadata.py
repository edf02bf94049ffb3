"""What a recording's `metadata.yaml` says, read as data and believed only where it can be: rosbag2's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError

METADATA = "metadata.yaml"
ROOT_KEY = "rosbag2_bagfile_information"
MAX_BYTES = 1 << 17  # an episode's takes 10 KiB; YAML takes a hundred times its size in memory
OPENING, CLOSING = list(b"[{"), list(b"]}")
MAX_NESTED = 64  # brackets in brackets; PyYAML takes the square of this, and libyaml's stack overflows


@dataclass(frozen=True)
class BagMetadata:
    """The file with the messages, whether each message is packed by itself, and what the episode says of itself."""

    file: Path
    packed_messages: bool
    info: EpisodeInfo


def read_metadata(folder: Path) -> BagMetadata:
    """Read and check an episode's `metadata.yaml`. Raises EpisodeError: missing, foreign, or leading elsewhere."""
    content = _content(folder / METADATA)
    bag = content.get(ROOT_KEY) if isinstance(content, Mapping) else None
    if not isinstance(bag, Mapping):
        raise EpisodeError(f"{folder / METADATA} does not describe a rosbag2 recording: it has no '{ROOT_KEY}'")
    # Only texts are quoted: with YAML's aliases, anything else may be endless.
    storage, mode, how = (
        _word(bag.get(key)) for key in ("storage_identifier", "compression_mode", "compression_format")
    )
    if storage != "mcap":
        raise EpisodeError(f"{folder} is stored as '{storage:.40}': episodes are MCAP files")
    if mode not in ("", "none", "message") or (mode == "message" and how != "zstd"):
        raise EpisodeError(
            f"{folder} is compressed per '{mode:.40}' with '{how:.40}': only messages by themselves, with zstd, and "
            "the chunks of an MCAP file may be"
        )
    custom = bag.get("custom_data")
    if not isinstance(custom, Mapping):
        raise EpisodeError(f"{folder} is a recording, but no episode of this package: it has no custom data")
    return BagMetadata(_file(folder, bag.get("relative_file_paths")), mode == "message", _info(folder, custom))


def _content(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EpisodeError(
            f"cannot read {path} ({error.strerror}): name the folder of an episode, and repair one that was interrupted"
        ) from None
    if len(text) > MAX_BYTES:
        raise EpisodeError(f"{path} is larger than {MAX_BYTES >> 10} KiB: it does not describe an episode")
    codes = np.frombuffer(text, np.uint8)
    depth = np.cumsum(np.isin(codes, OPENING).astype(np.int64) - np.isin(codes, CLOSING))
    if depth.max(initial=0) > MAX_NESTED:
        raise EpisodeError(f"{path} has more than {MAX_NESTED} brackets in each other: it does not describe an episode")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError, TypeError, KeyError, OverflowError):
        raise EpisodeError(f"{path} is no YAML: it was damaged or is no episode's") from None


def _file(folder: Path, paths: Any) -> Path:
    """The one MCAP file; it lies in the folder itself."""
    if not isinstance(paths, list) or len(paths) != 1 or not isinstance(paths[0], str):
        raise EpisodeError(f"{folder} must name one file of messages, not {_count(paths)}: join its parts first")
    name = paths[0]
    path = folder / name
    if not name or "\0" in name or Path(name).name != name or name in (".", "..") or path.is_symlink():
        raise EpisodeError(f"{folder} names {name!r:.80} as its messages: they must be a file in the folder itself")
    if not path.is_file():
        raise EpisodeError(f"{folder} lacks its file of messages {name!r:.80}: copy the whole folder")
    return path


def _count(paths: Any) -> str:
    return f"{len(paths)}" if isinstance(paths, list) else "something else"


def _word(value: Any) -> str:
    return value.lower() if isinstance(value, str) else "" if value is None else "something else"


def _info(folder: Path, custom: Mapping[Any, Any]) -> EpisodeInfo:
    try:
        return EpisodeInfo.from_custom_data({key: value for key, value in custom.items() if isinstance(key, str)})
    except EpisodeError as error:
        raise EpisodeError(f"{folder}: {error}") from None
