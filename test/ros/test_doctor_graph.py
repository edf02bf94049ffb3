"""The doctor looks at a live graph: healthy, broken in one way at a time, and absent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from spinning import own_domain, spinning
from std_msgs.msg import String
from synthetic_robot import CALIBRATION, CAMERA, RATE_HZ, Rig, SyntheticRobot, running

from minidiffuser_ros.arm.kinematics import STATE_NAMES
from minidiffuser_ros.bridge.conversions import image_from_depth, info_from_camera
from minidiffuser_ros.bridge.graph_probe import IMAGE, TopicSample
from minidiffuser_ros.bridge.qos import RELIABLE
from minidiffuser_ros.cli import doctor_cameras as cameras
from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.cli.doctor_graph import GraphView, graph_findings, look
from minidiffuser_ros.cli.main import main

pytestmark = pytest.mark.ros

SECONDS = 1.5


@pytest.fixture(autouse=True)
def same_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(own_domain()))


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running() as rig:
        assert rig.capture().success
        yield rig


def found(view: GraphView) -> dict[str, Finding]:
    return {finding.check: finding for finding in graph_findings(view)}


def test_a_healthy_graph_is_found_fit_with_rates_encodings_and_ages(rig: Rig) -> None:
    view = look("", SECONDS)
    findings = found(view)
    # On a busy machine messages may come more slowly than is wanted.
    assert {finding.state for finding in findings.values()} <= {State.OK, State.WARN}, findings
    assert [*findings] == [
        *(f"{camera} {what}" for camera in ("front", "wrist") for what in ("color", "depth", "intrinsics")),
        "joint states",
    ]
    assert "rgb8 106x60" in findings["front color"].found
    assert view.samples["/front/color/image_raw"].rate_hz == pytest.approx(RATE_HZ, rel=0.7)
    assert view.spec == rig.observer.settings.spec
    assert view.calibration == str(CALIBRATION)


def silent(robot: SyntheticRobot) -> None:
    robot.silent = {"wrist/depth"}


def yuv(robot: SyntheticRobot) -> None:
    robot.color_encoding = "yuv422"


def blind(robot: SyntheticRobot) -> None:
    robot.blind = True


def late(robot: SyntheticRobot) -> None:
    robot.stamp_offset_ns = -10_000_000_000


def a_bit_late(robot: SyntheticRobot) -> None:
    robot.behind_ns["front"] = 700_000_000


def other_intrinsics(robot: SyntheticRobot) -> None:
    robot.info_camera = CAMERA.scaled(80, 60)


def without_fingers(robot: SyntheticRobot) -> None:
    robot.joint_names = robot.joint_names[:7]


@pytest.mark.parametrize(
    ("breaks", "check", "state", "words"),
    [
        (silent, "wrist depth", "fail", ["published, but nothing came"]),
        (yuv, "front color", "fail", ["yuv422", "rgb8"]),
        (blind, "front depth", "fail", ["no pixel has a depth", "covered"]),
        (late, "front color", "fail", ["10.0 s before arrival", "chrony"]),
        (a_bit_late, "front color", "warn", ["before arrival", "chrony"]),
        (other_intrinsics, "front intrinsics", "fail", ["80x60", "106x60"]),
        (without_fingers, "joint states", "fail", ["fr3_finger_joint1"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_fault_is_found_where_it_is(
    rig: Rig, breaks: Callable[[SyntheticRobot], None], check: str, state: str, words: list[str]
) -> None:
    breaks(rig.robot)
    finding = found(look("", SECONDS))[check]
    told = finding.found + finding.advice
    assert finding.state == state, finding
    assert [word for word in words if word not in told] == [], finding


def test_a_topic_of_another_type_and_one_that_nobody_publishes_are_told_apart(context: Context) -> None:
    node = Node("camera", context=context)
    node.create_publisher(String, "front/color/image_raw", RELIABLE)
    with spinning(context, node):
        findings = found(look("", 0.2))
    assert "std_msgs/msg/String instead of sensor_msgs/msg/Image" in findings["front color"].found
    assert "nobody publishes /front/aligned_depth_to_color/image_raw" in findings["front depth"].found


def test_without_a_graph_nothing_is_judged(context: Context) -> None:
    (finding,) = graph_findings(look("", 0.1))
    assert finding.state is State.SKIP
    assert "no graph runs" in finding.found


def test_the_command_compares_checkpoint_calibration_and_graph(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    # The rig's observer makes 512 points, as this policy sees them; that of launch asks the checkpoint.
    words = ["--only", "cameras,calibration,policy", "--checkpoint", "models/tabletop_small", "--listen", "1.0"]
    assert main(["doctor", *words, "--json"]) == 0
    findings = {(f["group"], f["check"]): f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert {f["state"] for f in findings.values()} <= {"ok", "warn"}, findings
    assert findings["policy", "spec"]["state"] == findings["calibration", "poses"]["state"] == "ok"
    assert findings["policy", "spec"]["found"].startswith("the observer makes what")
    assert str(CALIBRATION) in findings["calibration", "poses"]["found"]


def test_the_command_exits_with_1_where_the_graph_is_broken(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    blind(rig.robot)
    assert main(["doctor", "--only", "cameras", "--listen", "1.0"]) == 1
    assert "covered" in capsys.readouterr().out


def test_ros_itself_is_found_here(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--only", "ros", "--json"])
    findings = {f["check"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["ros 2"]["state"] == "ok"
    assert "rmw_" in findings["ros 2"]["found"]
    assert f"ROS_DOMAIN_ID {os.environ['ROS_DOMAIN_ID']}" in findings["domain"]["found"]


# -- single messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "encoding", "word"),
    [
        (np.full((6, 8), 0.6), "16UC1", ""),
        (np.full((6, 8), 0.6), "32FC1", ""),
        (np.full((6, 8), 600.0), "32FC1", "600 m"),
        (np.full((6, 8), 0.006), "16UC1", "0.006 m"),
        (np.full((6, 8), np.nan), "32FC1", "no pixel"),
    ],
)
def test_depth_in_another_unit_is_noticed(depth: np.ndarray, encoding: str, word: str) -> None:
    wrong, advice = cameras.depth_problem(image_from_depth(depth, "c", 0, encoding))
    assert word in wrong
    assert bool(wrong) == bool(word) == bool(advice)


@pytest.mark.parametrize(
    ("camera", "word"),
    [
        (CAMERA, ""),
        (replace(CAMERA, fx=3.0, fy=3.0), "focal lengths"),
        (replace(CAMERA, cx=-5.0), "outside"),
    ],
)
def test_intrinsics_that_no_lens_has_are_noticed(camera: object, word: str) -> None:
    wrong, _ = cameras.info_problem(info_from_camera(camera, "c", 0), None)
    assert word in wrong
    assert bool(wrong) == bool(word)


def sample(**values: object) -> TopicSample:
    message = SimpleNamespace()
    whole = {"publishers": 1, "count": 30, "rate_hz": 15.0, "newest": message, "newest_age_s": 0.01, **values}
    return TopicSample("/topic", IMAGE, **whole)  # type: ignore[arg-type]


def test_a_quality_of_service_that_does_not_fit_slowness_and_two_publishers_are_noticed() -> None:
    def judged(given: TopicSample) -> Finding:
        return cameras.judged("color", given, 3.0, 2.0, lambda message: ("", ""))

    assert judged(sample()).state is State.OK
    assert judged(sample(incompatible=("reliability",), newest=None)).found.endswith("reliability")
    assert judged(sample(rate_hz=0.7)).state is State.WARN
    assert "2 nodes publish" in judged(sample(publishers=2)).found
    assert "after arrival" in judged(sample(newest_age_s=-3.0)).found
    joints = SimpleNamespace(name=STATE_NAMES, position=[float("nan")] * len(STATE_NAMES))
    assert "no numbers" in cameras.joints_problem(joints, STATE_NAMES)[0]
