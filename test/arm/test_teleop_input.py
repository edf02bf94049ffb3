"""From keys and axes to motions and requests, without a terminal, a joystick or ROS."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.teleop_input import (
    GUIDING_HELP,
    GUIDING_KEYS,
    HELP,
    INTENT_KEYS,
    MOTION_KEYS,
    HeldKeys,
    Intent,
    JoystickMapping,
    KeyDecoder,
    Reading,
    TeleopSettings,
    twist_of,
    with_dead_zone,
)
from minidiffuser_ros.contract.errors import ConfigurationError


def test_no_key_both_moves_and_asks() -> None:
    assert not set(MOTION_KEYS) & set(GUIDING_KEYS)
    assert set(INTENT_KEYS.values()) == set(Intent) - {Intent.GUIDE}


@pytest.mark.parametrize(("text", "keys"), [(HELP, INTENT_KEYS), (GUIDING_HELP, GUIDING_KEYS)])
def test_the_help_names_the_keys(text: str, keys: dict[str, Intent]) -> None:
    words = text.replace(":", " ").replace(",", " ").split()
    named = {"space": " ", "Esc": "esc"}
    for key, intent in keys.items():
        if intent in (Intent.LET_GO, Intent.FASTER, Intent.SLOWER, Intent.AXES) and keys is GUIDING_KEYS:
            continue
        if key in "=\n\r":
            continue
        shown = next((word for word, meant in named.items() if meant == key), key)
        assert shown in words, key


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2), (3,), (1, 2, 3), (4,)])
def test_keys_are_recognised_however_the_bytes_are_cut(cuts: tuple[int, ...]) -> None:
    data = b"\x1b[5~e\x1b[A"
    pieces = [data[a:b] for a, b in zip((0, *cuts), (*cuts, len(data)), strict=True)]
    decoder = KeyDecoder()
    assert [key for piece in pieces for key in decoder.feed(piece, 0.0)] == ["page up", "e", "up"]


def test_a_lone_escape_is_a_key_after_a_moment() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b", 0.0) == []
    assert decoder.feed(b"", 0.02) == []
    assert decoder.feed(b"", 0.06) == ["esc"]


@pytest.mark.parametrize("junk", [b"\x1b[1;5C", b"\x1b[<0;12;7M", b"\xff\xfe\xc3", b"\x1b[200~", b"\x1b[" + b"9" * 20])
def test_what_no_key_sends_moves_nothing_and_hides_no_later_key(junk: bytes) -> None:
    decoder, keys = KeyDecoder(), HeldKeys(0.4, INTENT_KEYS)
    assert not keys.feed(decoder.feed(junk, 0.0), 0.0).held
    assert keys.feed(decoder.feed(b"\x1b[A", 1.0), 1.0).twist[0] == 1.0


def test_a_key_counts_as_held_until_its_time_after_the_last_repeat() -> None:
    keys = HeldKeys(0.35, INTENT_KEYS)
    assert keys.feed(["up"], 0.0).held
    assert keys.feed([], 0.34).held
    assert keys.feed(["up"], 0.34).held
    assert keys.feed([], 0.68).held
    late = keys.feed([], 0.70)
    assert not late.held
    assert not late.twist.any()


def test_keys_of_several_axes_add_up_and_the_later_direction_of_one_wins() -> None:
    keys = HeldKeys(0.35, INTENT_KEYS)
    assert keys.feed(["up", "left", "e", "a"], 0.0).twist.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    assert keys.feed(["down"], 0.1).twist.tolist() == [-1.0, 1.0, 1.0, 0.0, 0.0, 1.0]


def test_letting_go_releases_every_key_at_once() -> None:
    keys = HeldKeys(0.35, INTENT_KEYS)
    keys.feed(["up", "e"], 0.0)
    reading = keys.feed(["esc"], 0.05)
    assert not reading.held
    assert reading.intents == (Intent.LET_GO,)


def test_requests_are_told_once_in_the_order_of_their_keys() -> None:
    keys = HeldKeys(0.35, INTENT_KEYS)
    assert keys.feed(["r", " ", "k", "q", "1"], 0.0).intents == (
        Intent.START,
        Intent.GRIPPER,
        Intent.MARK,
        Intent.SUCCESS,
    )
    assert keys.feed([], 0.1).intents == ()


def test_while_guiding_no_key_moves_the_arm() -> None:
    keys = HeldKeys(0.35, GUIDING_KEYS, moves=False)
    assert not any(keys.feed([key], 0.0).held for key in MOTION_KEYS)
    assert keys.feed(["\n"], 0.1).intents == (Intent.GUIDE,)


def test_diagonals_are_no_faster_than_the_axes() -> None:
    twist = twist_of(Reading(np.array([1.0, 1.0, 1.0, 0.0, 0.5, 0.0]), True), 0.1, 0.4)
    assert np.linalg.norm(twist[:3]) == pytest.approx(0.1)
    np.testing.assert_allclose(twist[3:], [0.0, 0.2, 0.0])


def test_the_dead_zone_is_still_and_the_rest_grows_from_it_to_the_end() -> None:
    assert with_dead_zone(0.1, 0.12) == with_dead_zone(-0.12, 0.12) == 0.0
    assert with_dead_zone(1.0, 0.12) == 1.0
    assert with_dead_zone(-1.2, 0.12) == -1.0
    assert 0.0 < with_dead_zone(0.13, 0.12) < 0.02


@pytest.mark.parametrize("wrong", [{"axes": (0, 1)}, {"signs": (1.0,) * 7}, {"deadman": -1}])
def test_a_mapping_without_six_axes_or_a_deadman_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"six|deadman"):
        JoystickMapping(**wrong)  # type: ignore[arg-type]


def test_a_speed_of_zero_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="linear"):
        TeleopSettings(linear=0.0)
