"""Keystep stores become demonstrations, or are refused in one sentence."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import TABLE, packed, some_keysteps, thinned, with_boxes, write_store

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.episodes.converters.keystep_lmdb import RLBENCH_SPEC, KeystepOptions, import_keystep_lmdb
from minidiffuser_ros.episodes.converters.lmdb_pages import LmdbFile
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration
from minidiffuser_ros.perception.builder import ObservationBuilder
from minidiffuser_ros.perception.cloud import thin, voxel_grid

TASK = "close_jar_peract+3"


def imported(tmp_path: Path, content: Any, **options: Any) -> Demonstration:
    message = content if isinstance(content, bytes) else packed(content)
    write_store(tmp_path / "store" / TASK, {"episode7": message})
    assert import_keystep_lmdb(tmp_path / "store", tmp_path / "out", KeystepOptions(**options)) == 1
    return load_demonstration(tmp_path / "out" / TASK / "episode7.npz")


def refused(tmp_path: Path, content: Any, message: str, **options: Any) -> None:
    """Refused in one line that names the episode, and nothing is written."""
    with pytest.raises(EpisodeError, match=message) as caught:
        imported(tmp_path, content, **options)
    assert "episode7" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out/**/*.npz"))


def test_each_keystep_is_seen_before_the_next_one_and_the_last_repeats_itself(tmp_path: Path) -> None:
    content = some_keysteps()
    made, action = imported(tmp_path, content), content["action"].astype(np.float64)
    quats = action[:, [6, 3, 4, 5]] / np.linalg.norm(action[:, 3:7], axis=1, keepdims=True)
    poses = np.column_stack([action[:, :3], quats])
    following = [1, 2, 3, 3]
    np.testing.assert_allclose(made.tool, poses, rtol=0, atol=1e-15)
    np.testing.assert_allclose(made.targets, np.column_stack([poses, action[:, 7]])[following], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(made.openings, action[:, 7])
    assert (made.task, made.variation, made.seed, made.spec) == ("close_jar_peract", 3, 7, RLBENCH_SPEC)


def test_the_cloud_is_that_of_the_observation_builder(tmp_path: Path) -> None:
    content = some_keysteps()
    made = imported(tmp_path, content)
    points, colors = content["pc"][0].reshape(-1, 3), content["rgb"][0].reshape(-1, 3)
    above = points[:, 2] > TABLE + RLBENCH_SPEC.table_margin
    voxels, paint = thin(*voxel_grid(points[above], colors[above], RLBENCH_SPEC.voxel_size), RLBENCH_SPEC.max_points)
    seen = {tuple(row) for row in np.column_stack([made.points, made.colors])[: made.counts[0]]}
    assert 16 < len(seen) <= len(voxels)
    assert seen <= {tuple(row) for row in np.column_stack([voxels, paint])}  # but for outliers the same
    assert (made.points[:, 2] > TABLE + RLBENCH_SPEC.table_margin).all()


def test_pictures_and_thinned_clouds_of_the_same_points_give_the_same_demonstration(tmp_path: Path) -> None:
    content = with_boxes(some_keysteps(), np.array([0.2, 0.0, TABLE + 0.08]))
    first, second = imported(tmp_path / "a", content), imported(tmp_path / "b", thinned(content))
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.colors, second.colors)
    np.testing.assert_array_equal(first.targets, second.targets)


def test_points_in_the_boxes_of_the_robot_are_left_out(tmp_path: Path) -> None:
    centre = np.array([0.2, 0.0, TABLE + 0.08])
    content = with_boxes(some_keysteps(), centre)
    made = {which: imported(tmp_path / which, content, robot=which) for which in ("all", "arm", "none")}
    turned = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    away = np.abs((made["all"].points - centre)[:, :2] @ turned).max(axis=1)
    assert away.min() > 0.045  # a cube of 10 cm; the mean of a voxel's points may lie a little inside
    assert made["all"].counts[0] < made["arm"].counts[0]
    np.testing.assert_array_equal(made["arm"].points, made["none"].points)


def test_a_box_lies_where_its_bounds_say_not_around_its_frame(tmp_path: Path) -> None:
    at = np.array([0.2, 0.0, TABLE + 0.08])
    low = with_boxes(
        some_keysteps(), at - [0, 0, 0.06]
    )  # the cube reaches from 9 cm below the block's top to 1 cm above
    high = with_boxes(some_keysteps(), at - [0, 0, 0.08])  # and this one to 1 cm below it
    whole = imported(tmp_path / "none", some_keysteps())
    assert imported(tmp_path / "low", low).counts[0] < whole.counts[0]
    assert imported(tmp_path / "high", high).counts[0] == whole.counts[0]


def test_sentences_come_from_the_mapping_by_variation_then_by_task_then_from_the_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = tmp_path / "sentences.json"
    for table, expected in (
        ({TASK: ["close the jar", "screw it on"], "close_jar_peract": "no"}, ("close the jar", "screw it on")),
        ({"close_jar_peract": "close a jar"}, ("close a jar",)),
        ({"open_drawer+0": "open it"}, ("close jar",)),
    ):  # fmt: skip
        mapping.write_text(json.dumps(table))
        made = imported(tmp_path / str(len(expected[0])), some_keysteps(), instructions=mapping)
        assert made.instructions == expected
    assert "no sentence for close_jar_peract+3: its name is used, 'close jar'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ['["a list"]', '{"a": 3}', '{"a": []}', '{"a": ["two\\nlines"]}', "{", "a: !!python/x"]
)
def test_a_mapping_that_holds_no_sentences_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / ("m.yaml" if "!!" in content else "m.json")
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=str(path)) as caught:
        imported(tmp_path, some_keysteps(), instructions=path)
    assert "\n" not in str(caught.value)


def test_what_exists_is_kept_and_what_is_missing_is_made(tmp_path: Path) -> None:
    messages = {f"episode{n}": packed(some_keysteps(seed=n)) for n in range(3)}
    store = write_store(tmp_path / "store" / TASK, messages)
    assert import_keystep_lmdb(tmp_path / "store", tmp_path / "out") == 3
    files = sorted((tmp_path / "out" / TASK).iterdir())
    assert [file.name for file in files] == ["episode0.npz", "episode1.npz", "episode2.npz"]
    files[0].write_bytes(b"kept")
    whole = files[1].read_bytes()
    files[1].unlink()
    assert import_keystep_lmdb(store, tmp_path / "out") == 3
    assert files[0].read_bytes() == b"kept"
    assert files[1].read_bytes() == whole


def test_a_bad_episode_stops_the_conversion_or_is_left_out_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = {"episode0": packed(some_keysteps()), "episode1": b"spoiled", "episode2": packed(some_keysteps(seed=2))}
    store = write_store(tmp_path / TASK, messages)
    with pytest.raises(EpisodeError, match="episode1: the message"):
        import_keystep_lmdb(store, tmp_path / "out")
    assert import_keystep_lmdb(store, tmp_path / "out", KeystepOptions(keep_going=True)) == 2
    assert "left out: " in capsys.readouterr().err


def test_messages_of_old_and_compressed_stores_read_the_same(tmp_path: Path) -> None:
    content = some_keysteps()
    plain = imported(tmp_path / "plain", content)
    zstandard = pytest.importorskip("zstandard")
    for name, message in {
        "old": packed(content, use_bin_type=False),
        "zlib": zlib.compress(packed(content)),
        "zstandard": zstandard.compress(packed(content)),
    }.items():
        np.testing.assert_array_equal(imported(tmp_path / name, message).points, plain.points)


class Canary:
    """Pickled, it touches a file when it is read."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


