"""Writes a LeRobot dataset: each episode into a file of its own first, then all of them into the dataset.

The episodes' files outlast an interruption, so that the same command goes on with the rest; the dataset is put
together in a folder of a temporary name and renamed, so that one that exists is complete.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.episodes.converters import lerobot_format as lerobot
from minidiffuser_ros.episodes.converters.lerobot_clips import Clip, Frame
from minidiffuser_ros.episodes.converters.lerobot_stats import Stats, from_plain, plain, sampled, stats_of, together
from minidiffuser_ros.episodes.converters.optional import need
from minidiffuser_ros.episodes.converters.pictures import png_of

FRAMES_PER_GROUP = 32  # what is in memory at a time: two cameras of 640 by 480 take 25 MB
MAX_SAMPLES = 100  # pictures per camera and episode whose pixels enter the statistics
ABOUT = b"minidiffuser"
STAGED = "episodes"  # the folder of the episodes' own files
EXTRAS_FORMAT = 1
# Known only when all episodes are.
LATER = ("episode_index", "index", "task_index")


class _Sampled:
    """Pixels of some of the pictures, evenly over a clip of unknown length."""

    def __init__(self) -> None:
        self._every, self._seen = 1, 0
        self._kept: list[NDArray[Any]] = []

    def add(self, picture: NDArray[Any]) -> None:
        """One more picture."""
        if self._seen % self._every == 0:
            self._kept.append(sampled(picture))
        self._seen += 1
        if len(self._kept) > MAX_SAMPLES:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def stats(self, scale: float) -> Stats:
        """Of the values times `scale`; the count is that of the pictures that were looked at."""
        found = stats_of(np.stack(self._kept))
        return {name: value if name == "count" else value * scale for name, value in found.items()}


def stage(clip: Clip, path: Path) -> None:
    """Write a clip's rows, and in the file's metadata what it says of itself. Raises EpisodeError for an empty one."""
    replace_file(path, lambda partial: _stage(clip, partial))


def _stage(clip: Clip, partial: Path) -> None:
    pq = need("pyarrow.parquet", lerobot.PURPOSE)
    features = {k: v for k, v in lerobot.features_of(clip.shape).items() if k not in LATER}
    schema = lerobot.schema_of(features)
    numbers: dict[str, list[Any]] = {k: [] for k, v in features.items() if v["dtype"] != "image"}
    pixels = {k: _Sampled() for k, v in features.items() if v["dtype"] == "image"}
    with pq.ParquetWriter(partial, schema, compression="snappy") as writer:
        length = 0
        for group in _groups(clip.frames()):
            columns = _columns(group, length, clip.shape.fps, pixels)
            for name, values in numbers.items():
                values.extend(columns[name])
            writer.write_table(_table(columns, features, schema))
            length += len(group)
        if not length:
            raise EpisodeError("it has no frames")
        stats = {name: stats_of(np.array(values).reshape(length, -1)) for name, values in numbers.items()}
        for name, samples in pixels.items():
            stats[name] = samples.stats(1.0 if "info" in features[name] else 1.0 / 255.0)
        about = {
            "length": length,
            "name": clip.name,
            "task": clip.task,
            "variation": clip.variation,
            "seed": clip.seed,
            "instructions": clip.instructions,
            "spec": clip.spec.to_dict(),
            "shape": asdict(clip.shape),
            "stats": plain(stats),
            "trajectory": base64.b64encode(clip.trajectory.astype("<f4").tobytes()).decode("ascii"),
        }
        writer.add_key_value_metadata({ABOUT: json.dumps(about).encode()})


def _groups(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    group: list[Frame] = []
    for frame in frames:
        group.append(frame)
        if len(group) == FRAMES_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _columns(group: Sequence[Frame], start: int, fps: int, pixels: Mapping[str, _Sampled]) -> dict[str, list[Any]]:
    """Values by column; pictures packed, and their pixels noted for the statistics."""
    columns: dict[str, list[Any]] = {
        lerobot.STATE: [f.state for f in group],
        lerobot.ACTION: [f.action for f in group],
        lerobot.TOOL: [f.tool for f in group],
        lerobot.STAMP: [f.stamp_ns for f in group],
        lerobot.TARGET: [f.target for f in group],
        lerobot.IS_STEP: [f.is_step for f in group],
        "timestamp": [np.float32((start + n) / fps) for n in range(len(group))],
        "frame_index": list(range(start, start + len(group))),
    }
    for camera in group[0].pictures:
        taken = [frame.pictures[camera] for frame in group]
        columns[lerobot.pose_key(camera)] = [p.T_policy_camera.reshape(16) for p in taken]
        columns[lerobot.intrinsics_key(camera)] = [p.matrix.reshape(9) for p in taken]
        for name, arrays in (
            (lerobot.color_key(camera), [p.color for p in taken]),
            (lerobot.depth_key(camera), [p.depth for p in taken]),
        ):
            columns[name] = [png_of(array) for array in arrays]
            for array in arrays:
                pixels[name].add(array)
    return columns


def _table(columns: Mapping[str, list[Any]], features: Mapping[str, Mapping[str, Any]], schema: Any) -> Any:
    pa = need("pyarrow", lerobot.PURPOSE)
    arrays = []
    for field in schema:
        values, feature = columns[field.name], features[field.name]
        if feature["dtype"] == "image":
            arrays.append(pa.array([{"bytes": png, "path": None} for png in values], field.type))
        elif feature["shape"] == [1]:
            arrays.append(pa.array(np.array(values), field.type))
        else:
            flat = np.array(values, feature["dtype"]).reshape(-1)
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def about_staged(path: Path) -> dict[str, Any]:
    """What the file of an episode says of it."""
    pq = need("pyarrow.parquet", lerobot.PURPOSE)
    about: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[ABOUT])
    return about


def assemble(staged: Sequence[Path], partial: Path, out: Path) -> int:
    """Put episodes together in `partial` and rename it to `out`; how many frames there are.

    Raises EpisodeError where two of them have other cameras, sizes, rates or specs: a dataset has one of each.
    """
    abouts = [about_staged(path) for path in staged]
    for path, about in zip(staged, abouts, strict=True):
        for what in ("shape", "spec"):
            if about[what] != abouts[0][what]:
                raise EpisodeError(
                    f"{path.stem} has another {what} than {staged[0].stem} ({about[what]} against {abouts[0][what]}): "
                    f"one dataset has one, so convert them apart, or state one with --fps; delete {partial} before"
                )
    for name in ("data", "meta"):
        shutil.rmtree(partial / name, ignore_errors=True)
    sentences = list(dict.fromkeys(about["instructions"][0] for about in abouts))
    shape = lerobot.Shape(**abouts[0]["shape"])
    places = _write_data(staged, abouts, sentences, shape, partial)
    stats = [
        _whole_stats(n, place, about, sentences) for n, (place, about) in enumerate(zip(places, abouts, strict=True))
    ]
    _write_meta(abouts, places, stats, sentences, shape, partial)
    for file in (*partial.glob("data/*/*"), *partial.glob("meta/**/*.*")):
        with file.open("rb") as written:
            os.fsync(written.fileno())
    shutil.rmtree(partial / STAGED, ignore_errors=True)
    os.replace(partial, out)
    return sum(about["length"] for about in abouts)


def _write_data(
    staged: Sequence[Path], abouts: Sequence[Mapping[str, Any]], sentences: list[str], shape: lerobot.Shape, root: Path
) -> list[tuple[int, int, int]]:
    """The rows of all episodes in files of about DATA_MB; file, first row and row after the last of each episode."""
    pa, pq = need("pyarrow", lerobot.PURPOSE), need("pyarrow.parquet", lerobot.PURPOSE)
    schema = lerobot.schema_of(lerobot.features_of(shape))
    places: list[tuple[int, int, int]] = []
    number, size, row, writer = 0, 0.0, 0, None
    try:
        for episode, (path, about) in enumerate(zip(staged, abouts, strict=True)):
            megabytes = path.stat().st_size / 2**20
            if writer is not None and size + megabytes > lerobot.DATA_MB:
                writer.close()
                number, size, writer = number + 1, 0.0, None
            if writer is None:
                file = root / _file(lerobot.DATA_PATH, number)
                file.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(file, schema, compression="snappy")
            source, start = pq.ParquetFile(path), row
            for group in range(source.num_row_groups):
                table = source.read_row_group(group)
                count = len(table)
                later = {
                    "episode_index": np.full(count, episode),
                    "index": np.arange(row, row + count),
                    "task_index": np.full(count, sentences.index(about["instructions"][0])),
                }
                arrays = [pa.array(later[f.name]) if f.name in later else table[f.name] for f in schema]
                writer.write_table(pa.table(arrays, schema=schema))
                row += count
            size += megabytes
            places.append((number, start, row))
    finally:
        if writer is not None:
            writer.close()
    return places


def _file(template: str, number: int) -> str:
    chunk, file = divmod(number, lerobot.FILES_PER_CHUNK)
    return template.format(chunk_index=chunk, file_index=file)


def _whole_stats(
    episode: int, place: tuple[int, int, int], about: Mapping[str, Any], sentences: list[str]
) -> dict[str, Stats]:
    """An episode's statistics, with those of the columns that were added last."""
    later = {
        "episode_index": np.full(about["length"], episode),
        "index": np.arange(*place[1:]),
        "task_index": np.full(about["length"], sentences.index(about["instructions"][0])),
    }
    return from_plain(about["stats"]) | {name: stats_of(values[:, None]) for name, values in later.items()}


