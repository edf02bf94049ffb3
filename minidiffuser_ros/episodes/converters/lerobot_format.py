"""LeRobotDataset v3.0 as far as it is written and read here: names, columns, types, paths.

A dataset is a folder:

    meta/info.json                              version, fps, features, totals, templates of the paths
    meta/stats.json                             minimum, maximum, mean, deviation, quantiles of each feature
    meta/tasks.parquet                          task_index by sentence, with the sentence as pandas' index
    meta/episodes/chunk-000/file-000.parquet    length, sentences, where its rows are, and statistics of each episode
    data/chunk-000/file-000.parquet             one row per frame, several episodes to a file

Pictures are features of type `image`: PNG files in the rows. What LeRobot does not know is kept beside:
`meta/minidiffuser.parquet` has the observation spec and what each episode says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minidiffuser_ros.arm.kinematics import JOINT_NAMES
from minidiffuser_ros.episodes.converters.optional import need

VERSION = "v3.0"
ROBOT = "fr3"
PURPOSE = "reading and writing LeRobot datasets"

INFO, STATS, TASKS, EXTRAS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/minidiffuser.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_PER_CHUNK = 1000
DATA_MB, VIDEO_MB = 100, 200

# State and action are LeRobot's names; the others keep out of `observation.`, whose features policies take as input.
STATE, ACTION = "observation.state", "action"
TOOL, STAMP = "tool_pose", "stamp_ns"
TARGET, IS_STEP = "keypose.target", "keypose.is_step"
INDICES = ("frame_index", "episode_index", "index", "task_index")

POSE_NAMES = ["x", "y", "z", "qw", "qx", "qy", "qz"]
KEYPOSE_NAMES = [*POSE_NAMES, "opening"]
STATE_NAMES = [*JOINT_NAMES, "opening"]


def color_key(camera: str) -> str:
    """The feature of a camera's pictures, [H, W, 3] bytes."""
    return f"observation.images.{camera}"


def depth_key(camera: str) -> str:
    """The feature of a camera's depth, [H, W, 1] uint16."""
    return f"observation.images.{camera}_depth"


def pose_key(camera: str) -> str:
    """The feature of T_policy_camera, its 16 numbers row by row."""
    return f"camera.{camera}.pose"


def intrinsics_key(camera: str) -> str:
    """The feature of the intrinsic matrix, its 9 numbers row by row, in pixels of the colour picture."""
    return f"camera.{camera}.intrinsics"


@dataclass(frozen=True)
class Shape:
    """What all episodes of a dataset have in common.

    sizes: camera → height and width of colour, then of depth. depth_unit: metres per count of the depth.
    """

    sizes: Mapping[str, tuple[tuple[int, int], tuple[int, int]]]
    depth_unit: float
    fps: int


def features_of(shape: Shape) -> dict[str, dict[str, Any]]:
    """The `features` of info.json: what each column holds."""
    features: dict[str, dict[str, Any]] = {
        STATE: _numbers("float64", STATE_NAMES),
        ACTION: _numbers("float64", KEYPOSE_NAMES),
        TOOL: _numbers("float64", POSE_NAMES),
        STAMP: _numbers("int64", ["ns"]),
        TARGET: _numbers("float64", KEYPOSE_NAMES),
        IS_STEP: _numbers("bool", ["is_step"]),
    }
    for camera, (color, depth) in shape.sizes.items():
        # LeRobot knows millimetres and metres; of another unit it is told nothing and gives the counts as they are.
        unit = {"depth_unit": "mm"} if shape.depth_unit == 1e-3 else {}
        features[color_key(camera)] = _pictures((*color, 3), {})
        about = {"is_depth_map": True, **unit, "depth_scale_m": shape.depth_unit}
        features[depth_key(camera)] = _pictures((*depth, 1), about)
        features[pose_key(camera)] = _numbers("float64", [f"T_policy_camera_{n // 4}{n % 4}" for n in range(16)])
        features[intrinsics_key(camera)] = _numbers("float64", [f"K_{n // 3}{n % 3}" for n in range(9)])
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for name in INDICES:
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    return features


def _numbers(dtype: str, names: list[str]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": names}


def _pictures(shape: tuple[int, int, int], about: dict[str, Any]) -> dict[str, Any]:
    feature: dict[str, Any] = {"dtype": "image", "shape": list(shape), "names": ["height", "width", "channels"]}
    return feature | ({"info": about} if about else {})


def schema_of(features: Mapping[str, Mapping[str, Any]]) -> Any:
    """The Arrow schema of the rows, with the description by which `datasets` knows pictures from bytes."""
    pa = need("pyarrow", PURPOSE)
    fields: list[Any] = []
    described: dict[str, Any] = {}
    for name, feature in features.items():
        if feature["dtype"] == "image":
            fields.append(pa.field(name, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            described[name] = {"_type": "Image"}
            continue
        kind = {"bool": pa.bool_(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64()}
        value, length = kind[feature["dtype"]], feature["shape"][0]
        plain = {"dtype": feature["dtype"], "_type": "Value"}
        fields.append(pa.field(name, value if length == 1 else pa.list_(value, length)))
        described[name] = plain if length == 1 else {"feature": plain, "length": length, "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def info_of(shape: Shape, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """The content of info.json."""
    return {
        "codebase_version": VERSION,
        "fps": shape.fps,
        "features": features_of(shape),
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "data_path": DATA_PATH,
        "video_path": None,
        "robot_type": ROBOT,
        "splits": {"train": f"0:{episodes}"},
    }


def tasks_table(sentences: list[str]) -> Any:
    """The table of tasks, described as pandas does, so that it reads the sentences as the index `task`."""
    pa = need("pyarrow", PURPOSE)
    described = {
        "index_columns": ["task"],
        "column_indexes": [_pandas_column(None, "unicode", "object", {"encoding": "UTF-8"})],
        "columns": [
            _pandas_column("task_index", "int64", "int64", None),
            _pandas_column("task", "unicode", "object", None),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(described)})
    return pa.table([list(range(len(sentences))), sentences], schema=schema)


def _pandas_column(name: str | None, kind: str, numpy_type: str, metadata: dict[str, str] | None) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": name,
        "pandas_type": kind,
        "numpy_type": numpy_type,
        "metadata": metadata,
    }
