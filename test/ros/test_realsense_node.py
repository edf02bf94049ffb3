"""The RealSense node: what was recorded comes out of its topics, bit by bit; what goes wrong is told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from spinning import eventually, parameters, spinning

from minidiffuser_ros.bridge.conversions import camera_from_info, color_from_image, stamp_to_ns
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.realsense import RealsenseSettings

pytest.importorskip("pyrealsense2")

import pyrealsense2 as rs
from made_camera import COLOR_LATER_MS, PERIOD_MS, START_MS, LiveCamera, MadeCamera, noise, record

from minidiffuser_ros.nodes.realsense import RealsenseNode
from minidiffuser_ros.perception.realsense_device import RealsenseCamera

pytestmark = pytest.mark.ros

FRAME = "front_color_optical_frame"
COUNT = 6
SMALL = {
    f"{kind}__{name}": n for kind in ("color", "depth") for name, n in {"width": 64, "height": 48, "rate": 25}.items()
}
# As sensor data, but with room for a listener that is late.
PATIENT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


class Listener:
    """Keeps everything the camera `front` sends."""

    def __init__(self, context: Context) -> None:
        self.node = Node("listener", context=context)
        self.colors: list[Image] = []
        self.depths: list[Image] = []
        self.color_infos: list[CameraInfo] = []
        self.depth_infos: list[CameraInfo] = []
        self.statuses: list[DiagnosticStatus] = []
        self.diagnostics: list[DiagnosticStatus] = []
        self.pictures = []
        for kind, topic, messages in (
            (Image, "front/color/image_raw", self.colors),
            (Image, "front/aligned_depth_to_color/image_raw", self.depths),
            (CameraInfo, "front/color/camera_info", self.color_infos),
            (CameraInfo, "front/aligned_depth_to_color/camera_info", self.depth_infos),
        ):
            self.pictures.append(self.node.create_subscription(kind, topic, messages.append, PATIENT))
        self.node.create_subscription(DiagnosticStatus, "front/status", self.statuses.append, LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += message.status

    def is_told(self, level: bytes, words: str) -> DiagnosticStatus:
        """Wait until both the latched status and /diagnostics say so."""

        def find(messages: list[DiagnosticStatus]) -> DiagnosticStatus | None:
            return next((m for m in messages if m.level == level and words in m.message), None)

        eventually(lambda: find(self.statuses), 20.0)
        found = eventually(lambda: find(self.diagnostics), 20.0)
        assert found is not None
        return found


def front(
    context: Context, make: Callable[[RealsenseSettings], RealsenseCamera] | None = None, **values: object
) -> RealsenseNode:
    factory = {} if make is None else {"open_camera": make}
    return RealsenseNode(
        **factory,
        context=context,
        cli_args=["--ros-args", "-r", "__node:=front"],
        parameter_overrides=parameters(**values),
    )


def play(context: Context, path: Path, **values: object) -> Listener:
    """Everything that a recording sends, to a listener that was there before the first picture."""
    listener = Listener(context)
    node = front(context, recording=str(path), repeat=False, autostart=False, **values)
    with spinning(context, node, listener.node):
        pictures = (node._color, node._depth, node._color_info, node._depth_info)
        eventually(lambda: all(p.get_subscription_count() for p in pictures))
        eventually(lambda: all(s.get_publisher_count() for s in listener.pictures))
        node.trigger_configure()
        node.trigger_activate()
        listener.is_told(DiagnosticStatus.OK, "played to its end")
        eventually(lambda: len(listener.colors) >= COUNT and len(listener.depths) >= COUNT)
    return listener


def test_a_recording_comes_out_of_the_topics_bit_by_bit_with_its_own_stamps(context: Context, tmp_path: Path) -> None:
    made = MadeCamera(
        color_lens=PinholeCamera(64, 48, 61.5, 60.5, 30.5, 24.5),
        depth_lens=PinholeCamera(64, 48, 61.5, 60.5, 30.5, 24.5),
    )
    sent = noise(made, COUNT)
    record(tmp_path / "a.db3", made, sent)
    listener = play(context, tmp_path / "a.db3", stamps="original")
    assert len(listener.colors) == len(listener.depths) == COUNT
    for number, (depth, color) in enumerate(sent):
        stamp_ns = (START_MS + number * PERIOD_MS) * 1e6
        picture = listener.depths[number]
        assert (picture.encoding, picture.header.frame_id) == ("16UC1", FRAME)
        assert stamp_to_ns(picture.header.stamp) == pytest.approx(stamp_ns, abs=250)
        found = np.frombuffer(picture.data, "<u2").reshape(picture.height, picture.width)
        np.testing.assert_array_equal(found, depth)
        picture = listener.colors[number]
        assert (picture.encoding, picture.header.frame_id) == ("rgb8", FRAME)
        assert stamp_to_ns(picture.header.stamp) == pytest.approx(stamp_ns + COLOR_LATER_MS * 1e6, abs=250)
        np.testing.assert_array_equal(color_from_image(picture), color)
        for infos, pictures in ((listener.color_infos, listener.colors), (listener.depth_infos, listener.depths)):
            assert infos[number].header == pictures[number].header
            assert camera_from_info(infos[number]) == made.color_lens
            assert (infos[number].distortion_model, list(infos[number].d)) == ("plumb_bob", [0.0] * 5)


def test_a_recording_is_played_as_if_it_happened_now(context: Context, tmp_path: Path) -> None:
    made = MadeCamera()
    record(tmp_path / "a.db3", made, noise(made, COUNT))
    before_ns = time.time_ns()
    listener = play(context, tmp_path / "a.db3")
    stamps = [stamp_to_ns(m.header.stamp) for m in listener.depths]
    assert before_ns - 1e8 < stamps[0]
    assert stamps[-1] < time.time_ns()
    assert all(np.diff(stamps) > 0)


def test_depth_of_another_sensor_is_sent_in_the_colour_pictures_pixels(context: Context, tmp_path: Path) -> None:
    made = MadeCamera(color_lens=PinholeCamera(80, 60, 75.0, 75.0, 39.5, 29.5), T_color_depth=(0.015, 0.0, 0.0))
    depth = np.full((48, 64), 800, np.uint16)
    record(tmp_path / "a.db3", made, [(depth, np.zeros((60, 80, 3), np.uint8))] * COUNT)
    listener = play(context, tmp_path / "a.db3")
    picture = listener.depths[0]
    assert (picture.width, picture.height) == (80, 60)
    assert camera_from_info(listener.depth_infos[0]) == made.color_lens
    found = np.frombuffer(picture.data, "<u2").reshape(60, 80)
    # The left edge of depth, moved by 15 mm at 0.8 m: 75 (-0.525 + 0.01875) + 39.5 = 1.5 pixels.
    assert (found[10, :1] == 0).all()
    assert (found[10, 3:] == 800).all()


def test_a_camera_that_is_missing_is_told_and_used_when_it_comes(context: Context) -> None:
    listener = Listener(context)
    with LiveCamera() as live:
        live.plugged = False
        node = front(
            context,
            lambda s: RealsenseCamera(s, live.connected),
            retry_s=0.1,
            retry_max_s=0.5,
            serial="123456",
            **SMALL,
        )
        with spinning(context, node, listener.node):
            told = listener.is_told(DiagnosticStatus.ERROR, "123456 is connected")
            assert (told.name, told.hardware_id) == ("front", "123456")
            live.plugged = True
            told = listener.is_told(DiagnosticStatus.OK, "sends pictures")
            assert "rate [Hz]" in {entry.key for entry in told.values}
            eventually(lambda: listener.colors and listener.depths)
            assert abs(stamp_to_ns(listener.depths[-1].header.stamp) - time.time_ns()) < 5e9
            live.plugged, live.silent = False, {"depth", "colour"}
            eventually(lambda: listener.statuses[-1].level == DiagnosticStatus.ERROR, 20.0)
            assert node.is_active
            assert not node.ended.is_set()


def test_exposure_is_changed_while_the_camera_runs_and_a_size_is_not(context: Context) -> None:
    made = MadeCamera(options=(rs.option.exposure, rs.option.enable_auto_exposure))
    listener = Listener(context)
    with LiveCamera(made) as live:
        node = front(context, lambda s: RealsenseCamera(s, live.connected), **SMALL)
        with spinning(context, node, listener.node):
            listener.is_told(DiagnosticStatus.OK, "sends pictures")
            (changed,) = node.set_parameters(parameters(options__depth_exposure=250.0))
            assert changed.successful
            eventually(lambda: live.option("depth", rs.option.exposure) == 250.0)
            assert live.option("depth", rs.option.enable_auto_exposure) == 0.0
            node.set_parameters(parameters(options__emitter="off"))
            listener.is_told(DiagnosticStatus.WARN, "no emitter")
            assert not node.set_parameters(parameters(color__width=128))[0].successful


def test_a_recording_that_is_not_there_ends_the_node_with_a_sentence(context: Context, tmp_path: Path) -> None:
    node = front(context, recording=str(tmp_path / "none.db3"))
    with spinning(context, node):
        eventually(node.ended.is_set)
        assert node.exit_code == 2
        assert "none.db3" in node.stop_reason


def test_a_deactivated_node_is_silent_and_can_be_activated_again(context: Context, tmp_path: Path) -> None:
    made = MadeCamera()
    record(tmp_path / "a.db3", made, noise(made, COUNT))
    listener = Listener(context)
    node = front(context, recording=str(tmp_path / "a.db3"), autostart=False)
    with spinning(context, node, listener.node):
        node.trigger_configure()
        node.trigger_activate()
        eventually(lambda: listener.colors)
        node.trigger_deactivate()
        assert node._capture is None
        time.sleep(0.2)
        count = len(listener.color_infos)
        time.sleep(0.4)
        assert len(listener.color_infos) == count
        node.trigger_activate()
        eventually(lambda: len(listener.color_infos) > count)


def test_without_pyrealsense2_the_node_ends_with_a_sentence(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minidiffuser_ros.perception.realsense_device", None)
    node = front(context)
    with spinning(context, node):
        eventually(node.ended.is_set)
        assert node.exit_code == 2
        assert "pip install pyrealsense2" in node.stop_reason
