"""A demonstration comes back from its file as it was written, or the file is refused by name."""

from __future__ import annotations

import dataclasses
import json
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.demonstration import (
    Demonstration,
    demonstration_of,
    load_demonstration,
    save_demonstration,
)

SPEC = ObservationSpec(voxel_size=0.01, cameras=("front",))
COUNTS = (20, 31, 17)
SENTENCES = ("push the red button", "press the button with the red cap — now")


def some_steps() -> list[tuple[Observation, Keypose]]:
    rng = np.random.default_rng(1)
    steps = []
    for index, count in enumerate(COUNTS):
        observation = Observation(
            rng.uniform(0.0, 0.5, (count, 3)).astype(np.float32),
            rng.integers(0, 256, (count, 3), dtype=np.uint8),
            rng.normal(size=3),
            np.array([0.0, 1.0, 0.0, 0.0]),
            rng.normal(size=7),
            0.25 * index,
            1000 * index,
            SPEC,
        )
        steps.append((observation, Keypose(rng.uniform(0.3, 0.6, 3), np.array([0.0, 0.6, 0.8, 0.0]), index / 2)))
    return steps


def some_demonstration(**changes: Any) -> Demonstration:
    made = demonstration_of("push_button", 3, 42, SENTENCES, some_steps())
    return dataclasses.replace(made, **changes)


def same(first: Demonstration, second: Demonstration) -> bool:
    """Equal in every field, numbers bit for bit and in type."""
    for field in dataclasses.fields(Demonstration):
        mine, theirs = getattr(first, field.name), getattr(second, field.name)
        if isinstance(mine, np.ndarray):
            if mine.dtype != theirs.dtype or not np.array_equal(mine, theirs):
                return False
        elif mine != theirs:
            return False
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "push_button" / "000042.npz"


@pytest.fixture
def written(path: Path) -> Path:
    save_demonstration(some_demonstration(), path)
    return path