def _write_meta(
    abouts: Sequence[Mapping[str, Any]],
    places: Sequence[tuple[int, int, int]],
    stats: Sequence[Mapping[str, Stats]],
    sentences: list[str],
    shape: lerobot.Shape,
    root: Path,
) -> None:
    pa, pq = need("pyarrow", lerobot.PURPOSE), need("pyarrow.parquet", lerobot.PURPOSE)
    rows = []
    for episode, (about, (number, start, stop), found) in enumerate(zip(abouts, places, stats, strict=True)):
        chunk, file = divmod(number, lerobot.FILES_PER_CHUNK)
        row = {
            "episode_index": episode,
            "tasks": [about["instructions"][0]],
            "length": about["length"],
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": start,
            "dataset_to_index": stop,
        }
        for feature, values in plain(found).items():
            row |= {f"stats/{feature}/{name}": value for name, value in values.items()}
        rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
    path = root / _file(lerobot.EPISODES_PATH, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    pq.write_table(lerobot.tasks_table(sentences), root / lerobot.TASKS)
    pq.write_table(_extras(abouts), root / lerobot.EXTRAS)
    info = lerobot.info_of(shape, len(abouts), places[-1][2], len(sentences))
    for name, content in ((lerobot.INFO, info), (lerobot.STATS, plain(together(stats)))):
        (root / name).write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")


def _extras(abouts: Sequence[Mapping[str, Any]]) -> Any:
    """What LeRobot does not know: one row per episode, and the observation spec of all."""
    pa = need("pyarrow", lerobot.PURPOSE)
    kept = json.dumps({"format": EXTRAS_FORMAT, "spec": abouts[0]["spec"]})
    schema = pa.schema(
        [
            ("episode_index", pa.int64()),
            ("name", pa.string()),
            ("task", pa.string()),
            ("variation", pa.int64()),
            ("seed", pa.int64()),
            ("instructions", pa.list_(pa.string())),
            ("trajectory", pa.list_(pa.float32())),
        ],
        metadata={ABOUT: kept},
    )
    rows = [
        {
            **{name: about[name] for name in ("name", "task", "variation", "seed", "instructions")},
            "episode_index": episode,
            "trajectory": np.frombuffer(base64.b64decode(about["trajectory"]), "<f4"),
        }
        for episode, about in enumerate(abouts)
    ]
    return pa.Table.from_pylist(rows, schema=schema)
