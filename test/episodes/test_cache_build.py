"""What is chosen for a cache and what is not; that nothing is lost by an interruption, nor overwritten."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from made_demonstrations import SPEC, cache, files, made, opened, same

from minidiffuser_ros.contract.errors import BusyError, ConfigurationError, EpisodeError
from minidiffuser_ros.episodes.cache import INDEX, load_cache
from minidiffuser_ros.episodes.cache_build import SUCCESSES, build_cache
from minidiffuser_ros.episodes.catalog import Choice
from minidiffuser_ros.episodes.demonstration import save_demonstration

KILLED = Path(__file__).with_name("killed_build.py")


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return [entry.name for entry in opened(folder)[0].index.entries]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cache_holds_every_demonstration_in_the_order_of_the_files(tmp_path: Path, workers: int) -> None:
    source = files(files(tmp_path / "npz", range(4)), range(10, 13), "lift")
    report = build_cache([source], tmp_path / "out", workers)
    expected = [made(seed, "lift") for seed in range(10, 13)] + [made(seed) for seed in range(4)]
    _, loaded = opened(tmp_path / "out")
    assert all(same(a, b) for a, b in zip(loaded, expected, strict=True))
    assert list(report.names) == names(tmp_path / "out") == [f"{d.task}/{d.seed:06d}" for d in expected]
    assert report.steps == sum(len(d.counts) for d in expected)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(("stage", "number"), [("reading", 3), ("half a part", 5), ("writing", 0), ("writing", 4)])
def test_a_killed_build_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path, stage: str, number: int) -> None:
    source, out = files(tmp_path / "npz", range(6)), tmp_path / "out"
    build_cache([source], tmp_path / "whole")
    killed = subprocess.run([sys.executable, KILLED, source, out, stage, str(number)], capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    parts = {path: path.stat().st_mtime_ns for path in out.with_name("out.partial").glob("*.json")}
    assert len(parts) == {"reading": 3, "half a part": 2, "writing": 6}[stage]
    before = {path: path.stat().st_ino for path in source.glob("*/*.npz")}
    build_cache([source], out)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert not out.with_name("out.partial").exists()
    assert before == {path: path.stat().st_ino for path in source.glob("*/*.npz")}


def test_what_is_ready_is_not_read_again(tmp_path: Path) -> None:
    source, out = files(tmp_path / "npz", range(4)), tmp_path / "out"
    (source / "push" / "000002.npz").write_bytes(b"nothing")
    with pytest.raises(EpisodeError, match="1 of 4 episodes cannot be read"):
        build_cache([source], out)
    parts = {path: path.stat().st_ino for path in (tmp_path / "out.partial").glob("*.npz")}
    assert len(parts) == 3
    save_demonstration(made(2), source / "push" / "000002.npz")
    with pytest.raises(EpisodeError), full_disk(100):
        build_cache([source], out)
    assert parts.items() <= {p: p.stat().st_ino for p in (tmp_path / "out.partial").glob("*.npz")}.items()


@contextmanager
def full_disk(allowed_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond `allowed_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("allowed_bytes", [100, 5000])
def test_a_full_disk_is_one_sentence_and_the_same_call_goes_on(tmp_path: Path, allowed_bytes: int) -> None:
    source, out = files(tmp_path / "npz", range(6)), tmp_path / "out"
    with full_disk(allowed_bytes), pytest.raises(EpisodeError, match=r"cannot write .*File too large.*goes on"):
        build_cache([source], out)
    assert not out.exists()
    build_cache([source], out)
    assert len(load_cache(out, verify=True)) == 6


def test_a_source_that_changed_in_between_is_read_again(tmp_path: Path) -> None:
    source, out = files(tmp_path / "npz", range(3)), tmp_path / "out"
    with full_disk(2500), pytest.raises(EpisodeError):
        build_cache([source], out)
    save_demonstration(made(77), source / "push" / "000000.npz")
    build_cache([source], out)
    assert same(load_cache(out)[0], made(77))


def test_a_part_damaged_by_a_loss_of_power_is_told_and_made_again(tmp_path: Path) -> None:
    source, out = files(tmp_path / "npz", range(3)), tmp_path / "out"
    subprocess.run([sys.executable, KILLED, source, out, "writing", "0"], capture_output=True, timeout=60)
    part = next((tmp_path / "out.partial").glob("*.npz"))
    save_demonstration(made(50), part)
    with pytest.raises(EpisodeError, match="its hash differs: run the same command again"):
        build_cache([source], out)
    build_cache([source], out)
    assert [d.seed for d in load_cache(out)] == [0, 1, 2]


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    built = cache(tmp_path, range(3))
    before = bytes_of(built)
    with pytest.raises(ConfigurationError, match="exists, and a cache is never overwritten"):
        build_cache([tmp_path / "npz"], built)
    assert bytes_of(built) == before


def test_two_processes_do_not_build_the_same_cache(tmp_path: Path) -> None:
    source = files(tmp_path / "npz", range(2))
    (tmp_path / "out.partial").mkdir()
    with (tmp_path / "out.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process is building"):
            build_cache([source], tmp_path / "out")
    build_cache([source], tmp_path / "out")


def test_caches_merge_to_what_their_sources_would_have_made_together(tmp_path: Path) -> None:
    first, second = cache(tmp_path / "a", range(3)), cache(tmp_path / "b", range(2, 6))
    report = build_cache([second, first], tmp_path / "merged")
    assert len(report.duplicates) == 1
    build_cache([files(tmp_path / "npz", range(6))], tmp_path / "direct")
    assert bytes_of(tmp_path / "merged") == bytes_of(tmp_path / "direct")
    build_cache([tmp_path / "merged"], tmp_path / "copy")
    assert bytes_of(tmp_path / "copy") == bytes_of(tmp_path / "direct")


def test_different_episodes_of_the_same_name_are_both_kept(tmp_path: Path) -> None:
    source = cache(tmp_path / "a", range(2))
    other = tmp_path / "b"
    save_demonstration(made(40), other / "push" / "000001.npz")
    build_cache([source, other], tmp_path / "merged")
    index, loaded = opened(tmp_path / "merged")
    assert names(tmp_path / "merged") == ["push/000000", "push/000001", "push/000001-2"]
    assert sorted(d.seed for d in loaded) == [0, 1, 40]
    assert same(index.demonstration("push/000001-2"), loaded[2])
    build_cache([tmp_path / "merged"], tmp_path / "copy")
    assert sorted(d.seed for d in load_cache(tmp_path / "copy")) == [0, 1, 40]


def test_duplicates_are_told_with_both_places_and_taken_once(tmp_path: Path) -> None:
    source = files(tmp_path / "npz", range(3))
    save_demonstration(replace(made(1), seed=999), source / "push" / "999999.npz")
    report = build_cache([source, source], tmp_path / "out")
    assert report.duplicates == ((str(source / "push" / "999999.npz"), str(source / "push" / "000001.npz")),)
    assert len(load_cache(tmp_path / "out")) == 3


def test_only_what_is_chosen_is_taken(tmp_path: Path) -> None:
    source = files(files(tmp_path / "npz", range(12)), range(5), "lift")
    report = build_cache([source], tmp_path / "tasks", keep=replace(SUCCESSES, tasks=("lift",)))
    assert {d.task for d in load_cache(tmp_path / "tasks")} == {"lift"}
    assert report.not_chosen == {"success": 12}
    build_cache([source], tmp_path / "names", keep=replace(SUCCESSES, names=("push/00000[13]", "*/000011")))
    assert names(tmp_path / "names") == ["push/000001", "push/000003", "push/000011"]
    build_cache([source], tmp_path / "few", keep=replace(SUCCESSES, per_task=2))
    assert names(tmp_path / "few") == ["lift/000000", "lift/000001", "push/000000", "push/000001"]
    build_cache([tmp_path / "few"], tmp_path / "fewer", keep=Choice(tasks=("push",), per_task=1))
    assert names(tmp_path / "fewer") == ["push/000000"]


def test_so_many_of_a_task_are_so_many_different_ones(tmp_path: Path) -> None:
    source = files(tmp_path / "npz", range(4))
    for number in range(10, 16):
        save_demonstration(made(0), source / "a_copy" / f"{number:06d}.npz")
    build_cache([source], tmp_path / "out", keep=replace(SUCCESSES, per_task=3))
    assert [d.seed for d in load_cache(tmp_path / "out")] == [0, 1, 2]


def test_what_cannot_be_read_stops_the_build_or_is_left_out_on_demand(tmp_path: Path) -> None:
    source, out = files(tmp_path / "npz", range(4)), tmp_path / "out"
    (source / "push" / "000001.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(EpisodeError, match=r"1 of 4 episodes cannot be read, the first: .*000001.npz.*--keep-going"):
        build_cache([source], out)
    report = build_cache([source], out, keep_going=True)
    assert len(report.unreadable) == 1
    assert [d.seed for d in load_cache(out)] == [0, 2, 3]


def test_episodes_of_different_specs_are_refused_with_what_differs(tmp_path: Path) -> None:
    source = files(tmp_path / "npz", range(2))
    files(source, range(5, 6), "lift", spec=replace(SPEC, voxel_size=0.02))
    with pytest.raises(EpisodeError, match=r"lift/000005.*push/000000.*voxel_size: 0\.02 against 0\.01"):
        build_cache([source], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["npz"]
    build_cache([source], tmp_path / "out", keep=replace(SUCCESSES, tasks=("lift",)))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(tasks=("juggle",)), r"none of 2 episodes is left for the cache \(2 success, not chosen\): label them"),
        (Choice(outcomes=("failure",)), "none of 2 episodes is left"),
    ],
)
def test_an_empty_choice_is_told_and_leaves_nothing_behind(tmp_path: Path, choice: Choice, message: str) -> None:
    source = files(tmp_path / "npz", range(2))
    with pytest.raises(EpisodeError, match=message):
        build_cache([source], tmp_path / "out", keep=choice)
    assert [path.name for path in tmp_path.iterdir()] == ["npz"]


def test_a_source_that_holds_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EpisodeError, match="empty holds no episodes: name a folder"):
        build_cache([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ConfigurationError, match="workers must be at least 1, got 0"):
        build_cache([files(tmp_path / "npz", range(2))], tmp_path / "out", workers=0)


def test_a_damaged_cache_is_no_source(tmp_path: Path) -> None:
    built = cache(tmp_path, range(3))
    content = bytearray((built / "points.npy").read_bytes())
    content[-2] ^= 1
    (built / "points.npy").write_bytes(content)
    with pytest.raises(EpisodeError, match="push/000002: its content has another hash"):
        build_cache([built], tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    os.unlink(built / INDEX)
    with pytest.raises(EpisodeError, match="holds no episodes"):
        build_cache([built], tmp_path / "copy")