def refused(path: Path, message: str) -> None:
    """The file is refused in one line that names it and matches `message`."""
    with pytest.raises(EpisodeError, match=message) as caught:
        load_demonstration(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite_header(path: Path, **changes: Any) -> None:
    """Change entries of the header and keep everything else; an entry that becomes `...` is taken out."""
    with np.load(path, allow_pickle=False) as archive:
        content = dict(archive)
    header = json.loads(str(content.pop("header"))) | changes
    header = {key: value for key, value in header.items() if value is not ...}
    with path.open("wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **content)


def test_a_demonstration_comes_back_as_it_was(written: Path) -> None:
    assert same(load_demonstration(written), some_demonstration())


def test_packing_keeps_every_number_of_every_step() -> None:
    packed = some_demonstration()
    ends = np.cumsum(packed.counts)
    for index, (observation, keypose) in enumerate(some_steps()):
        rows = slice(ends[index] - packed.counts[index], ends[index])
        np.testing.assert_array_equal(packed.points[rows], observation.points)
        np.testing.assert_array_equal(packed.colors[rows], observation.colors)
        np.testing.assert_array_equal(packed.tool[index, :3], observation.tool_position)
        np.testing.assert_array_equal(packed.tool[index, 3:], observation.tool_quat_wxyz)
        np.testing.assert_array_equal(packed.joints[index], observation.joint_positions)
        assert packed.openings[index] == observation.opening
        target = Keypose(packed.targets[index, :3], packed.targets[index, 3:7], packed.targets[index, 7])
        assert target.distance_to(keypose.position, keypose.quat_wxyz) == (0.0, 0.0)
        assert target.opening == keypose.opening
    assert packed.spec == SPEC


def test_the_folder_is_made_and_holds_nothing_but_the_demonstration(written: Path) -> None:
    assert [entry.name for entry in written.parent.iterdir()] == [written.name]


def test_writing_again_replaces_the_file(written: Path) -> None:
    save_demonstration(some_demonstration(seed=43), written)
    assert load_demonstration(written).seed == 43
    assert len(list(written.parent.iterdir())) == 1


@contextmanager
def full_disk(allowed_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `allowed_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_fails_leaves_no_file(path: Path) -> None:
    with full_disk(500), pytest.raises(EpisodeError, match=r"File too large.*make room or name another folder"):
        save_demonstration(some_demonstration(), path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_fails_keeps_what_was_there_before(written: Path) -> None:
    with full_disk(500), pytest.raises(EpisodeError, match=r"File too large.*make room or name another folder"):
        save_demonstration(some_demonstration(seed=43), written)
    assert [entry.name for entry in written.parent.iterdir()] == [written.name]
    assert same(load_demonstration(written), some_demonstration())


def test_a_file_cut_off_anywhere_is_refused(written: Path) -> None:
    whole = written.read_bytes()
    for length in range(0, len(whole), 37):
        written.write_bytes(whole[:length])
        refused(written, "not a demonstration of this package")


def test_a_file_with_one_damaged_byte_is_refused_or_reads_as_it_was_written(written: Path) -> None:
    whole = bytearray(written.read_bytes())
    outcomes = []
    for index in range(0, len(whole), 11):
        damaged = whole.copy()
        damaged[index] ^= 0xFF
        written.write_bytes(damaged)
        try:
            outcomes.append(same(load_demonstration(written), some_demonstration()))
        except EpisodeError as error:
            assert str(written) in str(error)  # noqa: PT017  # which of the two it is depends on the byte
    assert all(outcomes)
    assert len(outcomes) < 0.5 * len(range(0, len(whole), 11))


def test_a_missing_file_is_named(path: Path) -> None:
    refused(path, "cannot read .*No such file")


def test_a_folder_is_no_demonstration(tmp_path: Path) -> None:
    refused(tmp_path, "directory")


@pytest.mark.parametrize("content", [b"", b"task: push_button\n", b"PK\x03\x04 and no more", bytes(range(256)) * 8])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    refused(path, "not a demonstration of this package")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((4, 3)))
    refused(path, "not a demonstration of this package")


def test_an_archive_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.npz"
    np.savez(path, observations=np.zeros(3), actions=np.zeros(3))
    refused(path, "header")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", "not an array")
    refused(path, "not a demonstration of this package")


def test_an_archive_that_would_fill_the_memory_is_refused_unread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_demonstration(some_demonstration(points=np.zeros((1_000_000, 3), np.float32)), path)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("minidiffuser_ros.episodes.demonstration.MAX_BYTES", 10_000_000)
    refused(path, r"it unpacks to 1200\d{4} bytes, at most 10000000 are read")


class Canary:
    """Pickled, it touches a file when it is read."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


def test_a_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path, written: Path) -> None:
    touched, path = tmp_path / "touched", tmp_path / "pickle.npz"
    path.write_bytes(pickle.dumps(Canary(touched)))
    refused(path, "not a demonstration of this package")
    with np.load(written, allow_pickle=False) as archive:
        content = dict(archive)
    content["points"] = np.array([Canary(touched)], dtype=object)
    np.savez(written, **content)
    refused(written, "not a demonstration of this package")
    assert not touched.exists()
    with np.load(written, allow_pickle=True) as archive:
        archive["points"]
    assert touched.exists()  # the canary does sing where pickles are read


SOME = some_demonstration()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": SOME.points[:-1]}, r"'points' must be finite float32 \(68, 3\), is float32 \(67, 3\)"),
        ({"points": SOME.points[:, :2]}, r"is float32 \(68, 2\)"),
        ({"points": SOME.points.astype(np.float64)}, "is float64"),
        ({"points": SOME.points.astype(str)}, "'points' must be finite float32"),
        ({"points": np.where(np.arange(68)[:, None] == 5, np.float32(np.nan), SOME.points)}, "'points' must be finite"),
        ({"colors": SOME.colors / 255.0}, r"'colors' must be finite uint8 \(68, 3\), is float64"),
        ({"colors": SOME.colors[1:]}, r"\(67, 3\)"),
        ({"tool": SOME.tool[:, :3]}, r"'tool' must be finite float64 \(3, 7\), is float64 \(3, 3\)"),
        ({"openings": SOME.openings[:, None]}, r"'openings' must be finite float64 \(3,\)"),
        ({"joints": SOME.joints[:, :6]}, r"'joints' must be finite float64 \(3, 7\)"),
        ({"targets": SOME.targets[:-1]}, r"'targets' must be finite float64 \(3, 8\)"),
        ({"targets": np.full_like(SOME.targets, np.inf)}, "'targets' must be finite"),
        ({"counts": np.array(68)}, "'counts' must be one positive int64 per step, is int64 68"),
        ({"counts": np.array([20, 31, 16])}, r"'points' must be finite float32 \(67, 3\)"),
        ({"counts": np.array([40, 48, -20])}, "one positive int64 per step"),
        ({"counts": np.array([68, 0, 0])}, "one positive int64 per step"),
        ({"counts": SOME.counts.astype(float)}, "is float64"),
        ({"counts": SOME.counts[:, None]}, "one positive int64 per step"),
        ({"counts": SOME.counts[:0]}, "one positive int64 per step"),
        ({"tool": np.zeros_like(SOME.tool)}, r"quaternions must have norm 1, one has 0\.0000"),
        ({"targets": 2.0 * SOME.targets}, r"quaternions must have norm 1, one has 2\.0000"),
        ({"openings": SOME.openings + 5.0}, r"openings must lie in \[0, 1\], they reach from"),
        ({"task": 3}, "'task' must be a name, is 3"),
        ({"instructions": ()}, "'instructions' must be one or more sentences"),
        ({"instructions": (1, 2)}, r"sentences, is \[1, 2\]"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_with_both_shapes(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    save_demonstration(some_demonstration(**changes), path)
    refused(path, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"format": ...}, "'format'"),
        ({"spec": ...}, "'spec'"),
        ({"spec": None}, "not a demonstration"),
        ({"spec": {"voxelsize": 0.01}}, "voxelsize"),
        ({"spec": {"voxel_size": 9.0}}, "between 0.001 and 0.1 m, got 9.0"),
        ({"variation": "first"}, "first"),
        ({"seed": None}, "not a demonstration"),
        ({"instructions": "push the red button"}, "one text instead of a list"),
        ({"instructions": 5}, "not a demonstration"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(written: Path, changes: dict[str, Any], message: str) -> None:
    rewrite_header(written, **changes)
    refused(written, message)


def test_a_header_rewritten_without_a_change_is_accepted(written: Path) -> None:
    rewrite_header(written)
    assert same(load_demonstration(written), some_demonstration())


@pytest.mark.parametrize("name", ["header", "counts", "points", "colors", "tool", "openings", "joints", "targets"])
def test_a_file_without_one_of_its_parts_is_refused_and_the_part_is_named(written: Path, name: str) -> None:
    with np.load(written, allow_pickle=False) as archive:
        content = {key: archive[key] for key in archive.files if key != name}
    np.savez(written, **content)
    refused(written, name)
