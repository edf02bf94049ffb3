"""LeRobot datasets of other programs: read where they have what is needed, refused in one sentence where not."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade_dataset import (
    CAMERA,
    FEATURES,
    FRAMES,
    NAMES,
    SPEC,
    STEPS,
    T_WORLD_CAMERA,
    png,
    some_columns,
    write_dataset,
)
from PIL import Image

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError, MinidiffuserError
from minidiffuser_ros.episodes.converters import parquet_claims
from minidiffuser_ros.episodes.converters.lerobot import LeRobotOptions, import_lerobot
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.builder import CameraView, ObservationBuilder

OPTIONS = LeRobotOptions(spec=SPEC)
TASK = "push_the_red_block"


def imported(root: Path) -> list[Demonstration]:
    out = root.parent / "out"
    assert import_lerobot(root, out, OPTIONS) == 2
    return [load_demonstration(out / TASK / f"episode_{n:06d}.npz") for n in range(2)]


def refused(root: Path, kind: type[MinidiffuserError], message: str, options: LeRobotOptions = OPTIONS) -> None:
    """Refused in one line, and nothing is written."""
    with pytest.raises(kind, match=message) as caught:
        import_lerobot(root, root.parent / "out", options)
    assert "\n" not in str(caught.value)
    assert not list(root.parent.glob("out/**/*.npz"))


def test_frames_become_what_the_observation_builder_makes_of_them(tmp_path: Path) -> None:
    for seed, made in enumerate(imported(write_dataset(tmp_path / "set"))):
        columns, at = some_columns(seed), 0
        for step, frame in enumerate(STEPS):
            state, tool = columns["observation.state"][frame], columns["tool_pose"][frame]
            depth = columns[NAMES[1]][frame] * np.float32(0.001)
            view = CameraView("front", columns[NAMES[0]][frame], depth, CAMERA, T_WORLD_CAMERA, 0)
            pose = transform_from(tool[:3], tool[3:])
            seen = ObservationBuilder(SPEC).build([view], np.array(state[:7]), state[7], pose, 0)
            np.testing.assert_array_equal(made.points[at : at + made.counts[step]], seen.points)
            np.testing.assert_array_equal(made.colors[at : at + made.counts[step]], seen.colors)
            np.testing.assert_array_equal(made.joints[step], state[:7])
            np.testing.assert_array_equal(made.tool[step], tool)
            np.testing.assert_array_equal(made.targets[step], columns["keypose.target"][frame])
            at += made.counts[step]
        assert (made.task, made.variation, made.seed, made.spec) == (TASK, 0, seed, SPEC)
        assert made.instructions == ("Push the red block.",)


def test_everything_that_is_missing_is_named_in_one_sentence(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", drop=(NAMES[1], "camera.front.pose", "camera.front.intrinsics"))
    missing = "lacks observation.images.front_depth, camera.front.intrinsics, camera.front.pose: points need"
    refused(root, ConfigurationError, missing)
    refused(write_dataset(tmp_path / "b", drop=("tool_pose",)), ConfigurationError, "lacks tool_pose")
    refused(write_dataset(tmp_path / "c"), ConfigurationError, "give an observation spec", LeRobotOptions())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (NAMES[0], {"dtype": "video"}, "as 'video': pictures of type image are read"),
        (NAMES[1], {"info": {"is_depth_map": True}}, "does not tell the unit"),
        (NAMES[1], {"info": {"depth_scale_m": "1"}}, "does not tell the unit"),
        (NAMES[0], {"shape": [30, 40]}, "the size"),
        (NAMES[0], {"shape": [30, -40, 3]}, "the size"),
        (NAMES[0], {"shape": [60, 40, 3]}, "a picture must have 40x60 pixels of RGB, has 40x30"),
        (NAMES[1], {"shape": [2**20, 2**20, 1]}, "too large"),
        ("observation.state", {"shape": [6]}, "seven joints"),
    ],
)
def test_a_feature_that_is_something_else_is_told(tmp_path: Path, name: str, change: Any, message: str) -> None:
    features = FEATURES | {name: FEATURES[name] | change}
    refused(write_dataset(tmp_path / "set", info={"features": features}), MinidiffuserError, message)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"codebase_version": "v2.1"}, "version 'v2.1', version 3 is read"),
        ({"codebase_version": None}, "version None"),
        ({"features": []}, "does not describe features"),
        ({"fps": -1}, "does not describe features and their rate"),
        ({"data_path": "/etc/{chunk_index}/{file_index}"}, "leads out of the dataset"),
        ({"data_path": "../{chunk_index:03d}/{file_index:03d}.parquet"}, "leads out of the dataset"),
        ({"data_path": "{chunk_index.__class__}/{file_index}"}, "leads out of the dataset"),
        ({"data_path": 3}, "leads out of the dataset"),
        ({"data_path": "data/none-{file_index}.parquet"}, "cannot be read"),
    ],
)
def test_a_description_that_cannot_be_is_refused(tmp_path: Path, info: dict[str, Any], message: str) -> None:
    refused(write_dataset(tmp_path / "set", info=info), MinidiffuserError, message)


def test_a_link_out_of_the_dataset_is_not_followed(tmp_path: Path) -> None:
    root, other = write_dataset(tmp_path / "set"), write_dataset(tmp_path / "other")
    file = root / "data/chunk-000/file-000.parquet"
    file.unlink()
    os.symlink(other / "data/chunk-000/file-000.parquet", file)
    refused(root, EpisodeError, "leads out of the dataset")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 3}, "is said to have 3 frames"),
        ({"length": 0, "dataset_to_index": 0}, "is said to have 0 frames"),
        ({"dataset_from_index": -5, "dataset_to_index": 0}, "numbers that cannot be"),
        ({"length": 2**41, "dataset_to_index": 2**41}, "numbers that cannot be"),
        ({"length": 2**30, "dataset_to_index": 2**30}, "is said to have 1073741824 frames"),
        ({"length": 1000, "dataset_to_index": 1000}, "the episode ends at 1000|its rows are those"),
    ],
)
def test_an_episode_whose_rows_are_not_its_own_is_refused(tmp_path: Path, change: dict[str, int], message: str) -> None:
    root = write_dataset(tmp_path / "set")
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([rows[0] | change, *rows[1:]]), path)
    refused(root, EpisodeError, message)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([["x" * 200_000] * 300_000, ["b"]], "has texts of 60000000001 bytes"),
        ([["b"] * 3_000_000, ["b"]], "3000001 texts"),
    ],
)
def test_a_short_table_that_unfolds_into_a_long_one_is_refused(tmp_path: Path, column: Any, message: str) -> None:
    root = write_dataset(tmp_path / "set")
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    sizes, words = [len(texts) for texts in column], [texts[0] for texts in column]
    indices = pa.array(np.repeat(np.arange(2, dtype=np.int32), sizes))
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(words))
    unfolding = pa.ListArray.from_arrays(pa.array([0, sizes[0], sum(sizes)], pa.int32()), texts)
    pq.write_table(table.set_column(1, "tasks", unfolding), path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(root, EpisodeError, message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def bomb(width: int, height: int, data: int = 2**24) -> bytes:
    """A PNG file that says it is `width` by `height` pixels, with that many bytes of zeros packed in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (bomb(50_000, 50_000), "cannot be read"),
        (bomb(9000, 9000), "has 9000x9000 of RGB"),
        (bomb(40, 30)[:60], "cannot be read"),
        (b"\x80\x04 a pickle", "cannot be read"),
        (b"", "cannot be read"),
        (tiff(), "cannot be read"),
        (png(np.zeros((30, 40), np.uint8)), "of RGB, has 40x30 of L"),
        (png(np.zeros((10, 40, 3), np.uint8)), "has 40x10"),
    ],
)
def test_a_picture_that_is_none_is_refused_before_it_is_unpacked(tmp_path: Path, picture: bytes, message: str) -> None:
    root = write_dataset(tmp_path / "set", **{NAMES[0].replace(".", "__"): [picture] * FRAMES})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(root, EpisodeError, message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_pictures_that_lie_beside_the_table_are_not_looked_for(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    kind = table.schema.field(NAMES[0]).type
    beside = pa.array([{"bytes": None, "path": "/etc/hostname"}] * len(table), kind)
    pq.write_table(table.set_column(table.column_names.index(NAMES[0]), NAMES[0], beside), path)
    refused(root, EpisodeError, "pictures beside the table are not read")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("tool_pose", [[0.0] * 7] * FRAMES, "unit quaternion"),
        ("observation.state", [[np.nan] * 8] * FRAMES, "not finite"),
        ("keypose.target", [[9.0] * 8] * FRAMES, "unit quaternion"),
        ("keypose.is_step", [False] * FRAMES, "0 frames before keyposes"),
        ("camera.front.intrinsics", [[0.0] * 9] * FRAMES, "of a camera"),
        ("camera.front.pose", [[1e300] * 16] * FRAMES, "only 0 points|not finite|valid"),
        (NAMES[1], [np.zeros((30, 40), np.uint16)] * FRAMES, "no valid depth pixel"),
        ("observation.state", [[0.0] * 3] * FRAMES, "must have 8 numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_cannot_be_are_told(tmp_path: Path, column: str, values: list[Any], message: str) -> None:
    root = write_dataset(tmp_path / "set", **{column.replace(".", "__"): values})
    refused(root, EpisodeError, message)
    with pytest.raises(EpisodeError, match="episode 0"):
        import_lerobot(root, tmp_path / "out", OPTIONS)


def test_a_bad_episode_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set")
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    steps = [n >= FRAMES and n - FRAMES in STEPS for n in range(2 * FRAMES)]
    pq.write_table(
        table.set_column(table.column_names.index("keypose.is_step"), "keypose.is_step", pa.array(steps)), path
    )
    assert import_lerobot(root, tmp_path / "out", LeRobotOptions(spec=SPEC, keep_going=True)) == 1


def test_files_cut_off_anywhere_are_refused(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set")
    for path in sorted(path for path in root.rglob("*.*") if path.is_file()):
        whole = path.read_bytes()
        for length in np.linspace(0, len(whole) - 1, 4).astype(int):
            path.write_bytes(whole[:length])
            refused(root, MinidiffuserError, "cannot be read|no JSON|damaged")
        path.write_bytes(whole)


def test_a_file_at_which_pyarrow_ends_the_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_claims, "CHILD", "import os; os.abort()")
    refused(write_dataset(tmp_path / "set"), EpisodeError, "file-000.parquet cannot be read .*description is damaged")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_bytes_are_refused_or_read_but_nothing_else_happens(tmp_path: Path) -> None:
    root, rng, told = write_dataset(tmp_path / "set"), np.random.default_rng(0), 0
    files = sorted(path for path in root.rglob("*.*") if path.is_file())
    for round_ in range(30):
        path = files[round_ % len(files)]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        # Half of them in the last kilobytes, where the description of a table is.
        low = max(0, len(whole) - 4000) if round_ % 2 else 0
        for index in rng.integers(low, len(whole), 3):
            damaged[index] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            import_lerobot(root, tmp_path / "out" / str(round_), OPTIONS)
        except MinidiffuserError as error:
            told += 1
            assert "\n" not in str(error)  # noqa: PT017  # which of the two it is depends on the bytes
        path.write_bytes(whole)
    assert told > 5


def test_nothing_is_unpickled_and_no_code_in_names_runs(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set")
    extras = {"episode_index": [0, 1], "name": ["../../escaped", "b"], "task": ["t", "t"], "variation": [0, 0],
              "seed": [0, 1], "instructions": [["a"], ["b"]], "trajectory": [[0.0], [0.0]]}  # fmt: skip
    kept = {"minidiffuser": json.dumps({"format": 1, "spec": SPEC.to_dict()})}
    pq.write_table(pa.table(extras).replace_schema_metadata(kept), root / "meta/minidiffuser.parquet")
    refused(root, EpisodeError, "rename it")
    pq.write_table(pa.table(extras).replace_schema_metadata({"minidiffuser": "{"}), root / "meta/minidiffuser.parquet")
    refused(root, EpisodeError, "is damaged")
