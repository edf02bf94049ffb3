"""Reads a LeRobot dataset of version 3.0: its description, its episodes, and the rows of one of them.

Paths from the description stay inside the dataset, sizes are compared with limits before anything is read, and only
the columns asked for are unpacked.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError, MinidiffuserError
from minidiffuser_ros.episodes.converters import lerobot_format as lerobot
from minidiffuser_ros.episodes.converters.optional import need
from minidiffuser_ros.episodes.converters.parquet_claims import claims_of

MAX_JSON_BYTES = 2**26
MAX_META_BYTES = 2**28
MAX_GROUP_BYTES = 2**32  # of pictures in one row group, which stay packed until they are used
MAX_PER_ROW = 64  # values of a column: a pose has 16
MAX_ROWS = 2**40
MAX_FRAMES = 250_000  # of an episode: two hours at 30 a second
# Of a table that describes episodes: rows, texts in a column, numbers in a column, bytes.
TABLE_LIMITS = (1_000_000, 2_000_000, 50_000_000, MAX_META_BYTES)
PLACE = re.compile(r"\{(chunk_index|file_index)(?::0(\d)d)?\}")
EPISODE_COLUMNS = (
    "episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
    "dataset_to_index",
)  # fmt: skip
NOTED = ("episode_index", "name", "task", "variation", "seed", "instructions")


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
        files = [path for path in sorted(root.rglob("*.parquet")) if path.is_file() and self._is_inside(path)]
        self._claims = claims_of(files)
        self.episodes = self._load_episodes([path for path in files if path.match("meta/episodes/*/*.parquet")])
        self.extras, self.spec = self._load_extras()

    def numbers(self, rows: Rows, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns of numbers [length, D] or [length] of an episode."""
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        with _damage_told(rows.file):
            for _, batch in self._batches(rows, list(names), range(rows.length)):
                for name in names:
                    parts[name].append(self._numbers(batch.column(name), name))
            return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def files(self, rows: Rows, names: Sequence[str], wanted: Sequence[int]) -> Iterator[tuple[int, dict[str, bytes]]]:
        """The picture files in the rows `wanted`, counted from the episode's first and ascending."""
        with _damage_told(rows.file):
            for start, batch in self._batches(rows, list(names), wanted):
                for row in wanted[bisect_left(wanted, start) : bisect_left(wanted, start + batch.num_rows)]:
                    yield (
                        row,
                        {name: self._file_in(batch.column(name)[row - start].as_py(), name, row) for name in names},
                    )

    @staticmethod
    def _file_in(value: Any, name: str, row: int) -> bytes:
        content = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(content, bytes):
            raise EpisodeError(f"'{name}' has no picture in row {row}: pictures beside the table are not read")
        return content

    def _batches(self, rows: Rows, names: list[str], wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Number of its first row in the episode, and a batch, for the row groups in which some are wanted."""
        # By reference: a short file can repeat a long picture without end.
        pictures = [f"{name}.bytes" for name in names if self.features.get(name, {}).get("dtype") == "image"]
        claims = self._claims.get(rows.file)
        if claims is None:
            raise EpisodeError(f"{rows.file} cannot be read: there is no such file")
        if claims.lowest < 0 or claims.largest_group > MAX_GROUP_BYTES or claims.values_per_row > MAX_PER_ROW:
            raise EpisodeError(
                f"{rows.file} claims {claims.largest_group} bytes in a group of rows and {claims.values_per_row:.0f} "
                f"values in one, at most {MAX_GROUP_BYTES} and {MAX_PER_ROW} are read"
            )
        with self._open(rows.file, pictures) as file:
            if missing := [name for name in names if name not in file.schema_arrow.names]:
                raise EpisodeError(f"{rows.file} has no columns {missing}, which {lerobot.INFO} describes")
            begin = 0
            for group in range(file.metadata.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                low, high = (bisect_left(wanted, at - rows.first) for at in (begin, end))
                if low < high:
                    yield from self._batches_of(file, rows, names, group, begin)
                begin = end
            if rows.first + rows.length > begin:
                raise EpisodeError(f"{rows.file} has {begin} rows, the episode ends at {rows.first + rows.length}")

    @staticmethod
    def _batches_of(file: Any, rows: Rows, names: list[str], group: int, begin: int) -> Iterator[tuple[int, Any]]:
        at = begin
        for batch in file.iter_batches(32, row_groups=[group], columns=names):
            low, high = max(at, rows.first), min(at + batch.num_rows, rows.first + rows.length)
            if low < high:
                yield low - rows.first, batch.slice(low - at, high - low)
            at += batch.num_rows

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

    def _load_episodes(self, paths: Sequence[Path]) -> list[Rows]:
        columns: dict[str, list[Any]] = {name: [] for name in EPISODE_COLUMNS}
        for path in paths:
            table = self._table(path, EPISODE_COLUMNS)
            with _damage_told(path):
                for name in columns:
                    columns[name] += table[name].to_pylist()
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if not found:
            raise ConfigurationError(f"{self.root} describes no episodes in meta/episodes: name a dataset with some")
        firsts: dict[tuple[int, int], int] = {}
        for row in found:
            if not all(type(row[n]) is int and 0 <= row[n] <= MAX_ROWS for n in EPISODE_COLUMNS if n != "tasks"):
                raise EpisodeError(f"{self.root} describes an episode by numbers that cannot be: {row!s:.120}")
            if (
                row["dataset_to_index"] - row["dataset_from_index"] != row["length"]
                or not 0 < row["length"] <= MAX_FRAMES
            ):
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
        if "{" in name or Path(name).is_absolute() or not self._is_inside(path):
            raise EpisodeError(f"{self.root}: the template of paths {template!r:.80} leads out of the dataset")
        return path

    def _load_extras(self) -> tuple[dict[int, dict[str, Any]], dict[str, Any] | None]:
        """What this package noted of each episode, and the spec; nothing where another program made the dataset."""
        path = self.root / lerobot.EXTRAS
        if path not in self._claims:
            return {}, None
        table = self._table(path, (*NOTED, "trajectory"))
        try:
            kept = json.loads((table.schema.metadata or {})[b"minidiffuser"])
            rows = table.select(list(NOTED)).to_pylist()
            ways = table["trajectory"].combine_chunks()
            for row, way in zip(rows, ways, strict=True):
                row["trajectory"] = way.values.to_numpy(zero_copy_only=False)
            return {int(row["episode_index"]): row for row in rows}, dict(kept["spec"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise EpisodeError(f"{path} is damaged: copy it again, or delete it and give an observation spec") from None

    def _table(self, path: Path, names: Sequence[str]) -> Any:
        """A table of the description. Texts are read by reference: a short file can repeat a long one without end."""
        claims = self._claims[path]
        made = (claims.rows, claims.texts, claims.values, claims.size)
        if claims.lowest < 0 or any(claim > limit for claim, limit in zip(made, TABLE_LIMITS, strict=True)):
            raise EpisodeError(
                f"{path} claims {made[0]} rows, {made[1]} texts or {made[2]} numbers in a column and {made[3]} bytes, "
                f"at most {TABLE_LIMITS} are read"
            )
        with _damage_told(path), self._open(path, claims.text_columns) as file:
            if missing := [name for name in names if name not in file.schema_arrow.names]:
                raise EpisodeError(f"{path} has no columns {missing}")
            table = file.read(columns=list(names))
            table.validate(full=True)
            length = sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks)
            if length > MAX_META_BYTES:
                raise EpisodeError(f"{path} has texts of {length} bytes, at most {MAX_META_BYTES} are read")
            return table

    def _is_inside(self, path: Path) -> bool:
        """Whether a path, with its links followed, stays in the dataset."""
        return path.resolve().is_relative_to(self.root.resolve())

    def _open(self, path: Path, by_reference: Sequence[str] = ()) -> Any:
        pq = need("pyarrow.parquet", lerobot.PURPOSE)
        with _damage_told(path):
            return pq.ParquetFile(path, pre_buffer=False, read_dictionary=list(by_reference))


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes pyarrow raise becomes one sentence that names it."""
    try:
        yield
    except MinidiffuserError:
        raise
    except Exception as error:  # OSError, pyarrow's own, UnicodeDecodeError of a column's name, and others
        reason = str(error).splitlines()[0] if str(error) else ""
        raise EpisodeError(
            f"{path} cannot be read ({type(error).__name__}: {reason:.80}): it is damaged, copy it again"
        ) from None


def _text_bytes(array: Any) -> int:
    """How long the texts of an array would be one after the other, which holds them by reference."""
    pc = need("pyarrow.compute", lerobot.PURPOSE)
    while hasattr(array, "flatten") and hasattr(array, "offsets"):
        array = array.flatten()
    if not hasattr(array, "dictionary"):
        return 0
    counts = pc.value_counts(array.indices).flatten() if len(array) else ()
    if not counts:
        return 0
    lengths = pc.fill_null(pc.binary_length(array.dictionary), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    used = pc.fill_null(counts[0], 0).to_numpy(zero_copy_only=False)
    return int((lengths[used] * counts[1].to_numpy(zero_copy_only=False)).sum()) if len(lengths) else 0
