"""Reads a LeRobot dataset of version 3.0: its description, its episodes, and the rows of one of them.

Paths from the description stay inside the dataset, sizes are compared with limits before anything is read, and only
the columns asked for are unpacked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.episodes.converters import lerobot_format as lerobot
from minidiffuser_ros.episodes.converters.optional import need

MAX_JSON_BYTES = 2**26
MAX_META_BYTES = 2**28
MAX_GROUP_BYTES = 2**32  # of pictures in one row group, which stay packed until they are used
MAX_NUMBER_BYTES = 2**28  # of the numbers of one episode
MAX_ROWS = 100_000_000
PLACE = re.compile(r"\{(chunk_index|file_index)(?::0(\d)d)?\}")
EPISODE_COLUMNS = (
    "episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
    "dataset_to_index",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Where an episode lies: its number, sentence, length, file, and first row in that file."""

    episode: int
    sentence: str
    length: int
    file: Path
    first: int


class LeRobotReader:
    """A dataset's folder. Raises ConfigurationError for what is none, EpisodeError for what is damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = self._load_info()
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self.episodes = self._load_episodes()
        self.extras, self.spec = self._load_extras()

    def numbers(self, rows: Rows, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of numbers [length, D] or [length] of an episode."""
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for batch in self._batches(rows, list(names), range(rows.length)):
            for name in names:
                parts[name].append(self._numbers(batch[1].column(name), name))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def files(self, rows: Rows, names: Sequence[str], wanted: Sequence[int]) -> Iterator[tuple[int, dict[str, bytes]]]:
        """The picture files in the rows `wanted`, counted from the episode's first and ascending."""
        left = sorted(wanted)
        for start, batch in self._batches(rows, list(names), left):
            for row in [row for row in left if start <= row < start + batch.num_rows]:
                found = {}
                for name in names:
                    value = batch.column(name)[row - start].as_py()
                    content = value.get("bytes") if isinstance(value, dict) else None
                    if not isinstance(content, bytes):
                        raise EpisodeError(
                            f"'{name}' has no picture in row {row}: pictures beside the table are not read"
                        )
                    found[name] = content
                yield row, found

    def _batches(self, rows: Rows, names: list[str], wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Number of its first row in the episode, and a batch, for the row groups in which some are wanted."""
        with self._open(rows.file) as file:
            begin = 0
            for group in range(file.metadata.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                inside = [row for row in wanted if begin <= row + rows.first < end]
                if inside:
                    self._check_group(file, rows.file, group, names)
                    yield from self._batches_of(file, rows, names, group, begin)
                begin = end
            if rows.first + rows.length > begin:
                raise EpisodeError(f"{rows.file} has {begin} rows, the episode ends at {rows.first + rows.length}")

    def _batches_of(self, file: Any, rows: Rows, names: list[str], group: int, begin: int) -> Iterator[tuple[int, Any]]:
        at = begin
        try:
            for batch in file.iter_batches(32, row_groups=[group], columns=names):
                low, high = max(at, rows.first), min(at + batch.num_rows, rows.first + rows.length)
                if low < high:
                    yield low - rows.first, batch.slice(low - at, high - low)
                at += batch.num_rows
        except EpisodeError:
            raise
        except Exception as error:  # pyarrow raises OSError, its own and C++'s errors for damaged files
            raise EpisodeError(f"{rows.file} is damaged ({_line(error)}): copy it again") from None

    def _check_group(self, file: Any, path: Path, group: int, names: list[str]) -> None:
        missing = [name for name in names if name not in file.schema_arrow.names]
        if missing:
            raise EpisodeError(f"{path} has no columns {missing}, which {lerobot.INFO} describes")
        about = file.metadata.row_group(group)
        columns = [about.column(n) for n in range(about.num_columns)]
        wanted = [c for c in columns if c.path_in_schema.split(".")[0] in names or self._of(c, names)]
        size = sum(column.total_uncompressed_size for column in wanted)
        pictures = any(self.features.get(name, {}).get("dtype") == "image" for name in names)
        limit = MAX_GROUP_BYTES if pictures else MAX_NUMBER_BYTES
        if not 0 <= size <= limit or about.num_rows > MAX_ROWS:
            raise EpisodeError(f"{path} claims {size} bytes in a row group, at most {limit} are read")

    @staticmethod
    def _of(column: Any, names: list[str]) -> bool:
        """Whether a column in the file belongs to one of the features, whose names have dots in them."""
        return any(column.path_in_schema == name or column.path_in_schema.startswith(f"{name}.") for name in names)

    def _numbers(self, column: Any, name: str) -> NDArray[Any]:
        length = self._length(name)
        flat = column.flatten() if hasattr(column, "flatten") and "list" in str(column.type) else column
        if flat.null_count or column.null_count or len(flat) != length * len(column):
            raise EpisodeError(f"'{name}' must have {length} numbers in each row")
        array: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
        if array.dtype.kind not in "biuf":
            raise EpisodeError(f"'{name}' must hold numbers, has {flat.type}")
        return array.reshape(len(column), length) if length > 1 else array

    def _length(self, name: str) -> int:
        shape = self.features.get(name, {}).get("shape", [1])
        return int(shape[0]) if isinstance(shape, list) and len(shape) == 1 and type(shape[0]) is int else 1

    def _load_info(self) -> dict[str, Any]:
        path = self.root / lerobot.INFO
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise ConfigurationError(f"{path} has more than {MAX_JSON_BYTES} bytes")
            info = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"cannot read {path} ({error.strerror}): name a LeRobot dataset's folder"
            ) from None
        except (ValueError, RecursionError):
            raise EpisodeError(f"{path} is no JSON: copy it again") from None
        version = info.get("codebase_version") if isinstance(info, dict) else None
        if not isinstance(version, str) or not version.startswith("v3."):
            raise ConfigurationError(
                f"{self.root} has version {version!r:.20}, version 3 is read: LeRobot's own script converts it"
            )
        features, fps = info.get("features"), info.get("fps")
        described = isinstance(features, dict) and all(isinstance(f, dict) and "dtype" in f for f in features.values())
        if not described or not isinstance(fps, int | float) or not 0 < fps < 10_000:
            raise EpisodeError(f"{path} does not describe features and their rate: copy it again")
        return dict(info)

    def _load_episodes(self) -> list[Rows]:
        columns: dict[str, list[Any]] = {name: [] for name in EPISODE_COLUMNS}
        for path in sorted(self.root.glob("meta/episodes/*/*.parquet")):
            table = self._table(path, EPISODE_COLUMNS)
            for name in columns:
                columns[name] += table[name].to_pylist()
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if not found:
            raise ConfigurationError(f"{self.root} describes no episodes in meta/episodes: name a dataset with some")
        firsts: dict[tuple[int, int], int] = {}
        for row in found:
            if not all(type(row[n]) is int and 0 <= row[n] <= MAX_ROWS for n in EPISODE_COLUMNS if n != "tasks"):
                raise EpisodeError(f"{self.root} describes an episode by numbers that cannot be: {row!s:.120}")
            if row["dataset_to_index"] - row["dataset_from_index"] != row["length"] or not row["length"]:
                raise EpisodeError(
                    f"{self.root}: episode {row['episode_index']} is said to have {row['length']} frames"
                )
            place = (row["data/chunk_index"], row["data/file_index"])
            firsts[place] = min(firsts.get(place, MAX_ROWS), row["dataset_from_index"])
        return [
            Rows(
                row["episode_index"],
                next((s for s in row["tasks"] or [] if isinstance(s, str) and s.strip()), ""),
                row["length"],
                self._data_file(place),
                row["dataset_from_index"] - firsts[place],
            )
            for row in found
            for place in [(row["data/chunk_index"], row["data/file_index"])]
        ]

    def _data_file(self, place: tuple[int, int]) -> Path:
        """The file of the rows, by the template in the description; it lies in the dataset."""
        template = self.info.get("data_path")
        values = dict(zip(("chunk_index", "file_index"), place, strict=True))
        name = PLACE.sub(
            lambda m: str(values[m[1]]).zfill(int(m[2] or 0)), template if isinstance(template, str) else "{"
        )
        path = self.root / name
        if "{" in name or Path(name).is_absolute() or not path.resolve().is_relative_to(self.root.resolve()):
            raise EpisodeError(f"{self.root}: the template of paths {template!r:.80} leads out of the dataset")
        return path

    def _load_extras(self) -> tuple[dict[int, dict[str, Any]], dict[str, Any] | None]:
        """What this package noted of each episode, and the spec; nothing where another program made the dataset."""
        path = self.root / lerobot.EXTRAS
        if not path.exists():
            return {}, None
        table = self._table(path, ("episode_index", "name", "task", "variation", "seed", "instructions", "trajectory"))
        try:
            kept = json.loads((table.schema.metadata or {})[b"minidiffuser"])
            return {int(row["episode_index"]): row for row in table.to_pylist()}, dict(kept["spec"])
        except (KeyError, TypeError, ValueError, RecursionError):
            raise EpisodeError(f"{path} is damaged: copy it again, or delete it and give an observation spec") from None

    def _table(self, path: Path, names: Sequence[str]) -> Any:
        with self._open(path) as file:
            sizes = [file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups)]
            if min(sizes, default=0) < 0 or sum(sizes) > MAX_META_BYTES or file.metadata.num_rows > MAX_ROWS:
                raise EpisodeError(f"{path} claims {sum(sizes)} bytes, at most {MAX_META_BYTES} are read")
            if missing := [name for name in names if name not in file.schema_arrow.names]:
                raise EpisodeError(f"{path} has no columns {missing}")
            try:
                return file.read(columns=list(names))
            except Exception as error:
                raise EpisodeError(f"{path} is damaged ({_line(error)}): copy it again") from None

    def _open(self, path: Path) -> Any:
        pq = need("pyarrow.parquet", lerobot.PURPOSE)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise EpisodeError(f"{path} leads out of the dataset")
        try:
            return pq.ParquetFile(path, memory_map=False, pre_buffer=False)
        except Exception as error:
            raise EpisodeError(f"{path} cannot be read ({_line(error)}): copy it again") from None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
