"""A cache gives back what was put in, as views into its files; what is not whole or not a cache is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_demonstrations import SPEC, cache, made, same

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.cache import content_sha256, load_cache, open_cache, read_index
from minidiffuser_ros.episodes.cache_build import build_cache
from minidiffuser_ros.episodes.demonstration import ARRAYS, save_demonstration

SEEDS = range(5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cache(tmp_path, SEEDS)


@contextmanager
def little_memory(more_bytes: int = 1 << 30) -> Iterator[None]:
    """This process may map so much more than it has, and no more."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(folder: Path, message: str, verify: bool = False) -> None:
    """The cache is refused in one line that matches `message` and names something in it."""
    with little_memory(), pytest.raises(EpisodeError, match=message) as caught:
        load_cache(folder, verify)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "cache.json").read_text())
    change(values)
    (folder / "cache.json").write_text(json.dumps(values))


def test_every_demonstration_comes_back_bit_for_bit(folder: Path) -> None:
    loaded = load_cache(folder, verify=True)
    assert len(loaded) == len(SEEDS)
    assert all(same(demonstration, made(seed)) for seed, demonstration in zip(SEEDS, loaded, strict=True))


def test_the_arrays_are_read_only_views_into_the_maps(folder: Path) -> None:
    first, second = load_cache(folder)[:2]
    for name in ARRAYS:
        array = getattr(first, name)
        assert type(array) is np.ndarray
        assert not array.flags.owndata
        assert not array.flags.writeable
    distance = second.points.ctypes.data - first.points.ctypes.data
    assert distance == first.points.nbytes  # one behind the other in the same map


def test_views_outlive_the_cache_that_they_came_from(folder: Path) -> None:
    opened = open_cache(folder)
    points = opened.demonstration("push/000002").points
    opened.release_pages()
    del opened
    np.testing.assert_array_equal(points, made(2).points)


RESIDENT = """
import sys
from pathlib import Path
from minidiffuser_ros.episodes.cache import load_cache

def resident():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1024

before = resident()
demonstrations = load_cache(Path(sys.argv[1]), verify=True)
print(resident() - before, sum(d.points.nbytes for d in demonstrations))
"""


def test_loading_and_checking_a_cache_takes_a_fraction_of_its_size_of_memory(tmp_path: Path) -> None:
    d = made(0)
    big = dataclasses.replace(
        d, counts=d.counts + 300_000, points=np.zeros((len(d.counts) * 300_000 + len(d.points), 3), np.float32),
        colors=np.zeros((len(d.counts) * 300_000 + len(d.points), 3), np.uint8),
    )  # fmt: skip
    for number in range(4):
        big.points[0] = number
        save_demonstration(big, tmp_path / "npz" / f"{number}.npz")
    build_cache([tmp_path / "npz"], tmp_path / "cache")
    command = [sys.executable, "-c", RESIDENT, str(tmp_path / "cache")]
    grown, size = map(int, subprocess.run(command, capture_output=True, check=True, timeout=100).stdout.split())
    assert size > 25_000_000
    assert grown < 0.3 * size


def test_one_episode_is_found_by_its_name_and_a_missing_one_is_named(folder: Path) -> None:
    assert same(open_cache(folder).demonstration("push/000003"), made(3))
    with pytest.raises(EpisodeError, match=r"has no episode 'push/000009'"):
        open_cache(folder).demonstration("push/000009")


def test_the_index_tells_where_everything_is(folder: Path) -> None:
    index = read_index(folder)
    points = np.load(folder / "points.npy")
    for seed, entry in zip(SEEDS, index.entries, strict=True):
        assert (entry.name, entry.seed, entry.outcome) == (f"push/{seed:06d}", seed, "success")
        assert entry.content_sha256 == content_sha256(made(seed))
        rows = points[entry.first_point : entry.first_point + entry.points]
        np.testing.assert_array_equal(rows, made(seed).points)
    assert index.spec == SPEC


