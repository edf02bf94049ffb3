"""LeRobot datasets: what goes out comes back, and is described as LeRobot describes it."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.converters import lerobot, lerobot_format
from minidiffuser_ros.episodes.converters.lerobot import ExportOptions, LeRobotOptions, export_lerobot, import_lerobot
from minidiffuser_ros.episodes.converters.lerobot_clips import clip_of
from minidiffuser_ros.episodes.converters.lerobot_writer import STAGED, stage
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration, save_demonstration
from minidiffuser_ros.episodes.recording import Recorder, Recording, load_recording
from minidiffuser_ros.episodes.samples import demonstration_from_episode
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.builder import CameraView
from minidiffuser_ros.simulation.shifts import NONE
from minidiffuser_ros.simulation.tabletop import shared_world
from minidiffuser_ros.training.demonstrations import Disturbance, demonstrate

SEEDS = (3, 4)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two demonstrations of the simulator, with their pictures."""
    folder, recorder = tmp_path_factory.mktemp("demos"), Recorder()
    for seed in SEEDS:
        made = demonstrate(shared_world(), "stack_pair", seed, Disturbance(probability=0.0), NONE, recorder)
        assert made is not None
        save_demonstration(made, folder / "stack_pair" / f"{seed:06d}.npz", recorder.recording())
    return folder


