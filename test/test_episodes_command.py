"""`minidiffuser episodes`, verb by verb, on recorded episodes, demonstrations' files and caches."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from recorded_episode import make_info, record_demonstration

from minidiffuser_ros.cli.episodes import VERBS
from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.episode import FAILURE, SUCCESS, UNLABELLED
from minidiffuser_ros.episodes.audit import audit_episode, write_audit
from minidiffuser_ros.episodes.cache import load_cache, read_index
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration, save_demonstration
from minidiffuser_ros.episodes.library import read_info
from minidiffuser_ros.episodes.metadata import write_custom_data
from minidiffuser_ros.episodes.samples import demonstration_from_episode
from minidiffuser_ros.episodes.writer import EpisodeWriter, WriterSettings

PUSH, STACK, MARKED = "20260131-100000-push_button", "20260131-110000-stack_pair", "20260131-120000-push_button"
FILES = ("push_button/000000", "push_button/000001", "stack_pair/000007")


def command(*words: object) -> int:
    return main(["episodes", *map(str, words)])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`lab`: three recorded episodes of the simulator; `npz`: demonstrations made of two of them, and a changed one."""
    root = tmp_path_factory.mktemp("originals")
    lab = root / "lab"
    lab.mkdir()
    record_demonstration(lab / PUSH, "push_button", 1, picture_hz=4.0)
    record_demonstration(lab / MARKED, "push_button", 2, picture_hz=4.0, mark=True, outcome=UNLABELLED)
    shutil.copytree(lab / PUSH, lab / STACK)  # the rules are the same whatever happens in it
    told = replace(read_info(lab / STACK), task="stack_pair", instruction="stack them", outcome=FAILURE)
    write_custom_data(lab / STACK, told)
    write_audit(lab / PUSH, audit_episode(lab / PUSH))
    made = demonstration_from_episode(lab / PUSH)
    for seed, name in enumerate(FILES[:2]):
        save_demonstration(changed(made, seed), root / "npz" / f"{name}.npz")
    stacked = demonstration_from_episode(lab / STACK, outcomes=(FAILURE,))
    save_demonstration(stacked, root / "npz" / f"{FILES[2]}.npz")
    return root


def changed(made: Demonstration, seed: int) -> Demonstration:
    """The same, seen a little otherwise."""
    noise = np.random.default_rng(seed).normal(0.0, 1e-3, made.points.shape)
    return replace(made, points=(made.points + noise).astype(np.float32), seed=seed)


@pytest.fixture
def root(originals: Path, tmp_path: Path) -> Path:
    """Copies that a test may change."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def lab(root: Path) -> Path:
    return root / "lab"


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What was said since the last call; bars are no part of it."""
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if "it/s" not in line and "episode/s" not in line]
    return captured.out, "\n".join(line for line in errors if line.strip())


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_explains_itself_with_an_example(verb: object, capsys: pytest.CaptureFixture[str]) -> None:
    name = verb.name  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as end:
        command(name, "--help")
    assert end.value.code == 0
    assert f"\n  minidiffuser episodes {name} " in printed(capsys)[0]


def test_a_list_has_a_line_for_each_recorded_episode(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(lab / PUSH, lab / f"{PUSH}-2.partial")
    assert command("list", lab) == 0
    out, error = printed(capsys)
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows[1:4]] == [PUSH, STACK, MARKED]
    push, stack, marked = rows[1:4]
    seconds = (audit_episode(lab / PUSH)).duration_s
    assert abs(float(push[2]) - seconds) < 0.06
    assert push[3:6] == ["auto", "success", "clean"]
    assert stack[3:6] == ["auto", "failure", "none"]
    assert marked[3:6] == ["2", "unlabelled", "none"]
    assert " ".join(push[6:]) == read_info(lab / PUSH).instruction
    assert out.splitlines()[-1] == "3 episodes"
    assert f"never finished, or still being recorded: {PUSH}-2.partial" in error


