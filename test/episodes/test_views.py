"""Laws of when the pictures before a keypose are taken."""

from __future__ import annotations

import numpy as np
import pytest
from scripted_traces import START_NS, Script

from minidiffuser_ros.episodes.keyposes import discover_keyposes, joint_speeds
from minidiffuser_ros.episodes.samples import SETTLE_S, STILL_SPEED, View, views_before
from minidiffuser_ros.episodes.traces import Traces

RATES_HZ = (15.0, 50.0, 100.0)
NOISE = 2e-4


def seconds_of(view: View) -> tuple[float, float]:
    return (view.not_before_ns - START_NS) / 1e9, (view.not_after_ns - START_NS) / 1e9


def inside(traces: Traces, view: View) -> np.ndarray:
    return (traces.times_ns >= view.not_before_ns) & (traces.times_ns <= view.not_after_ns)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("seed", range(6))
def test_arm_and_gripper_stand_in_every_view_and_departures_end_it(rate_hz: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    script, opening = Script().hold(float(rng.uniform(0.4, 2.0))), 1.0
    departures, places, openings = [script.now_s], [script.tool], [1.0]
    for number in range(5):
        script.move(50 * seed + number, 1.2, float(rng.uniform(0.3, 0.6))).hold(float(rng.uniform(0.3, 1.0)))
        if rng.random() < 0.5:
            opening = 1.0 - opening
            script.ask(opening).hold(float(rng.uniform(0.9, 1.5)))
        departures.append(script.now_s)
        places.append(script.tool)
        openings.append(opening)
    traces = script.traces(rate_hz, NOISE)
    views = views_before(discover_keyposes(traces).tolist(), traces)
    assert len(views) == len(places)
    for view, departure, place, opening in zip(views, departures, places, openings, strict=True):
        within = inside(traces, view)
        assert within.sum() >= 2
        # A joint may still creep at less than 0.1 rad/s when the view begins, and by the end it has arrived.
        assert np.linalg.norm(traces.tool[within, :3] - place, axis=1).max() < 0.01
        assert np.linalg.norm(traces.tool[within, :3] - place, axis=1)[-1] < 0.002
        assert np.abs(traces.opening[within] - opening).max() < 0.05
        assert departure - 0.25 <= seconds_of(view)[1] <= departure + 0.15


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_what_is_seen_before_the_gripper_opens_again_shows_it_closed(rate_hz: float) -> None:
    script = Script().hold(0.5).move(1).hold(0.4)
    script.ask(0.0).hold(1.0)
    reopened = script.now_s
    script.ask(1.0).hold(1.2).move(2).hold(0.5)
    traces = script.traces(rate_hz)
    views = views_before(discover_keyposes(traces).tolist(), traces)
    assert len(views) == 4
    _, end = seconds_of(views[1])
    assert reopened - 0.4 < end < reopened
    assert (traces.opening[inside(traces, views[1])] < 0.05).all()
    assert (traces.opening[inside(traces, views[2])] > 0.95).all()


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_after_a_keypose_marked_in_passing_the_arm_is_seen_where_it_next_stands(rate_hz: float) -> None:
    script = Script().hold(0.5).move(1, seconds=1.5)
    stop = script.now_s
    script.hold(0.5)
    departure = script.now_s
    script.move(2).hold(0.5)
    traces = script.traces(rate_hz)
    marked = int(np.searchsorted(traces.seconds, stop - 0.6))
    start, end = seconds_of(views_before([marked, len(traces.times_ns) - 1], traces)[1])
    assert stop - 0.3 < start < end
    assert departure - 0.25 < end < departure + 0.15


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_arm_that_never_stands_is_seen_where_it_is_slowest(rate_hz: float) -> None:
    script = Script().hold(0.5)
    for way in np.linspace(0.0, 2.0, 2001)[1:]:
        script._step(np.full(7, way + 0.05 * np.sin(4 * way)))
    traces = script.traces(rate_hz)
    marked = int(np.searchsorted(traces.seconds, 2.0))
    view = views_before([marked, len(traces.times_ns) - 1], traces)[1]
    speed = joint_speeds(traces, 0.1)
    near = (traces.seconds >= traces.seconds[marked]) & (traces.seconds <= traces.seconds[marked] + SETTLE_S)
    assert view.not_after_ns == int(traces.times_ns[near][speed[near].argmin()])


def test_the_end_of_a_view_is_free_of_blur() -> None:
    traces = Script().hold(0.8).move(1).hold(0.6).move(2).hold(0.6).traces(100.0, NOISE)
    speed = joint_speeds(traces, 0.1)
    for view in views_before(discover_keyposes(traces).tolist(), traces):
        assert speed[traces.times_ns == view.not_after_ns].item() < STILL_SPEED