def test_content_hashes_differ_with_every_part_that_training_reads() -> None:
    d = made(0)
    changed = [dataclasses.replace(d, **{name: getattr(d, name) + 1}) for name in ARRAYS]
    changed += [dataclasses.replace(d, task="pull"), dataclasses.replace(d, instructions=("push",))]
    hashes = {content_sha256(other) for other in changed}
    assert len(hashes) == len(changed)
    assert content_sha256(d) == content_sha256(dataclasses.replace(d, seed=99)) not in hashes


@pytest.mark.parametrize("name", list(ARRAYS))
def test_a_changed_byte_in_any_array_is_found_by_its_hash(folder: Path, name: str) -> None:
    content = bytearray((folder / f"{name}.npy").read_bytes())
    content[-3] ^= 1  # small enough to stay a plausible number
    (folder / f"{name}.npy").write_bytes(content)
    refused(folder, f"{name}.npy is not what was written, its hash differs", verify=True)


def test_a_changed_sentence_is_found_by_the_hash_of_the_content(folder: Path) -> None:
    change_index(folder, lambda v: v["episodes"][1]["instructions"].append("leave it"))
    assert len(load_cache(folder)) == len(SEEDS)
    refused(folder, "push/000001: its content is not what was written", verify=True)


@pytest.mark.parametrize("name", list(ARRAYS))
@pytest.mark.parametrize("length", [0, 7, 100, 130, -1])
def test_a_truncated_array_is_refused(folder: Path, name: str, length: int) -> None:
    path = folder / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:length])
    refused(folder, rf"{name}\.npy (is no array of a cache|has \d+ bytes, .* takes)")


def test_a_longer_or_missing_array_is_refused(folder: Path) -> None:
    with (folder / "points.npy").open("ab") as file:
        file.write(b"\0")
    refused(folder, r"points.npy has \d+ bytes, float32 \(\d+, 3\) takes")
    (folder / "points.npy").unlink()
    refused(folder, "cannot read .*points.npy .No such file")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 3), np.float32), np.zeros((1, 3), np.float64), np.zeros(0), np.asfortranarray(np.ones((5, 3))),
        np.array(["text"]), np.zeros(2, [("a", "f4")]),
    ],
)  # fmt: skip
def test_an_array_of_another_shape_or_type_is_refused_with_both(folder: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(folder / "points.npy", array)
    refused(folder, r"points.npy must be float32 \(\d+, 3\), its header says")


def header(shape: str, descr: str = "'<f4'", length: int | None = None) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    "content",
    [
        header("(999999999999999, 3)"), header("(-1, 3)"), header("(2**70, 3)"), header("()" * 40),
        header("((((((((((1,),),),),),),),),)," * 3 + "3)"), header("(1, 3)", "'|O'"), header("(1, 3)", length=65535),
        header("(1, 3)", "__import__('os')"), header("(1, 3)").replace(b"\x01\x00", b"\x03\x00", 1),
        b"", b"PK\x03\x04", bytes(range(256)) * 40, pickle.dumps({"points": 1}),
    ],
)  # fmt: skip
def test_a_hostile_header_is_one_sentence_and_takes_no_memory(folder: Path, content: bytes) -> None:
    (folder / "points.npy").write_bytes(content)
    refused(folder, r"points\.npy (is no array of a cache|must be float32)")