def test_a_list_shows_files_and_caches_alike(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("cache", root / "npz", "--out", root / "cache", "--workers", 1) == 0
    printed(capsys)
    tables = []
    for folder in (root / "npz", root / "cache"):
        assert command("list", folder) == 0
        tables.append(printed(capsys)[0])
    assert tables[0] == tables[1]
    names = [line.split()[0] for line in tables[0].splitlines()[1:-1]]
    assert names == list(FILES)


def test_a_list_can_be_narrowed_and_says_how_many_it_left_out(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("list", lab, "--outcomes", "failure", "unlabelled", "--tasks", "push_button") == 0
    out, _ = printed(capsys)
    assert MARKED in out
    assert PUSH not in out
    assert out.splitlines()[-1] == "1 episodes, 2 not chosen"
    assert command("list", lab, "--names", "*-11*") == 0
    assert STACK in printed(capsys)[0]


def test_a_list_reads_no_pictures(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("list", lab, "--names", PUSH) == 0
    before = printed(capsys)[0]
    for file in (lab / PUSH).glob("*.mcap"):
        file.write_bytes(b"")
    assert command("list", lab, "--names", PUSH) == 0
    assert printed(capsys)[0] == before


def test_what_cannot_be_read_is_listed_with_the_reason(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "npz" / "push_button" / "000001.npz").write_bytes(b"nothing")
    (root / "lab" / STACK / "metadata.yaml").write_text("rosbag2_bagfile_information: {custom_data: {}}")
    assert command("list", root / "npz", root / "lab") == 0
    out, error = printed(capsys)
    assert out.splitlines()[-1] == "4 episodes"
    assert "push_button/000001: cannot be read: " in error
    assert f"{STACK}: cannot be read: " in error


def test_show_tells_everything_of_one_episode(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("cache", root / "npz", "--out", root / "cache", "--workers", 1) == 0
    printed(capsys)
    assert command("show", root / "lab" / PUSH) == 0
    out, _ = printed(capsys)
    assert read_info(root / "lab" / PUSH).instruction in out
    assert "audit         clean" in out
    assert "/front/color/image_raw" in out
    shown = []
    for path in (root / "npz" / f"{FILES[0]}.npz", root / "cache" / FILES[0]):
        assert command("show", path) == 0
        shown.append(printed(capsys)[0])
    steps = [text[text.index("steps ") :] for text in shown]
    assert steps[0] == steps[1]
    made = load_demonstration(root / "npz" / f"{FILES[0]}.npz")
    assert len(steps[0].splitlines()) == 2 + len(made.counts)
    assert " ".join(f"{x:+.3f}" for x in made.targets[1, :3]) in steps[0]


def test_show_takes_several_and_draws_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = (root / "lab" / PUSH, root / "npz" / f"{FILES[0]}.npz")
    assert command("show", *both) == 0
    out, _ = printed(capsys)
    assert sum(line.startswith("name ") for line in out.splitlines()) == 2
    assert command("show", *both, "--picture", root / "out" / "none.png") == 2
    assert "name one" in printed(capsys)[1]


def test_show_draws_a_recorded_episode(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("show", root / "lab" / PUSH, "--picture", root / "out" / "picture.png") == 0
    with Image.open(root / "out" / "picture.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
    assert [path.name for path in (root / "out").iterdir()] == ["picture.png"]


def cut_off(lab: Path, name: str, keep: float) -> Path:
    """An episode as a killed recorder leaves it, with a part of its file."""
    partial = lab / f"{name}.partial"
    shutil.copytree(lab / PUSH, partial)
    (partial / "audit.json").unlink()
    (file,) = partial.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    return partial


def test_repair_saves_what_is_in_every_unfinished_recording(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, keep in (("20260131-130000-push_button", 0.5), ("20260131-140000-push_button", 0.8)):
        cut_off(lab, name, keep)
    assert command("repair", lab) == 0
    out, _ = printed(capsys)
    assert "20260131-130000-push_button.partial → 20260131-130000-push_button: " in out
    assert out.splitlines()[-1] == "2 of 2 unfinished recordings settled"
    assert not list(lab.glob("*.partial"))
    assert command("list", lab, "--names", "*-1[34]0000-*") == 0
    rows = [line.split() for line in printed(capsys)[0].splitlines()[1:-1]]
    assert [(row[4], row[6]) for row in rows] == [("unlabelled", "problem")] * 2
    assert 0.0 < float(rows[0][2]) < float(rows[1][2]) < audit_episode(lab / PUSH).duration_s
    assert command("repair", lab) == 0
    assert printed(capsys)[0].splitlines() == ["0 of 0 unfinished recordings settled"]


def test_a_folder_of_unfinished_recordings_alone_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{PUSH}.partial").mkdir()
    (tmp_path / f"{PUSH}.partial" / "metadata.yaml").touch()
    for verb in ("list", "check", "stats"):
        assert command(verb, tmp_path) == 2
        assert "holds 1 unfinished recordings and nothing else: save what is in them" in printed(capsys)[1]


def test_what_cannot_be_repaired_stays_unless_it_may_be_discarded(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = cut_off(lab, "20260131-130000-push_button", 0.0)
    assert command("repair", lab) == 1
    out, error = printed(capsys)
    assert partial.name in error
    assert partial.is_dir()
    assert out.splitlines()[-1] == "0 of 1 unfinished recordings settled"
    assert command("repair", lab, "--discard") == 0
    assert not partial.exists()
    assert (lab / ".trash" / partial.name).is_dir()


def test_a_full_disk_is_no_reason_to_discard(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = cut_off(lab, "20260131-130000-push_button", 0.5)
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9, free=1000))
        assert command("repair", lab, "--discard") == 1
    assert "free some space and try again" in printed(capsys)[1]
    with monkeypatch.context() as full:
        full.setattr("minidiffuser_ros.episodes.repair.BagFile", refused)
        assert command("repair", lab, "--discard") == 1
    assert "No space left on device" in printed(capsys)[1]
    assert partial.is_dir()
    assert command("repair", lab, "--discard") == 0
    assert (lab / partial.stem / "metadata.yaml").is_file()


def refused(*args: object) -> object:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_episode_that_is_being_recorded_is_neither_repaired_nor_discarded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = EpisodeWriter(tmp_path, make_info("push_button"), WriterSettings(min_free_mb=1.0))
    try:
        assert command("repair", tmp_path, "--discard") == 1
        assert "still being recorded" in printed(capsys)[1]
        assert writer.folder.is_dir()
    finally:
        writer.discard()


@pytest.mark.parametrize("outcome", [SUCCESS, FAILURE, UNLABELLED])
def test_a_label_changes_the_outcome_and_nothing_else(
    lab: Path, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {p: p.read_bytes() for p in lab.rglob("*.mcap")}
    before = read_info(lab / PUSH)
    assert command("label", lab / PUSH, lab / STACK, outcome) == 0
    assert read_info(lab / PUSH) == before.labelled(outcome)
    assert read_info(lab / STACK).outcome == outcome
    assert read_info(lab / MARKED).outcome == UNLABELLED
    assert files == {p: p.read_bytes() for p in lab.rglob("*.mcap")}
    assert "2 episodes labelled" in printed(capsys)[0]


def test_where_one_name_is_wrong_nothing_is_labelled(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (root / "lab" / "nothing", root / "npz", root / "npz" / f"{FILES[0]}.npz"):
        assert command("label", root / "lab" / PUSH, wrong, "failure") == 2
        assert str(wrong) in printed(capsys)[1]
    assert read_info(root / "lab" / PUSH).outcome == SUCCESS


def test_a_cache_holds_what_is_read_from_recorded_episodes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, outcomes = root / "cache", ("--outcomes", "success", "failure")
    assert command("cache", root / "lab", root / "npz", "--out", out, *outcomes, "--workers", 1) == 0
    said, _ = printed(capsys)
    loaded = {entry.name: d for entry, d in zip(read_index(out).entries, load_cache(out, verify=True), strict=True)}
    assert sorted(loaded) == [PUSH, STACK, *FILES[:2]]
    for name in (PUSH, STACK):
        direct = demonstration_from_episode(root / "lab" / name, outcomes=(SUCCESS, FAILURE))
        assert loaded[name].task == direct.task
        assert loaded[name].instructions == direct.instructions
        np.testing.assert_array_equal(loaded[name].points, direct.points)
        np.testing.assert_array_equal(loaded[name].targets, direct.targets)
    # The file of the stacking was made from the recording: it teaches the same.
    assert f"left out: {root / 'npz' / FILES[2]}.npz holds the same as {root / 'lab' / STACK}" in said
    assert "not chosen: 1 unlabelled" in said
    assert said.splitlines()[-1] == f"4 episodes of {sum(len(d.counts) for d in loaded.values())} steps in {out}"


def test_a_label_given_later_does_not_read_a_recording_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "npz" / "broken.npz").write_bytes(b"")
    sources = (root / "lab", root / "npz", "--out", root / "out", "--workers", 1)
    assert command("cache", *sources) == 2
    assert "1 of 7 episodes cannot be read" in printed(capsys)[1]
    command("label", root / "lab" / PUSH, "unlabelled")
    command("label", root / "lab" / PUSH, "success")
    mcap = next((root / "lab" / PUSH).glob("*.mcap"))
    state = mcap.stat()
    mcap.write_bytes(b"\0" * state.st_size)
    os.utime(mcap, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert command("cache", *sources, "--keep-going") == 1
    assert len(load_cache(root / "out", verify=True)) == 4


def test_check_finds_nothing_wrong_with_what_is_whole(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("cache", root / "npz", "--out", root / "cache", "--workers", 1) == 0
    printed(capsys)
    assert command("check", root / "npz", root / "cache", root / "lab" / PUSH) == 0
    assert printed(capsys)[0].splitlines() == ["5 of 5 without a problem"]


def test_check_names_every_damage_and_exits_with_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("cache", root / "npz", "--out", root / "cache", "--workers", 1) == 0
    printed(capsys)
    for path in (root / "cache" / "points.npy", next((root / "lab" / PUSH).glob("*.mcap"))):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    (root / "npz" / f"{FILES[1]}.npz").write_bytes(b"PK")
    (root / "lab" / f"{PUSH}-2.partial").mkdir()
    (root / "lab" / f"{PUSH}-2.partial" / "metadata.yaml").touch()
    assert command("check", root / "cache", root / "npz", root / "lab") == 1
    out, _ = printed(capsys)
    for sentence in (
        "points.npy is not what was written",
        "000001.npz is not a demonstration",
        f"{PUSH}: ",
        "-2.partial: never",
    ):
        assert sentence in out
    assert out.splitlines()[-1] == "4 of 8 without a problem"


def test_stats_count_by_task_what_the_episodes_hold(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("stats", root / "lab", root / "npz", "--json", "--workers", 1) == 0
    tasks = {task["task"]: task for task in json.loads(printed(capsys)[0])}
    push, stack = tasks["push_button"], tasks["stack_pair"]
    assert (push["episodes"], push["outcomes"]) == (4, {"success": 3, "unlabelled": 1})
    assert stack["outcomes"] == {"failure": 1, "success": 1}
    made = load_demonstration(root / "npz" / f"{FILES[2]}.npz")
    assert stack["steps"] == [len(made.counts)] * 3
    assert stack["points"] == [made.counts.min(), pytest.approx(made.counts.mean()), made.counts.max()]
    np.testing.assert_allclose(stack["keypose_min"], made.targets[:, :3].min(axis=0))
    np.testing.assert_allclose(stack["keypose_max"], made.targets[:, :3].max(axis=0))
    assert stack["closed_fraction"] == pytest.approx((made.targets[:, 7] <= 0.5).mean())
    assert stack["sentences"] == {made.instructions[0]: 2}
    seconds = audit_episode(root / "lab" / STACK).duration_s
    assert stack["duration_s"] == pytest.approx([seconds] * 3, abs=0.01)
    assert command("stats", root / "lab", root / "npz", "--workers", 1) == 0
    assert [line.split()[:3] for line in printed(capsys)[0].splitlines()[1:]] == [
        ["push_button", "4", "3"], ["stack_pair", "2", "1"],
    ]  # fmt: skip


def test_convert_writes_for_lerobot_and_reads_back(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("convert", root / "lab" / PUSH, "--to", "lerobot", "--out", root / "lerobot") == 0
    assert printed(capsys)[0].splitlines()[-1] == f"1 episodes in {root / 'lerobot'}"
    back = root / "back"
    assert command("convert", root / "lerobot", "--from", "lerobot", "--out", back, "--keep-going") == 0
    assert printed(capsys)[0].splitlines()[-1] == f"1 demonstrations in {back}"
    (file,) = back.glob("*/*.npz")
    assert load_demonstration(file).instructions == (read_info(root / "lab" / PUSH).instruction,)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("list", "NOWHERE"), "nowhere holds no episodes"),
        (("list", "LAB", "--outcomes", "good"), "one of unlabelled, success, failure, not 'good'"),
        (("show", "LAB"), "is no episode: name a recorded episode's folder"),
        (("show", "NPZ/push_button/000000.npz", "--picture", "NOWHERE"), "keeps points and no pictures"),
        (("check", "NOWHERE"), "nowhere holds no episodes"),
        (("check", "NPZ", "--workers", "0"), "--workers must be at least 1, got 0"),
        (("label", "LAB/x", "great"), "one of unlabelled, success, failure, not 'great'"),
        (("stats", "NPZ", "--tasks", "juggle"), "none of 3 episodes is chosen"),
        (("cache", "NOWHERE", "--out", "OUT"), "nowhere holds no episodes"),
        (("cache", "NPZ", "--out", "LAB"), "exists, and a cache is never overwritten"),
        (("cache", "NPZ", "--out", "OUT", "--tasks", "juggle"), "none of 3 episodes is left"),
        (("cache", "NPZ", "--out", "OUT", "--per-task", "-1"), "cannot be negative, got -1"),
        (("convert", "NOWHERE", "--from", "step-hdf5", "--out", "OUT"), "nowhere is no folder"),
        (("convert", "NPZ", "--from", "keystep-lmdb", "--layout", "x", "--out", "OUT"), "--layout means nothing for"),
        (("convert", "NPZ", "--from", "step-hdf5", "--spec", "NOWHERE", "--out", "OUT"), "cannot read"),
        (("repair", "NOWHERE"), "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: tuple[str, ...], expected: str, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "LAB": originals / "lab",
        "NPZ": originals / "npz",
        "OUT": tmp_path / "out",
        "NOWHERE": tmp_path / "nowhere",
    }
    resolved = []
    for word in words:
        first, _, rest = word.partition("/")
        resolved.append(places[first] / rest if first in places else word)
    assert command(*resolved) == 2
    _, error = printed(capsys)
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
