"""A look at the running graph that changes nothing: parameters of a node, publishers of topics and what they send."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSCompatibility, qos_check_compatible
from sensor_msgs.msg import CameraInfo, Image, JointState

from minidiffuser_ros.bridge.calls import call
from minidiffuser_ros.bridge.headers import stamp_to_ns
from minidiffuser_ros.bridge.qos import SENSOR_DATA
from minidiffuser_ros.contract.errors import ConnectionLostError

IMAGE, CAMERA_INFO, JOINT_STATE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState"
KINDS: dict[str, type] = {IMAGE: Image, CAMERA_INFO: CameraInfo, JOINT_STATE: JointState}
# Discovery of a running graph, which may be slow on a busy machine, has ended when nothing new was found for a while.
DISCOVERY_S, QUIET_S, POLL_S = 4.0, 0.8, 0.1


@dataclass
class TopicSample:
    """What came on a topic. publishers: of the right type; incompatible: why those that do not fit cannot be heard.

    newest_age_s: stamp of the newest message against this machine's clock when it came.
    """

    topic: str
    kind: str
    publishers: int = 0
    other_types: tuple[str, ...] = ()
    incompatible: tuple[str, ...] = ()
    count: int = 0
    rate_hz: float = 0.0
    newest: Any = None
    newest_age_s: float = 0.0
    arrivals: list[float] = field(default_factory=list)


class GraphProbe:
    """A node of its own in a context of its own, for as long as it is entered."""

    def __init__(self, namespace: str = "", domain_id: int | None = None) -> None:
        self._context = Context()
        self._context.init(domain_id=domain_id)
        self.node = Node(
            "minidiffuser_doctor", namespace=namespace, context=self._context, start_parameter_services=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="graph probe", daemon=True)

    def __enter__(self) -> GraphProbe:
        self._thread.start()
        self._discover()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def _discover(self) -> None:
        start = changed = time.monotonic()
        known: list[tuple[str, list[str]]] = []
        while (now := time.monotonic()) - start < DISCOVERY_S:
            found = self.node.get_topic_names_and_types()
            if found != known:
                known, changed = found, now
            others = len(self.node.get_node_names()) > 1
            if others and now - changed > QUIET_S:
                return
            time.sleep(POLL_S)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def parameters(self, node: str, names: Sequence[str], timeout_s: float = 5.0) -> dict[str, Any] | None:
        """Values of a node's parameters, without those it does not have; None where no such node answers."""
        client = self.node.create_client(GetParameters, f"{node}/get_parameters")
        try:
            # A node is heard of before its services are.
            if not client.wait_for_service(timeout_s if node in self.node.get_node_names() else 0.2):
                return None
            response = call(client, GetParameters.Request(names=list(names)), timeout_s)
        except ConnectionLostError:
            return None
        finally:
            self.node.destroy_client(client)
        values = map(parameter_value_to_python, response.values)
        return {name: value for name, value in zip(names, values, strict=False) if value is not None}

    def listen(self, topics: Mapping[str, str], seconds: float) -> dict[str, TopicSample]:
        """Subscribe to topics (name → type, one of KINDS) as the observer does, for so long."""
        samples = {topic: TopicSample(topic, kind) for topic, kind in topics.items()}

        def receive(sample: TopicSample, message: Any) -> None:
            now_ns = int(self.node.get_clock().now().nanoseconds)
            sample.arrivals.append(time.monotonic())
            sample.newest, sample.newest_age_s = message, (now_ns - stamp_to_ns(message.header.stamp)) / 1e9

        subscriptions = [
            self.node.create_subscription(
                KINDS[sample.kind], topic, lambda message, sample=sample: receive(sample, message), SENSOR_DATA
            )
            for topic, sample in samples.items()
        ]
        time.sleep(seconds)
        for subscription in subscriptions:
            self.node.destroy_subscription(subscription)
        for sample in samples.values():
            self._note_publishers(sample)
            sample.count = len(sample.arrivals)
            if sample.count > 1:
                sample.rate_hz = (sample.count - 1) / max(sample.arrivals[-1] - sample.arrivals[0], 1e-6)
        return samples

    def _note_publishers(self, sample: TopicSample) -> None:
        infos = self.node.get_publishers_info_by_topic(sample.topic)
        right = [info for info in infos if info.topic_type == sample.kind]
        verdicts = [qos_check_compatible(info.qos_profile, SENSOR_DATA) for info in right]
        sample.publishers = len(right)
        sample.other_types = tuple(sorted({info.topic_type for info in infos} - {sample.kind}))
        sample.incompatible = tuple(why for verdict, why in verdicts if verdict == QoSCompatibility.ERROR)