def test_a_pickle_in_a_message_is_refused_and_nothing_in_it_runs(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    objects = np.array([Canary(touched)], dtype=object)
    hidden = {b"nd": True, b"type": b"|O", b"shape": [1], b"data": pickle.dumps(Canary(touched))}
    for name in ("action", "gripper_pose", "unknown"):
        refused(tmp_path / name, some_keysteps() | {name: objects}, "array of objects or records")
    refused(tmp_path / "hidden", some_keysteps() | {"note": hidden}, r"type '\|O'")
    refused(tmp_path / "whole", pickle.dumps(Canary(touched)), "cannot be read")
    assert not touched.exists()
    pickle.loads(hidden[b"data"])
    assert touched.exists()  # the canary does sing where pickles are read


SMALL = some_keysteps(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": SMALL["action"][:, :7]}, r"'action' must have the shape \(any, 8\), is float32 \(2, 7\)"),
        ({"action": SMALL["action"][:1]}, "1 keysteps"),
        ({"action": [1, 2]}, "'action' must be an array, is list"),
        ({"action": SMALL["action"] * 2}, "quaternion of norm 1"),
        ({"action": SMALL["action"] * np.nan}, "must be finite"),
        ({"pc": SMALL["pc"][..., :2]}, r"'pc' must have the shape"),
        ({"pc": SMALL["pc"][:1]}, r"\(2, any, any, any, 3\), is float32 \(1, 4"),
        ({"rgb": SMALL["rgb"][:, :3]}, "'rgb' must have the shape"),
        ({"rgb": SMALL["rgb"] * 2.5}, "colours must lie in"),
        ({"pc": SMALL["pc"] + np.float32(50)}, "only 0 points above the table"),
        ({"pc": SMALL["pc"][:, :3], "rgb": SMALL["rgb"][:, :3]}, "3 cameras and the observation spec names 4"),
        ({"xyz": [SMALL["pc"][0]], "rgb": [SMALL["rgb"][0]]}, "'xyz' must be a list of 2 arrays"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refused(tmp_path, SMALL | changes, message)


def claim(**changes: Any) -> bytes:
    """A message whose action says something of itself that is not so."""
    array = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2, 8], b"data": b"\0" * 64} | {
        key.encode(): value for key, value in changes.items()
    }
    return packed(SMALL | {"action": array})


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (claim(shape=[2**40, 8]), r"said to be float32 \[1099511627776, 8\], with 64 bytes"),
        (claim(shape=[2**33, 2**33]), "with 64 bytes"),
        (claim(shape=[-2, -8]), "of the shape"),
        (claim(shape=[1] * 60), "of the shape"),
        (claim(type="<M8[ns]"), "numbers are read"),
        (claim(type="|V64"), "numbers are read"),
        (claim(type="<f9"), "numbers are read"),
        (claim(type=[["a", "<f4"]], kind=b"V"), "objects or records"),
        (b"\xdf\xff\xff\xff\xff", "cannot be read"),
        (b"\xdd\xff\xff\xff\xff", "cannot be read"),
        (b"\xc6\xff\xff\xff\xff", "cannot be read"),
        (b"\x91" * 100_000 + b"\x01", "cannot be read"),
        (b"\x81\xa1a\xc7\x04\x05abcd", "extension"),
        (b"\x01", "must be a map"),
        (b"", "cannot be read"),
    ],
)
def test_claims_of_size_and_type_are_compared_with_the_bytes_before_anything_is_made(
    tmp_path: Path, message: bytes, told: str
) -> None:
    refused(tmp_path, message, told)


