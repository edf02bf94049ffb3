"""What is wrong with a camera or a clock is told on `~/status` and `/diagnostics`, and never acted on."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import filters_stand_in
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile
from spinning import eventually, parameters, ros_context, spinning
from synthetic_robot import CALIBRATION, CAMERA, RATE_HZ, Rig, running

from minidiffuser_ros.bridge import camera_streams
from minidiffuser_ros.bridge.conversions import stamp_to_ns
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA
from minidiffuser_ros.nodes.observer import ObserverNode

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000
FRONT_COLOR, WRIST_DEPTH = "/front/color/image_raw", "/wrist/aligned_depth_to_color/image_raw"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running(streams__frozen_after=6) as rig:
        assert rig.capture().success
        yield rig


def test_a_healthy_observer_says_so_with_its_rates(rig: Rig) -> None:
    time.sleep(1.0)
    before = len(rig.diagnoses)

    def own() -> list[DiagnosticStatus]:  # that of its calibration comes by itself
        return [status for status in rig.diagnoses[before:] if status.name == "observer"]

    eventually(own)
    health = own()[-1]
    assert (health.level, health.message) == (DiagnosticStatus.OK, "ready")
    values = {value.key: value.value for value in health.values}
    assert float(values[FRONT_COLOR].removesuffix(" Hz")) == pytest.approx(RATE_HZ, rel=0.7)
    assert int(values["points"]) > 50


def test_a_topic_that_falls_silent(rig: Rig) -> None:
    rig.robot.silent = {"wrist/depth"}
    rig.refuses_because(WRIST_DEPTH, "silent")


def test_a_camera_that_repeats_its_last_message(rig: Rig) -> None:
    rig.robot.stuck["front/color"] = rig.now_ns()
    rig.refuses_because(FRONT_COLOR, "frozen", "the same stamp")


def test_a_camera_that_stamps_one_picture_anew_again_and_again(rig: Rig) -> None:
    rig.robot.still = True
    rig.refuses_because(FRONT_COLOR, "frozen", "alike")
    rig.robot.still = False
    eventually(lambda: rig.capture(rig.now_ns()).success)


def test_pictures_of_another_time(rig: Rig) -> None:
    rig.robot.stamp_offset_ns = -10 * SECOND
    rig.refuses_because(FRONT_COLOR, "stale")


def test_stamps_that_run_ahead_of_the_clock(rig: Rig) -> None:
    rig.robot.stamp_offset_ns = 5 * SECOND
    rig.refuses_because(FRONT_COLOR, "ahead of this machine's clock", "synchronise")


def test_cameras_that_look_at_different_times() -> None:
    with running(streams__set_tolerance_s=0.02) as rig:
        rig.robot.behind_ns["wrist"] = SECOND // 16
        # What came before may still agree.
        eventually(lambda: any("behind" in " ".join(s.reasons) for s in rig.statuses))
        rig.refuses_because("ms behind /front", "20 ms between cameras")


def test_an_encoding_that_nobody_reads(rig: Rig) -> None:
    rig.robot.color_encoding = "yuv422"
    rig.refuses_because(FRONT_COLOR, "'yuv422'", "rgb8")


def test_a_picture_that_is_cut_off(rig: Rig) -> None:
    rig.robot.cut_bytes = 100
    rig.refuses_because(FRONT_COLOR, "bytes in all")


def test_intrinsics_of_another_view(rig: Rig) -> None:
    rig.robot.info_camera = CAMERA.scaled(80, 60)
    rig.refuses_because("/front/color/camera_info", "106x60", "80x60")


def test_intrinsics_of_a_camera_that_was_never_calibrated(rig: Rig) -> None:
    rig.robot.info_camera = replace(CAMERA)
    object.__setattr__(rig.robot.info_camera, "fx", 0.0)
    rig.refuses_because("/front/color/camera_info", "calibrate the camera")


def test_depth_that_cannot_show_the_view_of_the_colour(rig: Rig) -> None:
    rig.robot.depth_rows = 30
    rig.refuses_because("/front/aligned_depth_to_color/image_raw", "106x30", "aligned")


def test_intrinsics_that_never_come() -> None:
    with ros_context() as context:
        rig = Rig(context)
        rig.robot.silent = {"wrist/info"}
        with spinning(context, rig.robot, rig.observer, rig.client):
            rig.refuses_because("nothing has arrived on /wrist/color/camera_info yet")


@pytest.mark.parametrize("qos", [RELIABLE, LATCHED], ids=["reliable", "transient local"])
def test_pictures_of_any_reliability_and_durability_are_received(qos: QoSProfile) -> None:
    with running(qos) as rig:
        assert rig.capture().success


def test_a_publisher_whose_quality_of_service_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_streams, "SENSOR_DATA", RELIABLE)
    with running(SENSOR_DATA) as rig:
        rig.refuses_because(FRONT_COLOR, "quality of service", "reliability")


@pytest.mark.parametrize("jump_s", [-600, 3600])
def test_after_a_jump_of_the_graphs_time_only_what_was_seen_then_is_served(jump_s: int) -> None:
    with running(sim_time=True) as rig:
        assert rig.capture().success
        before_ns = rig.clock_ns
        rig.jump(jump_s * SECOND)

        def seen() -> int:
            # Asked at any age: nothing from the other time may come.
            answer = rig.capture()
            return stamp_to_ns(answer.points.header.stamp) if answer.success else 0

        stamp_ns = eventually(seen)
        assert abs(stamp_ns - before_ns - jump_s * SECOND) < 60 * SECOND


def test_pictures_from_before_a_jump_are_not_served_after_it() -> None:
    with running(sim_time=True) as rig:
        assert rig.capture().success
        rig.robot.silent = {"front/color", "front/depth"}
        rig.jump(-600 * SECOND)
        eventually(lambda: any("jumped back" in " ".join(s.reasons) for s in rig.statuses))
        rig.refuses_because(FRONT_COLOR, "since the clock jumped")


def test_a_synchronizer_that_does_not_exist_ends_the_node_with_a_sentence() -> None:
    with ros_context() as context, pytest.raises(Exception, match="stamps, message_filters"):
        ObserverNode(context=context, parameter_overrides=parameters(synchronizer="luck"))


def test_pairs_may_come_from_message_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("message_filters") is None:
        monkeypatch.setitem(sys.modules, "message_filters", filters_stand_in)
    with running(synchronizer="message_filters") as rig:
        asked_ns = rig.now_ns()
        answer = rig.capture(asked_ns)
        assert answer.success, answer.message
        assert stamp_to_ns(answer.points.header.stamp) >= asked_ns
        rig.robot.silent = {"wrist/depth"}
        rig.refuses_because(WRIST_DEPTH, "silent")


def test_without_the_package_message_filters_the_node_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "message_filters", None)
    with ros_context() as context:
        overrides = parameters(calibration=str(CALIBRATION), synchronizer="message_filters")
        observer = ObserverNode(context=context, parameter_overrides=overrides)
        with spinning(context, observer):
            eventually(observer.ended.is_set)
            assert observer.exit_code == 2
            assert "message_filters is not installed" in observer.stop_reason
            assert "'stamps'" in observer.stop_reason
