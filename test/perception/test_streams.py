"""Laws of the alignment by stamp."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.perception.streams import StampMatcher, StreamSettings, interpolate, newest_agreeing

MS = 1_000_000
START = 1_000_000 * MS
GROUPS = {"front": ("front/color", "front/depth"), "wrist": ("wrist/color", "wrist/depth")}
PICTURES = [stream for streams in GROUPS.values() for stream in streams]


def make_matcher(**settings: float) -> StampMatcher:
    return StampMatcher(GROUPS, "joint_states", StreamSettings(**settings))


def push_all(matcher: StampMatcher, at_ms: int, skip: tuple[str, ...] = ()) -> None:
    """One message on every stream, stamped and arriving at `at_ms`."""
    stamp = START + at_ms * MS
    for name in ["joint_states", *PICTURES]:
        if name not in skip:
            payload = np.array([at_ms / 1e3]) if name == "joint_states" else f"{name}@{at_ms}"
            matcher.push(name, stamp, payload, stamp)


def test_chosen_stamps_agree_and_no_agreeing_choice_has_a_later_oldest_member() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        groups = [sorted(set(rng.integers(0, 200, rng.integers(1, 6)).tolist())) for _ in range(3)]
        tolerance = int(rng.integers(0, 60))
        agreeing = [min(c) for c in itertools.product(*groups) if max(c) - min(c) <= tolerance]
        chosen = newest_agreeing(groups, tolerance)
        if not agreeing:
            assert chosen is None
            continue
        assert chosen is not None
        stamps = [group[index] for group, index in zip(groups, chosen, strict=True)]
        assert max(stamps) - min(stamps) <= tolerance
        assert min(stamps) == max(agreeing)


def test_a_match_is_the_newest_complete_set() -> None:
    matcher = make_matcher()
    for at_ms in (0, 100, 200):
        push_all(matcher, at_ms)
    push_all(matcher, 300, skip=("wrist/depth",))
    match = matcher.match()
    # The wrist's picture at 300 has no depth, so the newest set spans 200 (wrist) to 300 (front).
    assert match is not None
    assert match.payloads["wrist/depth"] == "wrist/depth@200"
    assert match.payloads["wrist/color"] == "wrist/color@200"
    assert match.newest_ns == max(match.stamps_ns.values())


def test_colour_and_depth_of_one_camera_never_come_from_different_pictures() -> None:
    matcher = make_matcher(pair_tolerance_s=0.005)
    push_all(matcher, 0)
    matcher.push("front/color", START + 30 * MS, "late colour", START + 30 * MS)
    match = matcher.match()
    assert match is not None
    assert match.payloads["front/color"] == "front/color@0"


def test_no_message_of_a_match_is_older_than_asked_for() -> None:
    matcher = make_matcher()
    push_all(matcher, 0)
    assert matcher.match(START) is not None
    assert matcher.match(START + 1) is None
    reasons = matcher.reasons(START + 10 * MS, START + 500 * MS)
    assert len(reasons) == 4
    assert "older than asked for" in reasons[0]


def test_joint_states_are_interpolated_to_each_pictures_own_stamp() -> None:
    matcher = make_matcher()
    for at_ms in (0, 40):
        matcher.push("joint_states", START + at_ms * MS, np.array([at_ms / 1e3, 1.0]), START + at_ms * MS)
    for name in PICTURES:
        stamp = START + (10 if name.startswith("front") else 30) * MS
        matcher.push(name, stamp, name, stamp)
    match = matcher.match()
    assert match is not None
    np.testing.assert_allclose(match.states["front/color"], [0.010, 1.0], atol=1e-12)
    np.testing.assert_allclose(match.states["wrist/color"], [0.030, 1.0], atol=1e-12)


def test_interpolation_is_exact_for_motion_at_constant_speed() -> None:
    speed = np.array([0.3, -1.2])
    for stamp in range(0, 101, 10):
        np.testing.assert_allclose(interpolate(0, 0 * speed, 100, 100 * speed, stamp), stamp * speed)


def test_pictures_without_a_joint_state_nearby_do_not_match() -> None:
    matcher = make_matcher(state_tolerance_s=0.05)
    push_all(matcher, 0)
    push_all(matcher, 400, skip=("joint_states",))
    match = matcher.match()
    assert match is not None
    assert match.newest_ns == START


def test_every_silent_stream_is_named() -> None:
    matcher = make_matcher()
    push_all(matcher, 0, skip=("wrist/color", "joint_states"))
    reasons = matcher.reasons(START)
    assert reasons == ["nothing has arrived on wrist/color yet", "nothing has arrived on joint_states yet"]
    push_all(matcher, 0)
    assert matcher.reasons(START) == []
    reasons = matcher.reasons(START + 3000 * MS)
    assert len(reasons) == 5
    assert all("has been silent for 3.00 s" in reason for reason in reasons)


def test_a_frozen_stream_is_told_from_a_silent_one() -> None:
    matcher = make_matcher()
    for arrival_ms in (0, 100, 200, 300):
        push_all(matcher, arrival_ms, skip=("front/depth",))
        matcher.push("front/depth", START, "same", START + arrival_ms * MS)
    assert matcher.reasons(START + 300 * MS) == ["front/depth is frozen: the same stamp came 4 times"]


def push_pictures(matcher: StampMatcher, at_ms: int, content: int) -> None:
    """One message on every stream; `content` stands for what front/color shows."""
    push_all(matcher, at_ms, skip=("front/color",))
    stamp = START + at_ms * MS
    matcher.push("front/color", stamp, f"front/color@{at_ms}", stamp, content)


def test_pictures_that_are_all_alike_are_frozen_however_fresh_their_stamps() -> None:
    matcher = make_matcher(frozen_after=3)
    for at_ms in (0, 100):
        push_pictures(matcher, at_ms, content=7)
    assert matcher.reasons(START + 100 * MS) == []
    push_pictures(matcher, 200, content=7)
    (reason,) = matcher.reasons(START + 200 * MS)
    assert "front/color is frozen: the last 3 pictures are alike" in reason
    push_pictures(matcher, 300, content=8)
    assert matcher.reasons(START + 300 * MS) == []


def test_alike_pictures_are_fine_where_the_limit_is_off_or_nobody_looks_at_them() -> None:
    matcher = make_matcher(frozen_after=0)
    for at_ms in range(0, 5000, 100):
        push_pictures(matcher, at_ms, content=7)
    assert matcher.reasons(START + 4900 * MS) == []
    matcher = make_matcher(frozen_after=2)
    for at_ms in range(0, 1000, 100):
        push_all(matcher, at_ms)
    assert matcher.reasons(START + 900 * MS) == []


@pytest.mark.parametrize("ailment", ["silent", "frozen", "alike", "future", "stale", "unreadable"])
def test_a_set_is_not_handed_out_while_any_stream_is_unwell(ailment: str) -> None:
    matcher = make_matcher(frozen_after=2, silent_after_s=1.0)
    push_pictures(matcher, 0, content=7)
    now = START
    assert matcher.wait_match(0, 0.0, lambda: now) is not None
    if ailment == "silent":
        now += 1100 * MS
    elif ailment == "frozen":
        for _ in range(3):
            matcher.push("front/depth", START, "again", START)
    elif ailment == "alike":
        push_pictures(matcher, 10, content=7)
    elif ailment == "future":
        matcher.push("front/depth", START + 9000 * MS, "from tomorrow", START)
    elif ailment == "stale":
        now += 5000 * MS
        for name in ["joint_states", *PICTURES]:
            payload = np.zeros(1) if name == "joint_states" else name
            matcher.push(name, START + 10 * MS, payload, now)
    else:
        matcher.report_fault("front/depth", "front/depth has encoding yuv422")
    assert matcher.match() is not None
    assert matcher.wait_match(0, 0.0, lambda: now) is None
    assert matcher.reasons(now)


def test_a_clock_that_jumps_back_between_two_messages_makes_the_old_ones_unusable() -> None:
    matcher = make_matcher()
    push_all(matcher, 60_000)
    assert matcher.wait_match(0, 0.0, lambda: START) is None
    reasons = matcher.reasons(START)
    assert len(reasons) == 5
    assert "jumped back" in reasons[0]


def test_a_clock_that_jumps_forward_makes_the_old_ones_unusable_until_new_ones_come() -> None:
    matcher = make_matcher()
    push_all(matcher, 0)
    now = START + 3_600_000 * MS
    assert matcher.wait_match(0, 0.0, lambda: now) is None
    push_all(matcher, 3_600_000)
    match = matcher.wait_match(0, 0.0, lambda: now)
    assert match is not None
    assert set(match.stamps_ns.values()) == {now}


def test_messages_are_counted_whether_they_are_kept_or_not() -> None:
    matcher = make_matcher()
    push_all(matcher, 0)
    push_all(matcher, 0)
    matcher.push("front/color", START + 9000 * MS, "from tomorrow", START)
    assert matcher.counts() == {"joint_states": 2, **dict.fromkeys(PICTURES, 2), "front/color": 3}


def test_old_messages_that_arrive_now_are_called_stale() -> None:
    matcher = make_matcher(silent_after_s=1.0)
    push_all(matcher, 5000, skip=("front/color",))
    matcher.push("front/color", START, "old", START + 5000 * MS)
    assert matcher.reasons(START + 5000 * MS) == ["front/color is stale: its messages are 5.00 s old when they arrive"]


def test_cameras_that_disagree_are_both_named() -> None:
    matcher = make_matcher(set_tolerance_s=0.1)
    push_all(matcher, 400, skip=("front/color", "front/depth"))
    for name in GROUPS["front"]:
        matcher.push(name, START, name, START + 400 * MS)
    matcher.push("joint_states", START, np.array([0.0]), START + 400 * MS)
    (reason,) = matcher.reasons(START + 400 * MS)
    assert "front/color is 400 ms behind wrist/color" in reason


def test_after_a_clock_jump_no_match_mixes_the_two_times() -> None:
    matcher = make_matcher()
    push_all(matcher, 60_000)
    matcher.push("front/color", START, "restarted", START)
    assert matcher.match() is None
    assert any("front/color jumped back by 60.00 s" in reason for reason in matcher.reasons(START))
    push_all(matcher, 10)
    match = matcher.match()
    assert match is not None
    assert match.newest_ns == START + 10 * MS
    assert matcher.reasons(START + 20 * MS) == []


def test_a_stamp_from_the_future_is_refused() -> None:
    matcher = make_matcher()
    push_all(matcher, 0, skip=("front/color",))
    matcher.push("front/color", START + 2000 * MS, "future", START)
    assert matcher.match() is None
    (reason,) = matcher.reasons(START)
    assert "2.00 s ahead" in reason


def test_a_fault_is_reported_until_a_good_message_comes() -> None:
    matcher = make_matcher()
    push_all(matcher, 0)
    matcher.report_fault("joint_states", "joint_states lacks fr3_joint3")
    assert matcher.reasons(START) == ["joint_states lacks fr3_joint3"]
    push_all(matcher, 10)
    assert matcher.reasons(START) == []


def test_buffers_stay_bounded() -> None:
    matcher = make_matcher(capacity=8)
    for at_ms in range(0, 1000, 10):
        push_all(matcher, at_ms)
    assert {len(stream.payloads) for stream in matcher._streams.values()} == {8}


def test_waiting_returns_as_soon_as_the_set_is_complete_and_gives_up_in_time() -> None:
    matcher = make_matcher()
    push_all(matcher, 0)
    started = time.monotonic()
    assert matcher.wait_match(START + 1, timeout_s=0.1) is None
    assert 0.09 <= time.monotonic() - started < 2.0
    feeder = threading.Timer(0.05, push_all, (matcher, 100))
    feeder.start()
    match = matcher.wait_match(START + 1, timeout_s=10.0)
    feeder.join()
    assert match is not None
    assert time.monotonic() - started < 5.0


def test_concurrent_pushes_never_yield_a_mixed_pair() -> None:
    matcher = make_matcher(pair_tolerance_s=0.0005)

    def feed(offset: int) -> None:
        for at_ms in range(offset, 400, 4):
            push_all(matcher, at_ms)

    threads = [threading.Thread(target=feed, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    matched = 0
    while any(thread.is_alive() for thread in threads) or matched == 0:
        match = matcher.match()
        if match is not None:
            matched += 1
            for camera in GROUPS:
                assert match.stamps_ns[f"{camera}/color"] == match.stamps_ns[f"{camera}/depth"]
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("name", ["pair_tolerance_s", "silent_after_s", "capacity"])
def test_settings_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        StreamSettings(**{name: 0})


def test_two_streams_cannot_share_a_topic() -> None:
    with pytest.raises(ConfigurationError, match="topic of its own"):
        StampMatcher({"front": ("a", "a")}, "joint_states")