def test_a_message_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidiffuser_ros.episodes.converters.message.MAX_BYTES", 2**20)
    zstandard = pytest.importorskip("zstandard")
    refused(tmp_path / "zlib", zlib.compress(bytes(2**22)), "grows beyond")
    refused(tmp_path / "zstandard", zstandard.compress(bytes(2**22)), "grows beyond")
    refused(tmp_path / "cut", zlib.compress(packed(SMALL)[:10_000])[:-9], "cut off")


def test_a_store_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / TASK, {f"episode{n}": packed(some_keysteps(2, n)) for n in range(2)})
    file = store / "data.mdb"
    whole = file.read_bytes()
    for length in (*range(0, 9000, 321), *np.linspace(9000, len(whole) - 1, 20).astype(int)):
        file.write_bytes(whole[:length])
        with pytest.raises(EpisodeError, match=r"cut off|cannot read|no LMDB"):
            import_keystep_lmdb(store, tmp_path / "out")


def test_a_store_with_damaged_bytes_is_refused_or_read_but_nothing_else_happens(tmp_path: Path) -> None:
    store = write_store(tmp_path / TASK, {"episode0": packed(SMALL)})
    file, rng = store / "data.mdb", np.random.default_rng(0)
    whole, outcomes = file.read_bytes(), []
    interesting = np.flatnonzero(np.frombuffer(whole, np.uint8)[:20_000])
    for round_ in range(150):
        damaged = bytearray(whole)
        for index in rng.choice(interesting, 3 if round_ % 2 else 1):
            damaged[index] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        try:
            outcomes.append(import_keystep_lmdb(store, tmp_path / "out" / str(round_)))
        except (EpisodeError, ConfigurationError) as error:
            outcomes.append(str(error))
    assert any(isinstance(outcome, str) for outcome in outcomes)
    assert all("\n" not in outcome for outcome in outcomes if isinstance(outcome, str))


