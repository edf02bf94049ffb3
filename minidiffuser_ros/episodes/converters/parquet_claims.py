"""What Parquet files claim of themselves, looked at in a process of its own.

Some damaged descriptions make pyarrow end the whole process ("terminate called after throwing an instance of
parquet::ParquetException") instead of raising an error. A child that ends so tells which file it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.converters.optional import need

TIMEOUT_S = 600.0

CHILD = """
import json, sys
import pyarrow.parquet as pq

for path in json.load(sys.stdin):
    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            columns = [(g.num_rows, g.column(n)) for g in groups for n in range(g.num_columns)]
            texts = [c for _, c in columns if c.physical_type == "BYTE_ARRAY"]
            values = [c.num_values for _, c in columns]
            about = {
                "rows": file.metadata.num_rows,
                "texts": max((c.num_values for c in texts), default=0),
                "values": max(values, default=0),
                "lowest": min([g.num_rows for g in groups] + [g.total_byte_size for g in groups] + values, default=0),
                "size": sum(g.total_byte_size for g in groups),
                "largest_group": max((g.total_byte_size for g in groups), default=0),
                "values_per_row": max((c.num_values / max(rows, 1) for rows, c in columns), default=0),
                "text_columns": sorted({c.path_in_schema for c in texts}),
            }
    except Exception as error:
        about = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:100]}
    print(json.dumps(about), flush=True)
"""


@dataclass(frozen=True)
class Claims:
    """Of one file: rows; most texts and values in a column of a row group; lowest number of all, below 0 where one is
    wrong; bytes of all row groups and of the largest; most values of a column to a row; columns of texts."""

    rows: int
    texts: int
    values: int
    lowest: int
    size: int
    largest_group: int
    values_per_row: float
    text_columns: tuple[str, ...]


def claims_of(paths: Sequence[Path]) -> dict[Path, Claims]:
    """The claims of each file. Raises EpisodeError naming the first that cannot be read."""
    need("pyarrow.parquet", "reading Parquet files")
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=json.dumps([str(path) for path in paths]),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EpisodeError(f"the descriptions of {len(paths)} files were not read within {TIMEOUT_S:.0f} s") from None
    found = {}
    lines = iter(done.stdout.splitlines())
    for path in paths:
        about = json.loads(next(lines, '{"error": "its description is damaged"}'))
        if "error" in about:
            raise EpisodeError(f"{path} cannot be read ({about['error']}): copy it again")
        found[path] = Claims(**about | {"text_columns": tuple(about["text_columns"])})
    return found
