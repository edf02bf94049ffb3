"""The doctor's checks against healthy and broken cases, as far as they need no graph."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from minidiffuser_ros.arm import handshake
from minidiffuser_ros.arm.handshake import Handshake
from minidiffuser_ros.cli import doctor_machine as machine
from minidiffuser_ros.cli import doctor_robot as robot
from minidiffuser_ros.cli import doctor_ros as ros
from minidiffuser_ros.cli.doctor import chosen_groups, is_hardware
from minidiffuser_ros.cli.doctor_findings import Finding, State, as_json, as_table, failed
from minidiffuser_ros.cli.doctor_policy import calibration_finding, policy_findings
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import ObservationSpec

ROOT = Path(__file__).parents[1]
CALIBRATION = ROOT / "config" / "simulation_cameras.yaml"
GB = 10**9
Usage = namedtuple("Usage", "total used free")  # of the shape of shutil's own


def says(finding: Finding, state: State, *words: str) -> None:
    """The finding has this state, its words, and advice where something is wrong."""
    assert finding.state is state, finding
    assert all(word in finding.found + finding.advice for word in words), finding
    assert bool(finding.advice) or state in (State.OK, State.SKIP)


def test_python_is_judged_by_its_version() -> None:
    says(machine.python_finding((3, 11, 2)), State.OK, "3.11.2")
    says(machine.python_finding((3, 9, 18)), State.FAIL, "3.9.18", "3.11")


def test_a_gpu_that_the_driver_does_not_serve_is_told_from_none() -> None:
    says(machine.torch_finding("2.13", None, False, "", False, ""), State.OK, "CPU")
    says(machine.torch_finding("2.13", "13.0", True, "", True, "H200"), State.OK, "H200", "13.0")
    old = machine.torch_finding("2.13", "13.0", False, "The NVIDIA driver on your system is too old", True, "")
    says(old, State.WARN, "too old", "update NVIDIA's driver")
    says(machine.torch_finding("2.13", None, False, "", True, ""), State.WARN, "install torch with CUDA")
    says(machine.gpu_memory_finding(20 * GB, 24 * GB), State.OK, "20.0 of 24.0 GB")
    says(machine.gpu_memory_finding(GB // 2, 24 * GB), State.WARN, "nvidia-smi")


def test_this_machines_torch_is_found_or_its_absence_explained() -> None:
    first, *_ = list(machine.torch_findings())
    assert first.check == "torch"
    assert first.state in (State.OK, State.WARN)


@pytest.mark.parametrize(("value", "state"), [("1", "ok"), ("4", "ok"), ("", "warn"), ("64", "warn"), ("many", "warn")])
def test_more_threads_than_cores_are_noticed(value: str, state: str) -> None:
    says(machine.threads_finding(value, 4), State(state), "OMP_NUM_THREADS")


def test_a_core_that_may_slow_down_is_noticed(tmp_path: Path) -> None:
    says(machine.governor_finding(tmp_path), State.SKIP)
    for core, governor in enumerate(("performance", "performance")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    says(machine.governor_finding(tmp_path), State.OK, "performance")
    (tmp_path / "cpu1" / "cpufreq" / "scaling_governor").write_text("powersave\n")
    says(machine.governor_finding(tmp_path), State.WARN, "powersave", "cpupower")


def test_the_kernel_is_judged_for_a_real_arm_only(tmp_path: Path) -> None:
    mark = tmp_path / "realtime"
    says(machine.kernel_finding("#1 SMP PREEMPT_DYNAMIC", mark, hardware=False), State.SKIP)
    says(machine.kernel_finding("#1 SMP PREEMPT_DYNAMIC", mark, hardware=True), State.WARN, "PREEMPT_RT kernel")
    says(machine.kernel_finding("#1 SMP PREEMPT_RT Debian", mark, hardware=True), State.OK)
    mark.write_text("1\n")
    says(machine.kernel_finding("#1 SMP", mark, hardware=True), State.OK)


def test_real_time_limits_need_priority_and_memory() -> None:
    enough = 200 * 1024 * 1024
    says(machine.limits_finding(0, 0, hardware=False), State.SKIP)
    says(machine.limits_finding(99, enough, hardware=True), State.OK)
    says(machine.limits_finding(99, -1, hardware=True), State.OK, "any memory")
    says(machine.limits_finding(0, enough, hardware=True), State.WARN, "rtprio 0", "limits.conf")
    says(machine.limits_finding(99, 8192 * 1024, hardware=True), State.WARN, "8192 kB")


def test_room_is_looked_for_where_episodes_will_go(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    for free, state in ((500 * GB, State.OK), (5 * GB, State.WARN), (GB // 2, State.FAIL)):
        asked: list[Path] = []
        usage = lambda path, free=free, asked=asked: asked.append(path) or Usage(1000 * GB, 0, free)  # noqa: E731
        says(machine.disk_finding(folder, usage), state, "GB free")
        assert asked == [tmp_path]
    says(machine.disk_finding(tmp_path), machine.disk_finding(tmp_path).state, "GB free")


def test_hardware_is_another_machine() -> None:
    assert [is_hardware(a) for a in ("", "127.0.0.2", "localhost", "172.16.0.2", "fr3.lab")] == [False] * 3 + [True] * 2


# -- the arm ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def arm_of_version_5(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(handshake.shake_hands, "__defaults__", (server.getsockname()[1],))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                if client.recv(16):
                    client.sendall(struct.pack("<IIIHH4x", 0, 0, 20, 1, 5))

    threading.Thread(target=serve, daemon=True).start()
    yield "127.0.0.1"
    server.close()


def test_an_arm_of_another_version_names_both_and_the_wheel(arm_of_version_5: str) -> None:
    driver, network, server = robot.robot_findings(arm_of_version_5)
    assert driver.check == "franky"
    assert network.state is not State.FAIL
    says(server, State.FAIL, "version 5", "the driver 1", "robot server version 5")


def test_an_arm_that_is_off_says_what_to_switch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake.shake_hands, "__defaults__", (1,))
    network, server = robot.arm_findings("127.0.0.1", 10, 1.0)
    says(network, State.FAIL, "nothing answers", "activate FCI")
    says(server, State.SKIP)


def test_without_an_address_no_arm_is_asked() -> None:
    assert [finding.state for finding in robot.robot_findings("")][1:] == [State.SKIP, State.SKIP]


def test_a_slow_way_to_the_arm_is_noticed() -> None:
    says(robot.network_finding("a", 0.2), State.OK, "0.20 ms")
    says(robot.network_finding("a", 2.0), State.WARN, "cable")


def test_versions_are_compared_and_an_owner_is_no_failure() -> None:
    says(robot.server_finding(Handshake(0.1, 10, True), 10), State.OK, "free to connect")
    says(robot.server_finding(Handshake(0.1), 10), State.WARN, "another client owns it", "your arm node")
    says(robot.server_finding(Handshake(0.1, 5, False), 10), State.FAIL, "version 5", "the driver 10")


def test_the_installed_driver_tells_its_version_by_trying_to_connect() -> None:
    pytest.importorskip("franky")
    finding, version = robot.driver_finding()
    says(finding, State.OK, "franky-control", f"version {version}")
    assert version is not None


def test_a_driver_that_does_not_start_or_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robot, "CONNECT", "raise ImportError")
    monkeypatch.setattr(robot, "DRIVER_TIMEOUT_S", 0.5)
    if importlib.util.find_spec("franky") is not None:
        finding, version = robot.driver_finding()
        says(finding, State.WARN, "does not start")
        assert version is None
    monkeypatch.setattr(robot.importlib.util, "find_spec", lambda name: None)
    says(robot.driver_finding()[0], State.WARN, "franky-control")


# -- ROS --------------------------------------------------------------------------------------------------------------


def test_domains_and_reach_are_judged() -> None:
    local = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    says(ros.domain_finding(local), State.OK, "ROS_DOMAIN_ID 0")
    says(ros.domain_finding({}), State.WARN, "every machine on this network")
    says(ros.domain_finding({"ROS_LOCALHOST_ONLY": "1", "ROS_DOMAIN_ID": "42"}), State.OK, "42")
    says(ros.domain_finding({**local, "ROS_DOMAIN_ID": "180"}), State.FAIL, "101")
    says(ros.domain_finding({**local, "ROS_DOMAIN_ID": "lab"}), State.FAIL, "lab")


def test_the_transport_profile_in_force_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ros.TRANSPORT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    says(ros.transport_finding("rmw_fastrtps_cpp", {}), State.OK, "fastdds.xml")
    says(ros.transport_finding("rmw_cyclonedds_cpp", {}), State.SKIP)
    variable = ros.TRANSPORT_VARIABLES[0]
    own = tmp_path / "own.xml"
    says(ros.transport_finding("rmw_fastrtps_cpp", {variable: str(own)}), State.FAIL, "no file")
    own.write_text("<dds/>")
    says(ros.transport_finding("rmw_fastrtps_cpp", {variable: str(own)}), State.OK, str(own))
    says(ros.transport_finding("rmw_fastrtps_cpp", {variable: ""}), State.WARN, "unset")


def test_little_shared_memory_is_noticed() -> None:
    says(ros.shared_memory_finding(8 * GB, 16 * GB), State.OK)
    says(ros.shared_memory_finding(64 * 10**6, 64 * 10**6), State.WARN, "--shm-size")
    says(ros.shared_memory_finding(10**6, 64 * 10**6), State.FAIL, "--shm-size")


def test_a_missing_optional_package_is_no_fault_and_its_loss_is_named() -> None:
    says(ros.optional_finding("no_such_package", "something is lost"), State.SKIP, "something is lost")
    says(ros.optional_finding("json", ""), State.OK)


# -- calibration and checkpoint ---------------------------------------------------------------------------------------


def test_a_calibration_is_read_and_its_age_told(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(CALIBRATION.read_text())
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    days = timedelta(days=1)
    says(calibration_finding(str(path), ("front", "wrist"), written + 3 * days), State.OK, "3 days", "fr3_hand_tcp")
    says(calibration_finding(str(path), ("front",), written + 200 * days), State.WARN, "200 days", "calibrate check")
    path.write_text(CALIBRATION.read_text() + "date: 2026-01-31T14:00:00Z\n")
    dated = calibration_finding(str(path), ("front",), datetime(2026, 2, 10, 14, tzinfo=UTC))
    says(dated, State.OK, "10 days")
    says(calibration_finding(str(path), ("front", "side")), State.FAIL, "side")
    path.write_text("cameras: [{name: front, parent_frame: fr3_link0, position: [0, 0, nan]}]")
    says(calibration_finding(str(path), ("front",)), State.FAIL, "quat_wxyz")
    says(calibration_finding("/nowhere.yaml", ("front",)), State.FAIL, "/nowhere.yaml")
    says(calibration_finding("front=,wrist=tf", ("front",)), State.FAIL, "empty part")
    says(calibration_finding("tf", ("front",)), State.SKIP, "TF")
    says(calibration_finding("", ("front",)), State.SKIP)


def test_the_shipped_checkpoint_loads_and_is_held_against_the_observer() -> None:
    pytest.importorskip("torch")
    spec = ObservationSpec()
    checkpoint, same = policy_findings("models/tabletop_small", spec)
    says(checkpoint, State.OK, "million weights")
    says(same, State.OK)
    _, other = policy_findings("tabletop_small", replace(spec, voxel_size=0.02, cameras=("front",)))
    says(other, State.FAIL, "voxel_size: 0.008 against 0.02", "cameras", "spec.")
    _, alone = policy_findings("tabletop_small", None)
    says(alone, State.SKIP)


@pytest.mark.parametrize("content", [None, "{}", "not JSON", '{"format": 1, "spec": 3}'])
def test_a_folder_that_is_no_checkpoint_fails_with_its_reason(tmp_path: Path, content: str | None) -> None:
    pytest.importorskip("torch")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
        (tmp_path / "model.safetensors").write_bytes(b"\0" * 16)
    (finding,) = policy_findings(str(tmp_path), None)
    says(finding, State.FAIL, str(tmp_path))


# -- the command ------------------------------------------------------------------------------------------------------

FINDINGS = [
    Finding("machine", "python", State.OK, "3.11"),
    Finding("machine", "threads", State.WARN, "many " * 30, "set fewer " * 20),
    Finding("robot", "network", State.SKIP, "no arm named"),
]


def test_warnings_do_not_fail_and_failures_do() -> None:
    assert not failed(FINDINGS)
    assert failed([*FINDINGS, Finding("ros", "domain", State.FAIL, "x", "y")])


def test_the_table_fits_its_width_and_holds_every_word() -> None:
    table = as_table(FINDINGS, width=80)
    assert max(map(len, table.splitlines())) <= 80
    assert table.count("many") == 30
    assert table.count("fewer") == 20
    assert "3 checks: 1 ok, 1 to look at, 0 failed, 1 skipped" in table


def test_json_holds_the_same_for_programs() -> None:
    content = json.loads(as_json(FINDINGS))
    assert content["ok"] is True
    assert content["findings"][1]["state"] == "warn"
    assert {*content["findings"][0]} == {"group", "check", "state", "found", "advice"}


def test_groups_are_chosen_by_name() -> None:
    assert chosen_groups("ros, cameras") == {"ros", "cameras"}
    assert len(chosen_groups("")) == 6
    with pytest.raises(ConfigurationError, match=r"weather.*machine, ros"):
        chosen_groups("ros,weather")


WITHOUT_ROS = """
import sys

