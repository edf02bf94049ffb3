"""Rates and silences of topics, on a clock that the test turns."""

from __future__ import annotations

from itertools import pairwise

import pytest
from small_episode import START_NS, TOPICS, Sent

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.episodes import liveness
from minidiffuser_ros.episodes.liveness import LivenessSettings, StreamMeter, silence_reasons
from minidiffuser_ros.episodes.timeline import topic_types

JOINTS = TOPICS.joint_states


class Clock:
    """Stands still until it is turned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 10**12
        monkeypatch.setattr(liveness.time, "monotonic_ns", lambda: self.now_ns)

    def turn(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def message(stamp_ns: int = START_NS) -> bytes:
    return Sent(JOINTS, stamp_ns, stamp_ns, 1).data()


def reasons(meter: StreamMeter, now_ns: int = START_NS, **settings: float) -> list[str]:
    return silence_reasons({JOINTS: meter}, topic_types(TOPICS), LivenessSettings(**settings), now_ns, stamped=True)


def fed(clock: Clock, hertz: float, seconds: float = 3.0) -> StreamMeter:
    meter = StreamMeter()
    for _ in range(round(hertz * seconds)):
        clock.turn(1.0 / hertz)
        meter.hit(message())
    return meter


@pytest.mark.parametrize("hertz", [0.7, 15.0, 100.0])
def test_the_rate_is_the_one_that_messages_come_at(clock: Clock, hertz: float) -> None:
    assert fed(clock, hertz, 20.0).rate_hz() == pytest.approx(hertz, rel=0.02)


def test_the_rate_of_a_stream_that_has_ended_falls_and_never_rises_again(clock: Clock) -> None:
    meter, rates = fed(clock, 50.0), []
    for _ in range(40):
        clock.turn(0.1)
        rates.append(meter.rate_hz())
    assert all(later <= earlier for earlier, later in pairwise(rates))
    assert rates[0] < 50.0
    assert rates[-1] == 0.0


def test_each_way_of_not_arriving_has_its_sentence(clock: Clock) -> None:
    assert reasons(StreamMeter()) == [f"nothing has arrived on {JOINTS} yet"]
    assert reasons(fed(clock, 50.0)) == []
    assert reasons(fed(clock, 5.0)) == [f"{JOINTS} comes at 5.0 Hz, slower than the 10 Hz that are required"]
    meter = fed(clock, 50.0)
    clock.turn(1.5)
    assert reasons(meter) == [f"{JOINTS} has been silent for 1.5 s"]
    for shift_s, words in ((10, "10.0 s behind the clock"), (-10, "10.0 s ahead of the clock")):
        assert reasons(fed(clock, 50.0), START_NS + shift_s * 10**9) == [f"{JOINTS} is stamped {words}"]


def test_what_comes_now_and_then_has_no_rate_to_keep(clock: Clock) -> None:
    info = TOPICS.cameras["front"].info
    settings = LivenessSettings(silent_after_s=10.0)
    meters = {info: fed(clock, 0.5, 10.0)}
    assert silence_reasons(meters, topic_types(TOPICS), settings, START_NS, stamped=True) == []


def test_losses_are_added_up() -> None:
    meter = StreamMeter()
    meter.lose(2)
    meter.lose(3)
    assert meter.lost == 5


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="silent_after_s"):
        LivenessSettings(silent_after_s=0.0)