def test_sizes_that_index_and_header_both_claim_are_compared_with_the_file(folder: Path) -> None:
    huge = 1 << 38

    def claim(values: dict[str, Any]) -> None:
        values["episodes"] = values["episodes"][:1]
        values["episodes"][0]["points"] = huge

    change_index(folder, claim)
    (folder / "points.npy").write_bytes(header(f"({huge}, 3)"))
    refused(folder, "(counts|points).npy")
    steps = read_index(folder).entries[0].steps
    np.save(folder / "counts.npy", np.full(steps, huge // steps))
    refused(folder, rf"points.npy has 128 bytes, float32 \({huge}, 3\) takes {12 * huge + 128}")


def test_an_array_of_objects_is_never_unpickled(folder: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"

    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (touched,)

    np.save(folder / "openings.npy", np.array([Canary()], dtype=object), allow_pickle=True)
    refused(folder, "openings.npy")
    assert not touched.exists()
    np.load(folder / "openings.npy", allow_pickle=True)
    assert touched.exists()  # the canary does sing where pickles are read


EPISODE = "episodes"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=2), "has format 2, this version reads 1"),
        (lambda v: v.pop("format"), "format"),
        (lambda v: v.pop("spec"), "spec"),
        (lambda v: v.update(spec=[]), "does not hold what a cache does"),
        (lambda v: v["spec"].update(voxel_size=9.0), "got 9.0"),
        (lambda v: v["spec"].update(voxel_size="wide"), "does not hold"),
        (lambda v: v["arrays"].pop("tool"), "tool"),
        (lambda v: v["arrays"].update(tool=3), "does not hold"),
        (lambda v: v["arrays"]["tool"].update(sha256=None), "text was expected, not None"),
        (lambda v: v.update(episodes=[]), "lists no episodes"),
        (lambda v: v.update(episodes=7), "does not hold"),
        (lambda v: v[EPISODE].append(5), "does not hold"),
        (lambda v: v[EPISODE][0].pop("seed"), r"lacks or does not know \['seed'\]"),
        (lambda v: v[EPISODE][0].update(color="red"), r"\['color'\]"),
        (lambda v: v[EPISODE][0].update(steps=0), "'steps' must be a whole number from 1, is 0"),
        (lambda v: v[EPISODE][0].update(steps=True), "'steps' must be a whole number"),
        (lambda v: v[EPISODE][0].update(points=2.5), "'points' must be a whole number"),
        (lambda v: v[EPISODE][0].update(points=10**30), "'points' must be a whole number"),
        (lambda v: v[EPISODE][0].update(first_point=-3), "'first_point' must be a whole number from 0"),
        (lambda v: v[EPISODE][0].update(first_step=1), "does not begin at 0"),
        (lambda v: v[EPISODE][2].update(first_step=0), r"'push/000002' begins at .*, expected"),
        (lambda v: v[EPISODE].reverse(), "does not begin at 0"),
        (lambda v: v[EPISODE][1].update(name="push/000000"), "the same name"),
        (lambda v: v[EPISODE][1].update(name=4), "text was expected, not 4"),
        (lambda v: v[EPISODE][1].update(outcome="maybe"), "outcome 'maybe'"),
        (lambda v: v[EPISODE][1].update(instructions="push"), "instructions 'push'"),
        (lambda v: v[EPISODE][1].update(instructions=[1]), "text was expected, not 1"),
        (lambda v: v[EPISODE][1].update(instructions=[]), "one or more sentences"),
        (lambda v: v[EPISODE][1].update(seed="x"), "whole numbers"),
        (lambda v: v[EPISODE].pop(), r"must be .*, its header says"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_index(folder, change)
    refused(folder, message)


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '"cache"', "[" * 100_000, "9" * 10_000, '{"format": NaN}'])
def test_an_index_of_another_kind_is_refused(folder: Path, content: str) -> None:
    (folder / "cache.json").write_text(content)
    refused(folder, "cache.json")


def test_an_endless_index_is_refused_unread(folder: Path) -> None:
    with (folder / "cache.json").open("r+b") as file:
        file.truncate(1 << 34)
    refused(folder, "larger than 256 MiB")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("points", np.nan, "'points' must be finite"), ("tool", 0.0, "its quaternions must have norm 1"),
        ("openings", 7.0, "gripper openings must lie in"), ("counts", -2, "'counts' must be one positive int64"),
    ],
)  # fmt: skip
def test_numbers_are_checked_as_those_of_single_files(folder: Path, name: str, value: float, message: str) -> None:
    array = np.load(folder / f"{name}.npy")
    array[-1] = value
    np.save(folder / f"{name}.npy", array)
    refused(folder, f"episode push/000004: {message}")


def test_a_folder_that_is_no_cache_is_named(tmp_path: Path) -> None:
    refused(tmp_path, "cannot read .*cache.json")
