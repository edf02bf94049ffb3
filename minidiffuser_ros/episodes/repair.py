"""Finishes a recording whose recorder died, out of what had reached the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minidiffuser_ros.contract.episode import UNLABELLED, EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError, StorageError
from minidiffuser_ros.contract.files import sync_folder
from minidiffuser_ros.episodes.audit import REPAIRED, Audit, audit_timelines, write_audit
from minidiffuser_ros.episodes.bag_file import BagFile, is_being_written
from minidiffuser_ros.episodes.library import PARTIAL, finish_folder
from minidiffuser_ros.episodes.metadata import read_custom_data, write_metadata
from minidiffuser_ros.episodes.scan import BagScan, scan_timelines
from minidiffuser_ros.episodes.timeline import STAMPED, Timeline, topic_types

COMPRESSION, CHUNK_BYTES = "zstd", 4_000_000
SALVAGED = ".salvaged"


@dataclass(frozen=True)
class RepairReport:
    """What a repair made. damage: what was wrong with the file, empty if only the last steps of a save were missing."""

    folder: Path
    messages: int
    damage: str
    audit: Audit


def repair_episode(partial: Path) -> RepairReport:
    """Save an unfinished recording with every message that is whole, unlabelled; its audit says that it was cut off.

    May be called again after it was interrupted itself. Raises EpisodeError if the episode is still being recorded or
    holds no message, and StorageError if it cannot be read or written, or the disk has no room for a copy of it;
    everything that can be read is still there then.
    """
    source = _source(partial)
    scan = BagScan(source)
    timelines = scan_timelines(scan)
    about = _about(partial) or scan.about
    info = EpisodeInfo.from_custom_data(about).labelled(UNLABELLED)
    types = topic_types(info.topics) | scan.types
    timelines = {t: timelines[t] if t in timelines else Timeline(kind in STAMPED) for t, kind in types.items()}
    count = sum(map(len, timelines.values()))
    if not count:
        raise EpisodeError(f"{partial} holds no message that is whole: there is nothing to save, discard it")
    repaired = about.get(REPAIRED, "")
    try:
        if scan.damage:
            repaired = f"its end is missing: the recorder was killed, the file was repaired ({scan.damage})"
            salvaged = _salvage(source, types, info)
            # The description first: a repair that is interrupted here does not forget what happened.
            write_metadata(partial, source.name, info, types, timelines, _marker(repaired))
            os.replace(salvaged, source)
        write_metadata(partial, source.name, info, types, timelines, _marker(repaired))
        audit = audit_timelines(info, timelines, {}, repaired=repaired)
        write_audit(partial, audit)
        sync_folder(partial)
        return RepairReport(finish_folder(partial), count, scan.damage, audit)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"cannot repair {partial} ({reason}): free or mend the disk and try again") from None


def _source(partial: Path) -> Path:
    """The file of an unfinished recording. Raises EpisodeError."""
    if partial.suffix != PARTIAL or partial.is_symlink() or not partial.is_dir():
        raise EpisodeError(f"{partial} is no unfinished recording: name a folder that ends in {PARTIAL}")
    files = [path for path in partial.glob("*.mcap") if path.is_file() and not path.is_symlink()]
    if len(files) != 1:
        raise EpisodeError(
            f"{partial} holds {len(files)} MCAP files instead of one: there is nothing to save, discard it"
        )
    if is_being_written(files[0]):
        raise EpisodeError(f"{partial} is still being recorded: stop its recorder first")
    return files[0]


def _about(partial: Path) -> dict[str, str]:
    """What the description of the folder says; nothing if it cannot be read, for the file says it, too."""
    try:
        about = read_custom_data(partial)
        EpisodeInfo.from_custom_data(about)
    except EpisodeError:
        return {}
    return about


def _marker(repaired: str) -> Mapping[str, str]:
    return {REPAIRED: repaired} if repaired else {}


def _salvage(source: Path, types: Mapping[str, str], info: EpisodeInfo) -> Path:
    """Copy every whole message into a file with an index. Raises OSError, StorageError if there is no room for it."""
    free, needed = shutil.disk_usage(source.parent).free, source.stat().st_size
    if free < needed:
        raise StorageError(
            f"repairing {source.parent} takes {needed / 1e6:.0f} MB for a while and {free / 1e6:.0f} MB are free: "
            "free some space and try again"
        )
    salvaged = source.with_name(f"{source.name}{SALVAGED}")
    salvaged.unlink(missing_ok=True)
    bag = BagFile(salvaged, types, info.to_custom_data(), COMPRESSION, CHUNK_BYTES)
    try:
        for message in BagScan(source).messages():
            bag.add(message.topic, message.log_ns, message.data, message.sequence)
        bag.finish()
    except BaseException:
        bag.abandon()
        with suppress(OSError):
            salvaged.unlink()
        raise
    return salvaged
