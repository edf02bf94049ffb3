"""`realsense`: a RealSense camera, or a recording of one, on the topics of realsense-ros.

The node's name is the camera's: it is the first part of its topics and of its frame.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image

from minidiffuser_ros.bridge.conversions import image_from_color, image_from_millimetres, info_from_camera
from minidiffuser_ros.bridge.diagnostics import Diagnostics, Level
from minidiffuser_ros.bridge.lifecycle import EXIT_CRASH, ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import LATCHED, SENSOR_DATA, publisher_events
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.perception.realsense import Lens, Pictures, RealsenseSettings, RgbdCamera, check_recording
from minidiffuser_ros.perception.realsense_session import CameraReport, CameraSession, Health

STATUS_PERIOD_S = 1.0
# librealsense may need a few seconds to let a camera go that was unplugged.
CLOSE_TIMEOUT_S = 7.0
LEVELS = {
    Health.OPENING: Level.WARN,
    Health.STREAMING: Level.OK,
    Health.DEGRADED: Level.WARN,
    Health.LOST: Level.ERROR,
    Health.ENDED: Level.OK,
}


def realsense_camera(settings: RealsenseSettings) -> RgbdCamera:
    """A camera behind librealsense. Raises ConfigurationError where that is not installed."""
    try:
        from minidiffuser_ros.perception.realsense_device import RealsenseCamera
    except ImportError as error:
        raise ConfigurationError(
            f"RealSense cameras are read through pyrealsense2, which does not load ({error}): pip install pyrealsense2"
        ) from error
    return RealsenseCamera(settings)


class RealsenseNode(ManagedNode):
    """Publishes colour, aligned depth and their intrinsics, `~/status` (latched) and `/diagnostics`."""

    def __init__(
        self, open_camera: Callable[[RealsenseSettings], RgbdCamera] = realsense_camera, **kwargs: Any
    ) -> None:
        super().__init__("camera", **kwargs)
        self._declared = NodeParameters(self, RealsenseSettings())
        self.settings = self._declared.value
        self._open_camera = open_camera
        self._frame = f"{self.get_name()}_color_optical_frame"
        self._session: CameraSession | None = None
        self._capture: threading.Thread | None = None
        self._stop = threading.Event()
        self._told: tuple[Health, str] | None = None
        self._color = self._advertise(Image, "~/color/image_raw")
        self._depth = self._advertise(Image, "~/aligned_depth_to_color/image_raw")
        self._color_info = self._advertise(CameraInfo, "~/color/camera_info")
        self._depth_info = self._advertise(CameraInfo, "~/aligned_depth_to_color/camera_info")
        self._status = self.create_publisher(DiagnosticStatus, "~/status", LATCHED)
        self._diagnostics = Diagnostics(self, self.settings.serial or self.settings.recording)
        # A steady clock: a camera must be watched while simulated time stands still.
        clock, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        self.create_timer(STATUS_PERIOD_S, self._publish_status, callback_group=group, clock=clock)

    def configure(self) -> None:
        """Check what is to be played; a camera may be plugged in later."""
        check_recording(self.settings)

    def activate(self) -> None:
        """Open the camera and read it in a thread of its own."""
        self._stop = threading.Event()
        self.settings = self._declared.value
        session = CameraSession(self._open_camera(self.settings), self.settings, self._publish, self._now_ns)
        self._session = session
        self._capture = threading.Thread(target=self._run, args=(session, self._stop), name="capture", daemon=True)
        self._capture.start()

    def deactivate(self) -> None:
        """Close the camera."""
        self._stop.set()
        if self._capture is not None:
            self._capture.join(CLOSE_TIMEOUT_S)
        self._capture = self._session = None

    def _run(self, session: CameraSession, stop: threading.Event) -> None:
        try:
            session.run(stop)
        except Exception as error:  # a defect: end rather than stay silent
            self.get_logger().fatal(f"the camera's thread failed:\n{traceback.format_exc()}")
            self.end(f"the camera's thread failed: {error}", EXIT_CRASH)

    def _publish(self, pictures: Pictures, color_ns: int, depth_ns: int) -> None:
        """Of the capture thread. A picture that nobody listens to is not sent; intrinsics always are."""
        if pictures.color is not None:
            self._color_info.publish(self._info(pictures.lens, color_ns))
            if self._color.get_subscription_count():
                self._color.publish(image_from_color(pictures.color, self._frame, color_ns))
        if pictures.depth is not None:
            self._depth_info.publish(self._info(pictures.lens, depth_ns))
            if self._depth.get_subscription_count():
                self._depth.publish(image_from_millimetres(pictures.depth, self._frame, depth_ns))

    def _info(self, lens: Lens, stamp_ns: int) -> CameraInfo:
        return info_from_camera(lens.camera, self._frame, stamp_ns, lens.distortion, lens.model)

    def _publish_status(self) -> None:
        """Repeat `/diagnostics`; log and latch what is new; pass on options that were changed."""
        session = self._session
        if session is not None:
            session.set_options(self._declared.value.options)
        report = session.report() if session else CameraReport(Health.OPENING, "the camera is not active")
        level = LEVELS[report.health]
        self._diagnostics.tell(level, report.sentence, report.values)
        if (report.health, report.sentence) == self._told:
            return
        self._told = (report.health, report.sentence)
        logger = self.get_logger()
        # Not one call for all: rclpy ties a severity to the line that calls.
        if level == Level.ERROR:
            logger.error(report.sentence)
        elif level == Level.WARN:
            logger.warning(report.sentence)
        else:
            logger.info(report.sentence)
        self._status.publish(DiagnosticStatus(level=level.value, name=self.get_name(), message=report.sentence))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _advertise(self, kind: type, topic: str) -> Publisher:
        events = publisher_events(self, self.resolve_topic_name(topic))
        return self.create_publisher(kind, topic, SENSOR_DATA, event_callbacks=events)


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(RealsenseNode)
