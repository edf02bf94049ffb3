"""A small LeRobot dataset written by hand, column by column, as the public format describes it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import look_at

SPEC = ObservationSpec(policy_frame="world", voxel_size=0.01, max_points=4000, cameras=("front",))
CAMERA = PinholeCamera.from_fov(40, 30, 50.0)
T_WORLD_CAMERA = look_at((0.5, 0.5, 0.6), (0.5, 0.0, 0.1))
FRAMES, STEPS = 5, (0, 2, 4)
NAMES = ("observation.images.front", "observation.images.front_depth")


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def some_columns(seed: int = 0) -> dict[str, list[Any]]:
    """Frames of a camera that looks at random depths about a table, with keyposes noted at STEPS."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(size=(FRAMES, 7))
    poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    return {
        "observation.state": [[*rng.normal(size=7), 0.25 * n] for n in range(FRAMES)],
        "action": [[*pose, 1.0] for pose in poses],
        "tool_pose": poses.tolist(),
        "keypose.target": [[*poses[min(n + 2, FRAMES - 1)], n % 2] for n in range(FRAMES)],
        "keypose.is_step": [n in STEPS for n in range(FRAMES)],
        NAMES[0]: [rng.integers(0, 256, (30, 40, 3), np.uint8) for _ in range(FRAMES)],
        NAMES[1]: [rng.integers(660, 680, (30, 40), np.uint16) for _ in range(FRAMES)],
        "camera.front.pose": [T_WORLD_CAMERA.ravel().tolist()] * FRAMES,
        "camera.front.intrinsics": [CAMERA.matrix.ravel().tolist()] * FRAMES,
    }


def feature(dtype: str, *shape: int, **info: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": None} | ({"info": info} if info else {})


FEATURES = {
    "observation.state": feature("float64", 8),
    "action": feature("float64", 8),
    "tool_pose": feature("float64", 7),
    "keypose.target": feature("float64", 8),
    "keypose.is_step": feature("bool", 1),
    NAMES[0]: feature("image", 30, 40, 3),
    NAMES[1]: feature("image", 30, 40, 1, is_depth_map=True, depth_unit="mm"),
    "camera.front.pose": feature("float64", 16),
    "camera.front.intrinsics": feature("float64", 9),
    "timestamp": feature("float32", 1),
    **{name: feature("int64", 1) for name in ("frame_index", "episode_index", "index", "task_index")},
}
INFO = {
    "codebase_version": "v3.0",
    "fps": 10,
    "features": FEATURES,
    "total_episodes": 2,
    "total_frames": 2 * FRAMES,
    "total_tasks": 1,
    "chunks_size": 1000,
    "data_files_size_in_mb": 100,
    "video_files_size_in_mb": 200,
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video_path": None,
    "robot_type": "fr3",
    "splits": {"train": "0:2"},
}


def write_dataset(root: Path, drop: tuple[str, ...] = (), info: Any = None, **changes: Any) -> Path:
    """Two episodes in one file. drop: features to leave out; info: entries of info.json; changes: columns."""
    features = {name: value for name, value in FEATURES.items() if name not in drop}
    arrays: dict[str, list[Any]] = {name: [] for name in features}
    for episode in range(2):
        columns = some_columns(episode) | {name.replace("__", "."): value for name, value in changes.items()}
        for name in NAMES:
            if name in columns:
                columns[name] = [{"bytes": p if isinstance(p, bytes) else png(p), "path": None} for p in columns[name]]
        columns |= {
            "timestamp": [np.float32(n / 10) for n in range(FRAMES)],
            "frame_index": list(range(FRAMES)),
            "episode_index": [episode] * FRAMES,
            "index": list(range(episode * FRAMES, (episode + 1) * FRAMES)),
            "task_index": [0] * FRAMES,
        }
        for name in arrays:
            arrays[name] += columns[name]
    kinds = {"float64": pa.float64(), "float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}
    columns = []
    for name, described in features.items():
        if described["dtype"] == "image":
            columns.append(pa.array(arrays[name], pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        elif described["shape"] == [1]:
            columns.append(pa.array(arrays[name], kinds[described["dtype"]]))
        else:
            columns.append(pa.array(arrays[name], pa.list_(kinds[described["dtype"]], len(arrays[name][0]))))
    file = root / "data/chunk-000/file-000.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, list(features)), file, row_group_size=FRAMES - 1)  # groups across episodes
    (root / "meta/episodes/chunk-000").mkdir(parents=True, exist_ok=True)
    episodes = [
        {
            "episode_index": n,
            "tasks": ["Push the red block."],
            "length": FRAMES,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": n * FRAMES,
            "dataset_to_index": (n + 1) * FRAMES,
        }
        for n in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    (root / "meta/info.json").write_text(json.dumps(INFO | {"features": features} | (info or {})))
    return root
