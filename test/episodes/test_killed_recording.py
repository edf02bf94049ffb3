"""Whatever kills a recorder, and whenever: what was saved stays whole, and what was not can be."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from pathlib import Path

import killed_recording
import pytest
from killed_recording import LABELLED, SENT
from small_episode import as_written, check_with_mcap, holds_beginnings, messages_of

from minidiffuser_ros.contract.episode import SUCCESS, UNLABELLED
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.audit import audit_episode, read_audit
from minidiffuser_ros.episodes.library import discard_episode, partial_episodes, read_info, saved_episodes
from minidiffuser_ros.episodes.repair import repair_episode

KILLS = 200
EXPECTED = sorted(as_written(SENT))


def check_saved(folder: Path, labelled: set[str]) -> None:
    """A saved episode holds everything, and no outcome that nobody gave it."""
    assert sorted(messages_of(folder)) == EXPECTED
    assert check_with_mcap(folder) == len(EXPECTED)
    assert read_audit(folder) == audit_episode(folder)
    assert read_info(folder).outcome == UNLABELLED or folder.name in labelled


def check_repaired(folder: Path) -> int:
    """A repaired one holds the beginning, says so, and is not labelled; returns how many messages it holds."""
    found = messages_of(folder)
    assert holds_beginnings(found, SENT)
    assert check_with_mcap(folder) == len(found)
    assert read_info(folder).outcome == UNLABELLED
    assert audit_episode(folder) == read_audit(folder)
    # One that was cut after its last message, in its save, cannot know that it is complete.
    assert len(found) == len(EXPECTED) or not read_audit(folder).clean
    return len(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_recorders_killed_at_random_moments_leave_whole_episodes_and_repairable_ones(tmp_path: Path) -> None:
    rng, context = random.Random(0), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_recording"])
    counts, saved_total, labelled_total, hopeless = [], 0, 0, 0
    for kill in range(KILLS):
        root = tmp_path / str(kill)
        root.mkdir()
        process = context.Process(target=killed_recording.record, args=(root, kill))
        process.start()
        while not list(root.glob("2*")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.12))
        process.kill()
        process.join()
        assert process.exitcode == -9
        labelled = set((root / LABELLED).read_text().split())
        for folder in saved_episodes(root):
            check_saved(folder, labelled)
            saved_total += 1
            labelled_total += read_info(folder).outcome == SUCCESS
        partial = partial_episodes(root)
        assert len(partial) <= 1
        for folder in partial:
            try:
                counts.append(check_repaired(repair_episode(folder).folder))
            except EpisodeError:  # killed before the first message had reached the disk
                discard_episode(folder)
                hopeless += 1
        assert not partial_episodes(root)
        shutil.rmtree(root)
    # The moments were spread: some recordings were cut early, some late, some in their save; some had been saved.
    assert len(counts) + hopeless > KILLS / 2
    assert len({count for count in counts if 0 < count < len(EXPECTED)}) > 8
    assert saved_total > 20
    assert 0 < labelled_total < saved_total