@pytest.fixture(scope="module")
def dataset(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("datasets") / "stack"
    assert export_lerobot(demos, out) == 2
    return out


def same(first: Demonstration, second: Demonstration, but: tuple[str, ...] = ()) -> None:
    """Equal in every field, numbers bit for bit."""
    for field in dataclasses.fields(Demonstration):
        if field.name not in but:
            mine, theirs = getattr(first, field.name), getattr(second, field.name)
            if isinstance(mine, np.ndarray):
                assert mine.dtype == theirs.dtype
                np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
            else:
                assert mine == theirs, field.name


def rows_of(dataset: Path) -> pa.Table:
    """All frames, as LeRobot loads them: every file of `data`, sorted by name."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(dataset.glob("data/*/*.parquet"))])


def test_a_recorded_episode_goes_out_and_comes_back_as_the_demonstration_that_is_in_it(
    recorded: tuple[Path, list[Keypose]], tmp_path: Path
) -> None:
    folder, _ = recorded
    assert export_lerobot(folder, tmp_path / "dataset") == 1
    assert import_lerobot(tmp_path / "dataset", tmp_path / "back") == 1
    (back,) = tmp_path.glob("back/stack_pair/*.npz")
    assert back.stem == folder.name
    same(load_demonstration(back), demonstration_from_episode(folder))


def test_frames_of_an_episode_come_at_the_rate_of_its_pictures_and_act_towards_the_next_frame(
    recorded: tuple[Path, list[Keypose]], tmp_path: Path
) -> None:
    export_lerobot(recorded[0].parent, tmp_path / "dataset")
    rows, fps = rows_of(tmp_path / "dataset"), json.loads((tmp_path / "dataset/meta/info.json").read_text())["fps"]
    stamps = rows["stamp_ns"].to_numpy()
    assert np.median(np.diff(stamps)) * 1e-9 == pytest.approx(1 / fps, rel=0.1)
    np.testing.assert_allclose(rows["timestamp"].to_numpy(), np.arange(len(rows)) / fps, rtol=1e-6)
    tool, action = np.array(rows["tool_pose"].to_pylist()), np.array(rows["action"].to_pylist())
    state = np.array(rows["observation.state"].to_pylist())
    np.testing.assert_array_equal(action[:-1, :7], tool[1:])
    np.testing.assert_array_equal(action[:-1, 7], state[1:, 7])
    targets, steps = np.array(rows["keypose.target"].to_pylist()), rows["keypose.is_step"].to_numpy(False)
    np.testing.assert_array_equal(targets[steps], demonstration_from_episode(recorded[0]).targets)
    changes = np.flatnonzero((targets[1:] != targets[:-1]).any(axis=1)) + 1
    assert set(changes) <= set(np.flatnonzero(steps))


def test_keyposes_that_are_not_noted_are_discovered(recorded: tuple[Path, list[Keypose]], tmp_path: Path) -> None:
    folder, expert = recorded
    export_lerobot(folder, tmp_path / "dataset")
    without(tmp_path / "dataset", ["keypose.target", "keypose.is_step"])
    assert import_lerobot(tmp_path / "dataset", tmp_path / "back") == 1
    targets = load_demonstration(next(tmp_path.glob("back/*/*.npz"))).targets
    for keypose in expert[:2]:  # at 6 frames a second short stops are not seen
        near = [keypose.distance_to(target[:3], target[3:7])[0] for target in targets]
        assert min(near) < 0.02


def without(dataset: Path, columns: list[str]) -> None:
    """Take columns out of rows and description."""
    for path in dataset.glob("data/*/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(columns), path)
    info = json.loads((dataset / "meta/info.json").read_text())
    info["features"] = {name: value for name, value in info["features"].items() if name not in columns}
    (dataset / "meta/info.json").write_text(json.dumps(info))


def test_a_demonstration_comes_back_with_every_number_and_the_points_of_its_pictures(
    demos: Path, dataset: Path, tmp_path: Path
) -> None:
    assert import_lerobot(dataset, tmp_path) == 2
    for seed in SEEDS:
        original = load_demonstration(demos / "stack_pair" / f"{seed:06d}.npz")
        back = load_demonstration(tmp_path / "stack_pair" / f"stack_pair-{seed:06d}.npz")
        same(original, back, but=("counts", "points", "colors"))
        # Pictures keep depth to a tenth of a millimetre: a point in a hundred falls into another voxel.
        np.testing.assert_allclose(back.counts, original.counts, rtol=0.05)
        first = back.points[: back.counts[0]]
        away = np.linalg.norm(first[:, None] - original.points[: original.counts[0]], axis=2).min(axis=1)
        assert np.quantile(away, 0.95) < 1e-3


def test_what_came_in_goes_out_and_in_again_bit_for_bit(dataset: Path, tmp_path: Path) -> None:
    import_lerobot(dataset, tmp_path / "first", LeRobotOptions(keep_pictures=True))
    export_lerobot(tmp_path / "first", tmp_path / "again")
    import_lerobot(tmp_path / "again", tmp_path / "second", LeRobotOptions(keep_pictures=True))
    for path in tmp_path.glob("first/*/*.npz"):
        (other,) = tmp_path.glob(f"second/*/*{path.name}")
        same(load_demonstration(path), load_demonstration(other))
        for name, array in vars(load_recording(path)).items():
            np.testing.assert_array_equal(array, getattr(load_recording(other), name), err_msg=name)


def test_pictures_and_the_way_between_them_are_kept_exactly(demos: Path, dataset: Path, tmp_path: Path) -> None:
    import_lerobot(dataset, tmp_path, LeRobotOptions(keep_pictures=True))
    for seed in SEEDS:
        first = load_recording(demos / "stack_pair" / f"{seed:06d}.npz")
        second = load_recording(tmp_path / "stack_pair" / f"stack_pair-{seed:06d}.npz")
        for field in dataclasses.fields(Recording):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), err_msg=field.name)


def test_pictures_of_an_episode_are_kept_and_depth_in_millimetres_stays_exact(
    recorded: tuple[Path, list[Keypose]], tmp_path: Path
) -> None:
    export_lerobot(recorded[0], tmp_path / "dataset")
    import_lerobot(tmp_path / "dataset", tmp_path / "back", LeRobotOptions(keep_pictures=True))
    rows, kept = rows_of(tmp_path / "dataset"), load_recording(next(tmp_path.glob("back/*/*.npz")))
    steps = np.flatnonzero(rows["keypose.is_step"].to_numpy(False))
    assert len(kept.trajectory) == 0
    for step, row in enumerate(steps.tolist()):
        for number, camera in enumerate(("front", "wrist")):
            color, depth = (
                np.array(Image.open(io.BytesIO(rows[f"observation.images.{camera}{end}"][row].as_py()["bytes"])))
                for end in ("", "_depth")
            )
            np.testing.assert_array_equal(kept.images[step, number], color)
            np.testing.assert_array_equal(kept.depths[step, number], np.where(depth > 6553, 0, depth * 10))


# LeRobot's own description of a dataset: the fields of its DatasetInfo and the features it adds itself.
INFO_FIELDS = {
    "codebase_version": str, "fps": int, "features": dict, "total_episodes": int, "total_frames": int,
    "total_tasks": int, "chunks_size": int, "data_files_size_in_mb": int, "video_files_size_in_mb": int,
    "data_path": str, "video_path": type(None), "robot_type": str, "splits": dict,
}  # fmt: skip
ADDED = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
EPISODE_FIELDS = {
    "episode_index", "tasks", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
    "dataset_to_index", "meta/episodes/chunk_index", "meta/episodes/file_index",
}  # fmt: skip
STATISTICS = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}


def test_the_description_has_the_fields_of_version_3(dataset: Path) -> None:
    info = json.loads((dataset / "meta/info.json").read_text())
    assert {name: type(value) for name, value in info.items()} == INFO_FIELDS
    assert info["codebase_version"] == "v3.0"
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["splits"] == {"train": "0:2"}
    assert {name: info["features"][name] for name in ADDED} == ADDED
    assert not any("/" in name for name in info["features"])
    rows = rows_of(dataset)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, len(rows), 2)


def test_columns_have_the_types_that_the_features_announce(dataset: Path) -> None:
    info, rows = json.loads((dataset / "meta/info.json").read_text()), rows_of(dataset)
    assert rows.column_names == list(info["features"])
    for name, feature in info["features"].items():
        kind, length = rows.schema.field(name).type, feature["shape"][0]
        if feature["dtype"] == "image":
            assert kind == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            picture = Image.open(io.BytesIO(rows[name][0].as_py()["bytes"]))
            assert (picture.height, picture.width) == tuple(feature["shape"][:2])
            assert picture.mode == ("RGB" if feature["shape"][2] == 3 else "I;16")
        else:
            value = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
            plain = value[feature["dtype"]]
            assert kind == (plain if length == 1 else pa.list_(plain, length))
            assert feature["names"] is None or len(feature["names"]) == length
    described = json.loads(pq.read_schema(next(dataset.glob("data/*/*"))).metadata[b"huggingface"])["info"]["features"]
    assert list(described) == list(info["features"])
    assert described["observation.images.front"] == {"_type": "Image"}


def test_rows_are_numbered_and_found_by_the_episodes_table(dataset: Path) -> None:
    rows, episodes = rows_of(dataset), pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    np.testing.assert_array_equal(rows["index"].to_numpy(), np.arange(len(rows)))
    for number, episode in enumerate(episodes):
        mine = rows.slice(episode["dataset_from_index"], episode["length"])
        assert episode["dataset_to_index"] - episode["dataset_from_index"] == episode["length"]
        assert set(mine["episode_index"].to_pylist()) == {number}
        np.testing.assert_array_equal(mine["frame_index"].to_numpy(), np.arange(len(mine)))
        (task,) = set(mine["task_index"].to_pylist())
        tasks = pq.read_table(dataset / "meta/tasks.parquet")
        assert tasks["task"][tasks["task_index"].to_pylist().index(task)].as_py() == episode["tasks"][0]
        assert {name for name in episode if not name.startswith("stats/")} == EPISODE_FIELDS


def test_sentences_are_the_index_of_the_table_of_tasks_for_pandas(dataset: Path) -> None:
    described = json.loads(pq.read_schema(dataset / "meta/tasks.parquet").metadata[b"pandas"])
    assert described["index_columns"] == ["task"]
    assert [column["field_name"] for column in described["columns"]] == ["task_index", "task"]


def test_statistics_are_those_of_the_rows_and_have_the_shapes_that_lerobot_checks(dataset: Path) -> None:
    stats, rows = json.loads((dataset / "meta/stats.json").read_text()), rows_of(dataset)
    info = json.loads((dataset / "meta/info.json").read_text())
    assert set(stats) == set(info["features"])
    for name, found in stats.items():
        assert set(found) == STATISTICS
        assert found["count"] == [len(rows)]
        feature = info["features"][name]
        shape = (feature["shape"][2], 1, 1) if feature["dtype"] == "image" else tuple(feature["shape"])
        assert {np.shape(found[key]) for key in STATISTICS - {"count"}} == {shape}
    for name in ("observation.state", "action", "keypose.target", "index", "timestamp"):
        values = np.array(rows[name].to_pylist(), np.float64).reshape(len(rows), -1)
        for key, expected in (
            ("min", values.min(0)),
            ("max", values.max(0)),
            ("mean", values.mean(0)),
            ("std", values.std(0)),
        ):
            np.testing.assert_allclose(stats[name][key], expected, rtol=1e-9, atol=1e-9)
    pictures = np.array(
        [np.array(Image.open(io.BytesIO(v["bytes"]))) for v in rows["observation.images.front"].to_pylist()]
    )
    np.testing.assert_allclose(
        np.ravel(stats["observation.images.front"]["mean"]), pictures.mean((0, 1, 2)) / 255, atol=0.01
    )


def test_depth_says_its_unit_and_lerobot_is_told_where_it_knows_it(
    dataset: Path, recorded: tuple[Path, list[Keypose]], tmp_path: Path
) -> None:
    export_lerobot(recorded[0], tmp_path / "dataset")
    for folder, expected in (
        (dataset, {"is_depth_map": True, "depth_scale_m": 0.0001}),
        (tmp_path / "dataset", {"is_depth_map": True, "depth_scale_m": 0.001, "depth_unit": "mm"}),
    ):
        features = json.loads((folder / "meta/info.json").read_text())["features"]
        assert features["observation.images.front_depth"]["info"] == expected
        assert features["observation.images.front_depth"]["shape"][2] == 1


def test_large_datasets_are_spread_over_files_and_chunks_and_read_the_same(
    demos: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lerobot_format, "DATA_MB", 0.1)
    monkeypatch.setattr(lerobot_format, "FILES_PER_CHUNK", 1)
    export_lerobot(demos, tmp_path / "spread")
    files = sorted(str(p.relative_to(tmp_path / "spread/data")) for p in tmp_path.glob("spread/data/*/*"))
    assert files == ["chunk-000/file-000.parquet", "chunk-001/file-000.parquet"]
    assert rows_of(tmp_path / "spread").equals(rows_of(dataset))
    import_lerobot(dataset, tmp_path / "a")
    import_lerobot(tmp_path / "spread", tmp_path / "b")
    for path in tmp_path.glob("a/*/*.npz"):
        same(load_demonstration(path), load_demonstration(tmp_path / "b" / path.relative_to(tmp_path / "a")))


def interrupted_after(count: int) -> Callable[..., None]:
    stage, done = lerobot.stage, [0]

    def interrupted(*args: Any) -> None:
        if done[0] == count:
            raise KeyboardInterrupt
        stage(*args)
        done[0] += 1

    return interrupted


def test_an_interrupted_export_goes_on_where_it_was_and_is_not_there_before_it_is_whole(
    demos: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lerobot, "stage", interrupted_after(1))
        with pytest.raises(KeyboardInterrupt):
            export_lerobot(demos, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (first,) = tmp_path.glob("out.partial/episodes/*")
    before = first.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(lerobot, "assemble", interrupted_after(0))
        with pytest.raises(KeyboardInterrupt):
            export_lerobot(demos, tmp_path / "out")
    assert first.stat().st_mtime_ns == before
    assert export_lerobot(demos, tmp_path / "out") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert rows_of(tmp_path / "out").equals(rows_of(dataset))
    for name in ("info.json", "stats.json"):
        assert (tmp_path / "out/meta" / name).read_bytes() == (dataset / "meta" / name).read_bytes()


def test_a_dataset_that_exists_is_kept_and_another_folder_is_not_written_into(
    demos: Path, dataset: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert export_lerobot(demos / "stack_pair" / "000003.npz", dataset) == 2
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before
    with pytest.raises(ConfigurationError, match="is no LeRobot dataset"):
        export_lerobot(demos, tmp_path)


def test_an_import_keeps_what_exists(dataset: Path, tmp_path: Path) -> None:
    import_lerobot(dataset, tmp_path)
    first, second = sorted(tmp_path.glob("*/*.npz"))
    first.write_bytes(b"kept")
    second.unlink()
    assert import_lerobot(dataset, tmp_path) == 2
    assert first.read_bytes() == b"kept"
    assert second.exists()


def test_episodes_that_did_not_succeed_or_keep_no_pictures_are_told(
    demos: Path, recorded: tuple[Path, list[Keypose]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EpisodeError, match="none of the episodes"):
        export_lerobot(recorded[0], tmp_path / "out", ExportOptions(outcomes=("failure",)))
    assert "is labelled 'success'" in capsys.readouterr().err
    bare = load_demonstration(demos / "stack_pair" / "000003.npz")
    save_demonstration(bare, tmp_path / "bare.npz")
    with pytest.raises(EpisodeError, match="keeps no pictures"):
        export_lerobot(tmp_path / "bare.npz", tmp_path / "out")
    with pytest.raises(ConfigurationError, match="fps must lie"):
        ExportOptions(fps=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no recorded episodes"):
        export_lerobot(tmp_path / "empty", tmp_path / "out")


def test_episodes_of_different_specs_do_not_go_into_one_dataset(demos: Path, tmp_path: Path) -> None:
    path = demos / "stack_pair" / "000003.npz"
    made, recording = load_demonstration(path), load_recording(path)
    save_demonstration(made, tmp_path / "in" / "a.npz", recording)
    other = dataclasses.replace(made, spec=dataclasses.replace(made.spec, voxel_size=0.02))
    save_demonstration(other, tmp_path / "in" / "b.npz", recording)
    with pytest.raises(EpisodeError, match="b has another spec than a"):
        export_lerobot(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_rate_that_was_asked_for_is_stated(demos: Path, tmp_path: Path) -> None:
    # What a stopped export has left at another rate is made again.
    stage(
        clip_of("000003", demos / "stack_pair" / "000003.npz", 7), tmp_path / "out.partial" / STAGED / "000003.parquet"
    )
    export_lerobot(demos / "stack_pair" / "000003.npz", tmp_path / "out", ExportOptions(fps=5))
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["fps"] == 5
    np.testing.assert_allclose(rows_of(tmp_path / "out")["timestamp"].to_numpy()[:3], [0, 0.2, 0.4], rtol=1e-6)


def test_a_view_of_a_dataset_is_that_of_its_pinhole_camera(demos: Path, dataset: Path) -> None:
    recording, rows = load_recording(demos / "stack_pair" / "000003.npz"), rows_of(dataset)
    matrix = np.array(rows["camera.wrist.intrinsics"][1].as_py()).reshape(3, 3)
    height, width = recording.images.shape[2:4]
    camera = PinholeCamera(width, height, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    depth = np.array(Image.open(io.BytesIO(rows["observation.images.wrist_depth"][1].as_py()["bytes"])))
    np.testing.assert_array_equal(depth, recording.depths[1, 1])
    T_policy_camera = np.array(rows["camera.wrist.pose"][1].as_py()).reshape(4, 4)
    view = CameraView("wrist", recording.images[1, 1], depth * np.float32(1e-4), camera, T_policy_camera, 0)
    np.testing.assert_array_equal(view.T_policy_camera, recording.camera_poses[1, 1])
    np.testing.assert_array_equal(camera.matrix, recording.intrinsics[1])
