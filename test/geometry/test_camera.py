"""The pinhole camera: points and pixels belong together, at every size of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.geometry.camera import PinholeCamera

CAMERA = PinholeCamera(8, 6, 7.5, 7.0, 3.25, 2.75)


def some_depth() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.3, 2.0, (CAMERA.height, CAMERA.width)).astype(np.float32)


def test_every_pixel_comes_back_to_itself() -> None:
    columns, rows = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    pixels = CAMERA.project(CAMERA.deproject(some_depth()))
    np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=-1), atol=1e-5)


def test_depth_is_along_the_axis_and_not_along_the_ray() -> None:
    np.testing.assert_array_equal(CAMERA.deproject(some_depth())[..., 2], some_depth())


def test_x_points_right_and_y_down() -> None:
    points = CAMERA.deproject(np.ones((CAMERA.height, CAMERA.width), np.float32))
    assert (np.diff(points[..., 0], axis=1) > 0).all()
    assert (np.diff(points[..., 1], axis=0) > 0).all()


def test_points_behind_the_camera_have_no_pixel() -> None:
    pixels = CAMERA.project(np.array([[0.1, 0.1, -1.0], [0.1, 0.1, 0.0], [0.1, 0.1, 1.0]]))
    np.testing.assert_array_equal(np.isnan(pixels).all(axis=1), [True, True, False])


def test_the_field_of_view_ends_at_the_edges_of_the_outer_pixels() -> None:
    camera = PinholeCamera.from_fov(64, 48, 42.0)
    half = np.tan(np.deg2rad(21.0))
    np.testing.assert_allclose(camera.project(np.array([0.0, half, 1.0])), [31.5, 47.5], atol=1e-9)
    np.testing.assert_allclose(camera.project(np.array([0.0, -half, 1.0])), [31.5, -0.5], atol=1e-9)


@pytest.mark.parametrize(("width", "height"), [(16, 12), (4, 3), (24, 6)])
def test_another_size_of_the_picture_shows_the_same_view(width: int, height: int) -> None:
    scaled = CAMERA.scaled(width, height)
    points = np.random.default_rng(4).uniform([-0.4, -0.4, 1.0], [0.4, 0.4, 2.0], (50, 3))
    # As a share of the picture, from the corner of the first pixel.
    shares = [(camera.project(points) + 0.5) / [camera.width, camera.height] for camera in (CAMERA, scaled)]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-12)


def test_scaling_back_gives_the_same_camera() -> None:
    back = CAMERA.scaled(16, 12).scaled(8, 6)
    np.testing.assert_allclose([back.fx, back.fy, back.cx, back.cy], [7.5, 7.0, 3.25, 2.75], atol=1e-12)


def test_depth_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"depth is 8x5, the camera 8x6"):
        CAMERA.deproject(np.ones((5, 8), np.float32))


@pytest.mark.parametrize("wrong", [(0, 6, 7.0, 7.0), (8, 6, 0.0, 7.0), (8, 6, 7.0, -1.0), (8, 6, float("nan"), 7.0)])
def test_a_camera_without_size_or_focal_length_is_refused(wrong: tuple[int, int, float, float]) -> None:
    with pytest.raises(ValueError, match="positive size and focal length"):
        PinholeCamera(*wrong, 3.5, 2.5)