@pytest.mark.parametrize("sizes", [[0], [1, 300, 5000, 70_000] * 40, [10] * 2000, []])
def test_the_pages_hold_what_liblmdb_put_there(tmp_path: Path, sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    messages = {f"{rng.integers(1e12)}-{n}": rng.bytes(size) for n, size in enumerate(sizes)}
    with LmdbFile(write_store(tmp_path / "pages", messages)) as store:
        read = [(key.decode(), bytes(value)) for key, value in store.items()]
    assert read == sorted(messages.items())


def test_a_tree_that_leads_in_circles_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / TASK, {f"episode{n}": bytes(1000) for n in range(100)})
    file = store / "data.mdb"
    content = bytearray(file.read_bytes())
    roots = [struct.unpack_from("<Q", content, begin + 128)[0] for begin in (0, 4096)]
    for root in {root for root in roots if 0 < root < 2**32}:  # every child is the root itself
        (lower,) = struct.unpack_from("<H", content, root * 4096 + 12)
        for offset in struct.unpack_from(f"<{(lower - 16) // 2}H", content, root * 4096 + 16):
            struct.pack_into("<HHH", content, root * 4096 + offset, root & 0xFFFF, root >> 16, 0)
    file.write_bytes(content)
    with pytest.raises(EpisodeError, match="used twice"):
        import_keystep_lmdb(store, tmp_path / "out")


@pytest.mark.parametrize("name", ["..", "a b", ".hidden", "x" * 200, "~"])
def test_an_episode_whose_name_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    store = write_store(tmp_path / TASK, {name: packed(SMALL)})
    with pytest.raises(EpisodeError, match="rename it"):
        import_keystep_lmdb(store, tmp_path / "out")


def test_a_folder_without_stores_and_an_unknown_choice_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name a keystep store"):
        import_keystep_lmdb(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="no folder"):
        import_keystep_lmdb(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ConfigurationError, match="all, arm, none"):
        KeystepOptions(robot="some")


def test_another_spec_is_used_and_kept(tmp_path: Path) -> None:
    spec = replace(RLBENCH_SPEC, voxel_size=0.02, max_points=100)
    made = imported(tmp_path, some_keysteps(), spec=spec)
    assert made.spec == spec
    assert made.counts.max() <= 100
    assert ObservationBuilder(spec).spec == made.spec
