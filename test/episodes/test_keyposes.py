"""Laws of keypose discovery. How often the arm was recorded must not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scripted_traces import START_NS, Script

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.episodes.keyposes import (
    EpisodeKeypose,
    KeyposeSettings,
    discover_keyposes,
    episode_keyposes,
    joint_speeds,
)
from minidiffuser_ros.episodes.traces import Mark, Traces

RATES_HZ = (15.0, 50.0, 100.0)
NOISE = 2e-4


def pick_and_place() -> tuple[Script, list[tuple[np.ndarray, float]]]:
    """Above, grasp something half as wide as the gripper opens, lift, above, release, and away: places and openings."""
    script, places = Script().hold(0.8), []

    def reach(seed: int, pause_s: float) -> None:
        script.move(seed).hold(pause_s)
        places.append((script.tool, script.asked[-1]))

    reach(1, 0.5)
    script.move(2).hold(0.4).ask(0.0, floor=0.5).hold(0.9)
    places.append((script.tool, 0.0))
    reach(3, 0.6)
    reach(4, 1.5)
    script.move(5).hold(0.3).ask(1.0).hold(0.8)
    places.append((script.tool, 1.0))
    reach(6, 0.7)
    return script, places


def assert_found(traces: Traces, places: list[tuple[np.ndarray, float]], within_m: float = 0.003) -> None:
    found = episode_keyposes(traces)
    assert len(found) == len(places), [round(float(traces.seconds[k.index]), 2) for k in found]
    for keypose, (place, opening) in zip(found, places, strict=True):
        assert np.linalg.norm(keypose.keypose.position - place) < within_m
        assert keypose.keypose.opening == opening
        assert not keypose.marked


def seconds_of(traces: Traces, settings: KeyposeSettings | None = None) -> list[float]:
    return traces.seconds[discover_keyposes(traces, settings or KeyposeSettings())].tolist()


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("velocities", [False, True])
@pytest.mark.parametrize("noise", [0.0, NOISE])
@pytest.mark.parametrize("target", [False, True])
def test_a_pick_and_place_has_its_six_keyposes(rate_hz: float, velocities: bool, noise: float, target: bool) -> None:
    script, places = pick_and_place()
    assert_found(script.traces(rate_hz, noise, velocities, target), places)


@pytest.mark.parametrize("target", [False, True])
def test_keyposes_are_found_at_the_same_moments_at_every_rate(target: bool) -> None:
    script, _ = pick_and_place()
    moments = [seconds_of(script.traces(rate_hz, NOISE, target=target)) for rate_hz in RATES_HZ]
    for others in moments[1:]:
        np.testing.assert_allclose(others, moments[0], atol=0.15)


def test_irregular_stamps_and_lost_messages_change_nothing() -> None:
    script, places = pick_and_place()
    traces = script.traces(50.0, NOISE, jitter=0.45)
    kept = np.random.default_rng(2).random(len(traces.times_ns)) > 0.3
    kept[-1] = True
    fields = {name: value[kept] for name, value in vars(traces).items() if value is not None}
    assert_found(replace(traces, **fields), places)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("hold_s", [0.3, 3.0, 30.0])
def test_a_stop_is_one_keypose_however_long_it_lasts(rate_hz: float, hold_s: float) -> None:
    script = Script().hold(1.0).move(1).hold(hold_s)
    stop = script.now_s
    script.move(2).hold(0.5)
    found = seconds_of(script.traces(rate_hz, NOISE))
    assert len(found) == 2
    assert stop - hold_s <= found[0] <= stop + 0.1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_hesitation_is_no_stop(rate_hz: float) -> None:
    script = Script().hold(0.5).move(1, seconds=0.8).hold(0.06).move(2, seconds=0.8).hold(0.5)
    assert len(seconds_of(script.traces(rate_hz), KeyposeSettings(stand_s=0.02))) == 2
    assert len(seconds_of(script.traces(rate_hz))) == 1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_twitch_does_not_make_two_stops_of_one(rate_hz: float) -> None:
    script = Script().hold(0.5).move(1).hold(0.6).move(2, seconds=0.06, size=0.015).hold(0.6).move(3).hold(0.5)
    traces = script.traces(rate_hz)
    assert joint_speeds(traces, 0.05)[(traces.seconds > 2.1) & (traces.seconds < 2.6)].max() > 0.1
    assert len(seconds_of(traces)) == 2
    # At 15 Hz it is hardly seen.
    assert len(seconds_of(traces, KeyposeSettings(cooldown_s=0.01))) == (2 if rate_hz == 15.0 else 3)


def test_of_stops_that_are_close_the_later_stays() -> None:
    script = Script().hold(0.5).move(1).hold(0.3).move(2, seconds=0.5, size=0.2).hold(0.3)
    second = script.now_s
    traces = script.move(3, seconds=1.5).hold(0.5).traces()
    assert len(seconds_of(traces)) == 3
    found = seconds_of(traces, KeyposeSettings(merge_s=1.0))
    assert len(found) == 2
    assert found[0] == pytest.approx(second, abs=0.15)


def test_of_a_stop_close_to_a_change_of_the_gripper_the_change_stays() -> None:
    script = Script().hold(0.5).move(1).ask(0.0, floor=0.8).move(4, seconds=0.9, size=0.5).hold(0.4)
    traces = script.move(5, seconds=1.5).hold(0.5).traces()
    assert len(seconds_of(traces)) == 3
    found = seconds_of(traces, KeyposeSettings(merge_s=1.2))
    assert len(found) == 2
    # The fingers rest a quarter of a second after they were asked to.
    assert found[0] == pytest.approx(1.7 + 0.25, abs=0.05)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_where_it_begins_is_no_keypose_and_where_it_ends_is_one(rate_hz: float) -> None:
    resting = Script().hold(2.0).move(1).hold(1.0).traces(rate_hz)
    assert discover_keyposes(resting).tolist() == [len(resting.times_ns) - 1]
    moving = Script().hold(0.5).move(1, seconds=2.0)
    moving.joints, moving.asked = moving.joints[:-500], moving.asked[:-500]
    cut = moving.traces(rate_hz)
    assert discover_keyposes(cut).tolist() == [len(cut.times_ns) - 1]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_turning_back_without_a_stop_is_no_keypose(rate_hz: float) -> None:
    # All joints turn at once, so that for an instant all are slow.
    script = Script().hold(0.5)
    there = 0.6 * np.sin(np.linspace(0.0, np.pi, 1001))
    for way in there[1:]:
        script._step(np.full(7, way))
    found = seconds_of(script.traces(rate_hz), KeyposeSettings(stop_speed=0.03))
    assert found == [pytest.approx(2.5, abs=0.1)]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("target", [False, True])
def test_the_keypose_of_a_grasp_is_where_the_arm_is_when_the_fingers_rest(rate_hz: float, target: bool) -> None:
    # The arm still creeps forward while the gripper closes, and goes on without a stop.
    script = Script().hold(0.5).move(1)
    asked_at = script.now_s
    script.ask(0.0, floor=0.3).move(2, seconds=3.0, size=0.6).hold(0.5)
    found = seconds_of(script.traces(rate_hz, NOISE, target=target))
    # 0.15 s of latency, then 0.7 openings at 2 a second.
    assert found[0] == pytest.approx(asked_at + 0.15 + 0.35, abs=0.1)
    assert len(found) == 2


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_pause_before_the_gripper_closes_is_no_keypose_of_its_own(rate_hz: float) -> None:
    script = Script().hold(0.5).move(1).hold(2.0).ask(0.0, floor=0.4).hold(2.0)
    place = script.tool
    script.move(2).hold(0.4)
    assert_found(script.traces(rate_hz, NOISE), [(place, 0.0), (script.tool, 0.0)])


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("target", [False, True])
def test_closing_and_opening_on_the_spot_are_two_keyposes(rate_hz: float, target: bool) -> None:
    script = Script().hold(0.5).move(1).hold(0.5)
    place = script.tool
    script.ask(0.0).hold(1.2).ask(1.0).hold(1.2).move(2).hold(0.4)
    assert_found(script.traces(rate_hz, NOISE, target=target), [(place, 0.0), (place, 1.0), (script.tool, 1.0)])


def test_only_the_gripper_may_move() -> None:
    traces = Script().hold(0.5).ask(0.0).hold(1.5).traces()
    found = episode_keyposes(traces)
    assert [keypose.keypose.opening for keypose in found] == [0.0]
    assert found[-1].index == len(traces.times_ns) - 1


def test_a_gripper_that_finds_nothing_to_do_is_a_keypose_all_the_same() -> None:
    # Asked to close while it is closed by hand: nothing moves, the ask counts.
    script = Script().hold(0.5).move(1).hold(0.3)
    script.opening[-1] = 0.0
    script.ask(0.0).hold(0.6).move(2).hold(0.5)
    assert [k.keypose.opening for k in episode_keyposes(script.traces())] == [0.0, 0.0]


def test_a_trigger_pulled_slowly_is_one_change_of_the_gripper() -> None:
    script = Script().hold(0.5).move(1).hold(0.3)
    for opening in np.linspace(0.9, 0.0, 10):
        script.ask(float(opening)).hold(0.1)
    script.hold(0.6).move(2).hold(0.5)
    for rate_hz in RATES_HZ:
        assert [k.keypose.opening for k in episode_keyposes(script.traces(rate_hz, NOISE))] == [0.0, 0.0]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("velocities", [False, True])
def test_an_arm_that_is_led_slowly_has_its_stops_all_the_same(rate_hz: float, velocities: bool) -> None:
    script, places = Script().hold(1.0), []
    for seed in range(4):
        script.move(seed, seconds=5.0, size=0.2).hold(1.0)
        places.append((script.tool, 1.0))
    traces = script.traces(rate_hz, NOISE, velocities)
    assert joint_speeds(traces, 0.1).max() < 0.1
    # So slow a departure is seen a few millimetres late.
    assert_found(traces, places, within_m=0.005)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_fingers_that_spring_back_from_an_object_change_nothing(rate_hz: float) -> None:
    script, places = pick_and_place()
    closed = np.flatnonzero(np.array(script.opening) <= 0.5)
    # They reach 0.42 for a tenth of a second, and rest at 0.5.
    script.opening[closed[0] : closed[0] + 50] = [0.42] * 50
    for target in (False, True):
        assert_found(script.traces(rate_hz, NOISE, target=target), places)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_before_the_first_command_the_target_may_be_what_is_measured(rate_hz: float) -> None:
    script, places = pick_and_place()
    traces = script.traces(rate_hz, NOISE)
    uncommanded = traces.gripper_target == 1.0
    uncommanded[int(np.argmin(uncommanded)) :] = False
    noisy = 0.99 + np.random.default_rng(0).normal(0.0, 0.002, len(uncommanded))
    assert_found(replace(traces, gripper_target=np.where(uncommanded, noisy, traces.gripper_target)), places)


@pytest.mark.parametrize("velocities", [False, True])
def test_an_episode_in_which_nothing_happens_is_told(velocities: bool) -> None:
    for rate_hz in RATES_HZ:
        with pytest.raises(EpisodeError, match="neither arm nor gripper moves"):
            discover_keyposes(Script().hold(5.0).traces(rate_hz, NOISE, velocities))


def test_velocities_of_nothing_but_zeros_are_not_believed() -> None:
    script, places = pick_and_place()
    traces = script.traces(velocities=True)
    assert_found(replace(traces, velocities=np.zeros_like(traces.joints)), places)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_speeds_from_positions_and_from_velocities_agree(rate_hz: float) -> None:
    script, _ = pick_and_place()
    given, derived = (joint_speeds(script.traces(rate_hz, 0.0, velocities), 0.1) for velocities in (True, False))
    np.testing.assert_allclose(derived, given, atol=0.1)
    standing = given < 0.01
    assert derived[standing].max() < 0.1 < given.max()


@pytest.mark.parametrize("seed", range(8))
def test_random_scripts_are_understood_alike_at_every_rate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    script, places, opening = Script().hold(0.5), [], 1.0
    for number in range(int(rng.integers(3, 8))):
        script.move(100 * seed + number, float(rng.uniform(0.8, 1.6)), float(rng.uniform(0.25, 0.6)))
        script.hold(float(rng.uniform(0.3, 1.5)))
        if rng.random() < 0.4:
            opening = 1.0 - opening
            script.ask(opening, floor=float(rng.uniform(0.0, 0.7))).hold(float(rng.uniform(0.7, 1.5)))
        places.append((script.tool, opening))
    for rate_hz in RATES_HZ:
        assert_found(script.traces(rate_hz, NOISE), places)


def test_marks_are_the_keyposes_with_what_was_asked_of_the_gripper_then() -> None:
    script, _ = pick_and_place()
    traces = script.traces()
    pose = (0.1, 0.2, 0.3), (0.0, 1.0, 0.0, 0.0)
    marks = [Mark(0, START_NS + 1_000_000_000, *pose), Mark(4, START_NS + 5_010_000_000, *pose)]
    found = episode_keyposes(traces, marks)
    assert [keypose.marked for keypose in found] == [True, True]
    np.testing.assert_allclose(traces.seconds[[k.index for k in found]], [1.0, 5.0], atol=0.011)
    assert [keypose.keypose.opening for keypose in found] == [1.0, 0.0]
    np.testing.assert_array_equal(found[0].keypose.position, pose[0])


@pytest.mark.parametrize("stamp_s", [-1.0, 1000.0])
def test_a_mark_outside_of_the_episode_is_refused(stamp_s: float) -> None:
    mark = Mark(3, START_NS + int(stamp_s * 1e9), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    with pytest.raises(EpisodeError, match="mark 3 lies outside"):
        episode_keyposes(Script().hold(0.5).move(1).traces(), [mark])


def test_a_mark_that_is_no_pose_is_refused() -> None:
    mark = Mark(0, START_NS, (0.0, 0.0, float("nan")), (1.0, 0.0, 0.0, 0.0))
    with pytest.raises(EpisodeError, match="must be finite"):
        episode_keyposes(Script().hold(0.5).move(1).traces(), [mark])


@pytest.mark.parametrize("name", ["stop_speed", "stand_s", "cooldown_s", "merge_s", "smoothing_s"])
def test_settings_must_be_above_zero(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        KeyposeSettings(**{name: 0.0})
    with pytest.raises(ConfigurationError, match="does not stand"):
        KeyposeSettings(stop_speed=2.0)


def test_a_keypose_says_which_sample_it_is() -> None:
    traces = Script().hold(0.5).move(1).hold(0.5).traces()
    (found,) = episode_keyposes(traces)
    assert isinstance(found, EpisodeKeypose)
    np.testing.assert_array_equal(found.keypose.position, traces.tool[found.index, :3])
