"""An audit finds each thing that is wrong with an episode, and nothing in a healthy one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from small_episode import START_NS, TOPICS, Sent, info, keep, saved, small_stream

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.audit import AUDIT, Audit, audit_episode, audit_timelines, read_audit, write_audit
from minidiffuser_ros.episodes.timeline import Timeline

COLOR, DEPTH = TOPICS.cameras["wrist"].color, TOPICS.cameras["wrist"].depth
MIDDLE_NS = START_NS + 1_000_000_000


def audited(sent: list[Sent]) -> Audit:
    timelines = {topic: Timeline(stamped=True) for topic in TOPICS.all()}
    for message in sent:
        timelines[message.topic].add(message.log_ns, message.data(), message.sequence)
    return audit_timelines(info(), timelines, {})


def without_sequence(sent: list[Sent]) -> list[Sent]:
    return [dataclasses.replace(message, sequence=0) for message in sent]


def test_a_healthy_stream_is_clean_and_its_rates_are_those_it_was_sent_with() -> None:
    audit = audited(small_stream())
    assert audit.clean
    assert audit.problems == ()
    assert audit.duration_s == pytest.approx(2.0, abs=0.02)
    assert audit.topics[COLOR].rate_hz == pytest.approx(15.0, rel=1e-3)
    assert audit.topics[TOPICS.joint_states].rate_hz == pytest.approx(100.0, rel=1e-3)
    assert audit.topics[COLOR].expected == audit.topics[COLOR].received == 31
    assert audit.apart_s == {"front": 0.0, "wrist": 0.0}


@pytest.mark.parametrize("counted", [True, False])
def test_lost_messages_are_counted_with_and_without_the_publishers_count(counted: bool) -> None:
    sent = keep(small_stream(), lambda m: m.topic != COLOR or m.sequence not in (10, 11, 20))
    audit = audited(sent if counted else without_sequence(sent))
    topic = audit.topics[COLOR]
    assert (topic.received, topic.expected, topic.gaps) == (28, 31, 2)
    assert audit.problems == (f"{COLOR}: 3 of 31 messages are missing",)


def test_one_lost_message_in_a_hundred_is_told_and_is_no_problem() -> None:
    audit = audited(keep(small_stream(), lambda m: m.topic != TOPICS.joint_states or m.sequence != 50))
    assert audit.topics[TOPICS.joint_states].expected - audit.topics[TOPICS.joint_states].received == 1
    assert audit.clean


@pytest.mark.parametrize("counted", [True, False])
def test_a_topic_that_stops_or_begins_late_is_missing_messages_though_it_lost_none(counted: bool) -> None:
    for keeps in (lambda m: m.stamp_ns < MIDDLE_NS, lambda m: m.stamp_ns > MIDDLE_NS):
        sent = keep(small_stream(), lambda m, keeps=keeps: m.topic != DEPTH or keeps(m))
        audit = audited(sent if counted else without_sequence(sent))
        assert audit.topics[DEPTH].expected == pytest.approx(31, abs=1)
        assert any(
            p.startswith(f"{DEPTH}: silent for 1.0") or p.startswith(f"{DEPTH}: silent for 0.9") for p in audit.problems
        )


def test_a_silent_topic_is_named(tmp_path: Path) -> None:
    sent = keep(small_stream(), lambda m: m.topic != TOPICS.cameras["front"].info)
    assert audited(sent).problems == (f"{TOPICS.cameras['front'].info}: nothing was recorded",)


def test_colour_and_depth_of_different_moments_are_found() -> None:
    sent = [dataclasses.replace(m, stamp_ns=m.stamp_ns + 30_000_000) if m.topic == DEPTH else m for m in small_stream()]
    audit = audited(sent)
    assert audit.apart_s["wrist"] == pytest.approx(0.03, abs=1e-6)
    assert audit.apart_s["front"] == 0.0
    assert audit.problems == ("camera 'wrist': colour and depth are 0.030 s apart; they must be of one moment",)


def test_a_camera_on_the_hand_without_joint_states_around_its_pictures_has_no_pose() -> None:
    def wanted(message: Sent) -> bool:
        return message.topic != TOPICS.joint_states or not MIDDLE_NS < message.stamp_ns < MIDDLE_NS + 400_000_000

    problems = audited(keep(small_stream(), wanted)).problems
    assert any("camera 'wrist': for 3 of 31 pictures its pose is not known" in p for p in problems)
    assert any("camera 'front': for 3 of 31 pictures the arm's pose is not known" in p for p in problems)


@pytest.mark.parametrize("jump_ns", [-5_000_000_000, 5_000_000_000])
def test_a_clock_that_jumps_is_found_whichever_way(jump_ns: int) -> None:
    sent = [
        dataclasses.replace(m, stamp_ns=m.stamp_ns + jump_ns)
        if m.topic == TOPICS.joint_states and m.stamp_ns > MIDDLE_NS
        else m
        for m in small_stream()
    ]
    audit = audited(sent)
    assert audit.topics[TOPICS.joint_states].clock_jumps == 1
    assert f"{TOPICS.joint_states}: its clock jumped 1 times" in audit.problems


def test_a_camera_that_repeats_its_picture_is_frozen() -> None:
    sent = [
        dataclasses.replace(m, stamp_ns=min(m.stamp_ns, MIDDLE_NS)) if m.topic == COLOR else m for m in small_stream()
    ]
    problems = audited(sent).problems
    assert any(p.startswith(f"{COLOR}: 14 of 31 messages repeat the stamp before") for p in problems), problems


def test_an_audit_made_anew_from_the_bag_is_the_one_made_while_it_was_written(tmp_path: Path) -> None:
    sent = keep(small_stream(), lambda m: m.topic != COLOR or m.sequence % 5)
    folder = saved(tmp_path, sent)
    assert audit_episode(folder) == read_audit(folder)
    assert not read_audit(folder).clean
    write_audit(folder, dataclasses.replace(read_audit(folder), problems=()))
    assert read_audit(folder).clean
    assert not audit_episode(folder).clean


HOSTILE = [
    "",
    "{",
    "[]",
    "null",
    '{"topics": 3}',
    "[" * 100_000,
    '{"duration_s": 1, "topics": {}, "apart_s": {}}',
    "NaN",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_foreign_audit_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / AUDIT).write_text(text)
    with pytest.raises(EpisodeError) as error:
        read_audit(tmp_path)
    assert "\n" not in str(error.value)


def test_an_audit_is_json_that_others_can_read(tmp_path: Path) -> None:
    folder = saved(tmp_path, small_stream(0.5))
    assert json.loads((folder / AUDIT).read_text())["topics"][COLOR]["received"] == 8
