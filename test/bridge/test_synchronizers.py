"""ROS's message_filters and our own matcher see the same sets; the adaptor keeps the matcher's other laws."""

from __future__ import annotations

import importlib.util
import sys
import threading

import filters_stand_in
import numpy as np
import pytest
from sensor_msgs.msg import Image

from minidiffuser_ros.bridge.conversions import header
from minidiffuser_ros.bridge.synchronizers import FilteredMatcher, make_matcher
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.perception.streams import MatchedSet, StampMatcher, StreamSettings

MS = 1_000_000
START = 1_000_000 * MS
GROUPS = {"front": ("front/color", "front/depth"), "wrist": ("wrist/color", "wrist/depth")}
STATES = "joint_states"
HAS_FILTERS = importlib.util.find_spec("message_filters") is not None
needs_package = pytest.mark.skipif(not HAS_FILTERS, reason="the ROS package message_filters is not installed")


@pytest.fixture(params=["stand-in", pytest.param("message_filters", marks=needs_package)])
def filtered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FilteredMatcher:
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "message_filters", filters_stand_in)
    matcher = make_matcher("message_filters", GROUPS, STATES, StreamSettings())
    assert isinstance(matcher, FilteredMatcher)
    return matcher


def push(matcher: StampMatcher, stream: str, at_ms: float) -> None:
    stamp = START + round(at_ms * MS)
    payload = np.array([at_ms / 1e3]) if stream == STATES else Image(header=header(stream, stamp))
    matcher.push(stream, stamp, payload, stamp)


def push_all(matcher: StampMatcher, at_ms: float) -> None:
    for stream in (STATES, *GROUPS["front"], *GROUPS["wrist"]):
        push(matcher, stream, at_ms)


def made_stream(seed: int) -> list[tuple[str, float]]:
    """Ten seconds of two cameras at 15 Hz with jitter, losses and a phase between them, in the order of arrival."""
    rng = np.random.default_rng(seed)
    arrivals: list[tuple[float, str, float]] = [(t, STATES, t) for t in np.arange(0.0, 10_000.0, 10.0)]
    for camera, phase in (("front", 0.0), ("wrist", 21.0)):
        for t in np.arange(phase, 10_000.0, 1000.0 / 15.0):
            for stream in GROUPS[camera]:
                if rng.random() > 0.1:
                    stamp = t + rng.uniform(-4.0, 4.0)
                    arrivals.append((stamp + rng.uniform(0.0, 20.0), stream, stamp))
    return [(stream, stamp) for _, stream, stamp in sorted(arrivals)]


def same(a: MatchedSet | None, b: MatchedSet | None) -> bool:
    if a is None or b is None:
        return a is b
    states_agree = all(np.array_equal(a.states[name], b.states[name]) for name in a.states)
    return a.stamps_ns == b.stamps_ns and a.states.keys() == b.states.keys() and states_agree


@pytest.mark.parametrize("seed", [1, 2])
def test_both_see_the_same_sets_of_the_same_streams(filtered: FilteredMatcher, seed: int) -> None:
    own = StampMatcher(GROUPS, STATES, StreamSettings())
    sets = set()
    for stream, at_ms in made_stream(seed):
        push(own, stream, at_ms)
        push(filtered, stream, at_ms)
        found = own.match()
        assert same(found, filtered.match())
        if found is not None:
            sets.add(found.newest_ns)
    assert len(sets) > 100


def test_no_set_mixes_times_after_the_clock_jumped_back(filtered: FilteredMatcher) -> None:
    for at_ms in range(60_000, 70_000, 100):
        push_all(filtered, at_ms)
    push_all(filtered, 0)
    # The jump is seen with each stream's first message, and what came before it is forgotten.
    push_all(filtered, 100)
    match = filtered.match()
    assert match is not None
    assert set(match.stamps_ns.values()) == {START + 100 * MS}


def test_pictures_that_the_matcher_refuses_never_reach_the_filter(filtered: FilteredMatcher) -> None:
    push(filtered, STATES, 0)
    for stream in GROUPS["front"] + GROUPS["wrist"]:
        stamp = START + 5000 * MS
        filtered.push(stream, stamp, Image(header=header(stream, stamp)), START)
    assert filtered.match() is None
    assert len(filtered.reasons(START)) == 4


def test_who_waits_is_woken_by_the_set_and_threads_do_not_lock_each_other_out(filtered: FilteredMatcher) -> None:
    def feed(streams: tuple[str, ...]) -> None:
        for at_ms in range(0, 2000, 10):
            for stream in streams:
                push(filtered, stream, at_ms)

    threads = [threading.Thread(target=feed, args=(s,), daemon=True) for s in ((STATES,), *GROUPS.values())]
    for thread in threads:
        thread.start()
    assert filtered.wait_match(START + 1500 * MS, 20.0) is not None
    for thread in threads:
        thread.join(20.0)
        assert not thread.is_alive()


def test_where_the_package_is_missing_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "message_filters", None)
    with pytest.raises(ConfigurationError, match=r"message_filters is not installed.*'stamps'"):
        make_matcher("message_filters", GROUPS, STATES, StreamSettings())
    assert type(make_matcher("stamps", GROUPS, STATES, StreamSettings())) is StampMatcher
