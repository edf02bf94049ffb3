"""Laws of the contact sheet."""

from __future__ import annotations

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.evaluation.contact_sheet import (
    CHOSEN_COLOR,
    CROSS_COLOR,
    OPEN_COLOR,
    RING_RADIUS,
    TICK_COLOR,
    TILE_WIDTH,
    TITLE_HEIGHT,
    Shot,
    Strip,
    draw_contact_sheet,
)
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.geometry.transform import apply, invert, look_at

CAMERA = PinholeCamera.from_fov(424, 240, 42.0)
POSE = look_at((1.1, 0.0, 0.56), (0.44, 0.0, 0.08))
GREY = np.full((240, 424, 3), 128, np.uint8)


def keypose(x: float, y: float, z: float) -> Keypose:
    return Keypose(np.array([x, y, z]), np.array(POINTING_DOWN_WXYZ), 1.0)


def shot(candidates: list[Keypose], chosen: Keypose) -> Shot:
    positions = np.array([c.position for c in candidates]).reshape(-1, 3)
    return Shot(GREY, positions, np.array([c.is_open for c in candidates], bool), chosen)


def pixels_of(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    rows, columns = np.nonzero((image == color).all(axis=-1))
    return np.stack([columns, rows], axis=-1)


def sheet_of(*strips: Strip) -> np.ndarray:
    return np.asarray(draw_contact_sheet(strips, CAMERA, POSE))


def test_candidates_and_choice_are_drawn_where_the_camera_sees_them() -> None:
    candidate, chosen = keypose(0.45, 0.15, 0.05), keypose(0.5, -0.1, 0.05)
    image = sheet_of(Strip("push the red button", True, [shot([candidate], chosen)], GREY))
    tile = image[6 + TITLE_HEIGHT :, 6 : 6 + TILE_WIDTH]
    view = CAMERA.scaled(TILE_WIDTH, round(TILE_WIDTH * CAMERA.height / CAMERA.width))
    dot = view.project(apply(invert(POSE), candidate.position))
    np.testing.assert_allclose(pixels_of(tile, OPEN_COLOR).mean(axis=0), dot, atol=1.5)
    ring = view.project(apply(invert(POSE), chosen.position))
    below = pixels_of(tile, CHOSEN_COLOR)[:, 1].max()
    # The approach comes from above, so the lowest pixel belongs to the ring alone.
    assert abs(below - (ring[1] + RING_RADIUS)) < 2.0


def test_success_has_a_tick_and_failure_a_cross() -> None:
    good, bad = sheet_of(Strip("a", True, [], GREY)), sheet_of(Strip("b", False, [], GREY))
    assert len(pixels_of(good, TICK_COLOR)) > 100
    assert len(pixels_of(bad, CROSS_COLOR)) > 100
    assert len(pixels_of(good, CROSS_COLOR)) == len(pixels_of(bad, TICK_COLOR)) == 0


def test_the_sheet_has_a_row_per_run_and_a_column_per_decision() -> None:
    decision = shot([], keypose(0.5, 0.0, 0.1))
    one = sheet_of(Strip("a", True, [decision], GREY))
    two = sheet_of(Strip("a", True, [decision], GREY), Strip("b", True, [decision] * 3, GREY))
    tall, wide = two.shape[0] - one.shape[0], two.shape[1] - one.shape[1]
    assert tall == one.shape[0] - 6
    assert wide == 2 * (TILE_WIDTH + 6)


def test_a_keypose_behind_the_camera_draws_nothing_and_breaks_nothing() -> None:
    image = sheet_of(Strip("a", True, [shot([keypose(3.0, 0.0, 0.6)], keypose(3.0, 0.0, 0.6))], GREY))
    assert len(pixels_of(image, CHOSEN_COLOR)) == len(pixels_of(image, OPEN_COLOR)) == 0


def test_a_run_that_ended_before_its_first_decision_still_has_a_row() -> None:
    assert sheet_of(Strip("never began", False)).shape[0] > TITLE_HEIGHT