blocked = {"rclpy", "sensor_msgs", "rcl_interfaces"}
import importlib.util as util
real = util.find_spec
util.find_spec = lambda name, package=None: None if name.split(".")[0] in blocked else real(name, package)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from minidiffuser_ros.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command on a machine without ROS."""
    command = [sys.executable, "-c", WITHOUT_ROS, "doctor", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, env=environment)


def test_without_ros_the_rest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    result = doctor("--json", "--only", "machine,ros,robot,cameras,calibration", "--episodes", str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    found = {(f["group"], f["check"]): f for f in json.loads(result.stdout)["findings"]}
    assert found["ros", "ros 2"]["state"] == "warn"
    assert found["cameras", "graph"]["state"] == "skip"
    assert found["machine", "python"]["state"] == "ok"
    assert {group for group, _ in found} == {"machine", "ros", "robot", "cameras", "calibration"}


def test_what_failed_is_in_the_exit_code_and_bad_input_in_another() -> None:
    result = doctor("--only", "calibration", "--calibration", "/nowhere.yaml")
    assert result.returncode == 1
    assert "/nowhere.yaml" in result.stdout
    result = doctor("--only", "weather")
    assert result.returncode == 2
    assert "weather" in result.stderr
    assert doctor("--listen", "-1").returncode == 2
