"""ROS 2 here: is it on the path, which one, how pictures travel, and what optional packages would add."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.installation import TRANSPORT_VARIABLES, transport_profiles

GROUP = "ros"
MEGABYTE = 1e6
# Each process that publishes pictures takes 16 MB; docker gives all of them 64 MB unless told otherwise.
LOW_SHM, MIN_SHM = 200 * MEGABYTE, 32 * MEGABYTE
# Above, the ports of a domain run into those that Linux gives to clients.
LAST_DOMAIN = 101
# Package → what is lost without it.
OPTIONAL = {
    "tf2_ros": "poses of cameras come from calibration files only, not from TF",
    "message_filters": "pictures are paired by this package's own matcher (synchronizer: stamps)",
    "launch": "start with `minidiffuser bringup` instead of `ros2 launch`",
    "cv_bridge": "nothing here: pictures are decoded without it",
}


def ros_findings() -> Iterator[Finding]:
    """Imports nothing of ROS where it is not installed."""
    yield (installed := installed_finding())
    if installed.state is not State.OK:
        return
    from minidiffuser_ros.bridge.middleware import middleware

    yield domain_finding(os.environ)
    yield transport_finding(middleware(), os.environ)
    usage = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None
    yield shared_memory_finding(*((usage.free, usage.total) if usage else (0, 0)))
    for package, loss in OPTIONAL.items():
        yield optional_finding(package, loss)


def finding(check: str, state: State, found: str, advice: str = "") -> Finding:
    """One of this group."""
    return Finding(GROUP, check, state, found, advice)


def installed_finding() -> Finding:
    """rclpy and the messages of this package."""
    if importlib.util.find_spec("rclpy") is None:
        return finding(
            "ros 2", State.WARN, "not on the path: simulation and learning work, the graph of nodes does not",
            "source env.sh, or your ROS 2 and this workspace",
        )  # fmt: skip
    if importlib.util.find_spec("minidiffuser_ros.msg") is None:
        return finding(
            "ros 2", State.FAIL, "this package's messages are not built or not on the path", "make build, then: "
            "source env.sh",
        )  # fmt: skip
    from minidiffuser_ros.bridge.middleware import middleware

    return finding("ros 2", State.OK, f"{distribution()}, {middleware()}")


def distribution() -> str:
    """Name of the ROS distribution, from the environment or from the wheels."""
    if name := os.environ.get("ROS_DISTRO"):
        return name
    names = (str(package.metadata["Name"]) for package in importlib.metadata.distributions())
    found = next((match[1] for name in names if (match := re.fullmatch(r"ros-([a-z]+)-rclpy", name))), "")
    return f"{found} (wheels)" if found else "unknown distribution"


def domain_finding(environment: Mapping[str, str]) -> Finding:
    """Who hears this graph."""
    domain = environment.get("ROS_DOMAIN_ID", "0")
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "LOCALHOST"
    text = f"ROS_DOMAIN_ID {domain}, discovery range {reach}"
    if not domain.isdigit() or int(domain) > LAST_DOMAIN:
        return finding("domain", State.FAIL, text, f"set ROS_DOMAIN_ID to a number from 0 to {LAST_DOMAIN}")
    if reach not in ("LOCALHOST", "OFF"):
        return finding(
            "domain", State.WARN, text + ": every machine on this network may command the arm",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST, or choose a domain that nobody else uses",
        )  # fmt: skip
    return finding("domain", State.OK, text)


def transport_finding(rmw: str, environment: Mapping[str, str]) -> Finding:
    """Do pictures go through shared memory in one piece."""
    if "fastrtps" not in rmw:
        return finding("pictures", State.SKIP, f"the profile is Fast DDS's, here is {rmw}")
    chosen = {name: environment[name] for name in TRANSPORT_VARIABLES if name in environment}
    for name, path in chosen.items():
        if path and not Path(path).is_file():
            return finding("pictures", State.FAIL, f"{name} names {path}, which is no file", f"unset {name}")
    if any(chosen.values()):
        return finding("pictures", State.OK, f"your own profile: {next(p for p in chosen.values() if p)}")
    if chosen:
        return finding(
            "pictures", State.WARN, f"{next(iter(chosen))} is empty: Fast DDS's own buffers hold half a picture",
            f"unset {next(iter(chosen))}, so that this package's profile is used",
        )  # fmt: skip
    profile = next(iter(transport_profiles().values()), "")
    if not profile:
        return finding("pictures", State.WARN, "config/fastdds.xml is missing from the installation", "make build")
    return finding("pictures", State.OK, f"nodes started by this package use {profile}")


def shared_memory_finding(free: int, total: int) -> Finding:
    """Bytes of /dev/shm."""
    text = f"/dev/shm has {free / MEGABYTE:.0f} of {total / MEGABYTE:.0f} MB free, 16 MB go to each process"
    if free < LOW_SHM:
        state = State.FAIL if free < MIN_SHM else State.WARN
        advice = "in a container: --shm-size 1g; otherwise remove what dead processes left: rm /dev/shm/fastrtps_*"
        return finding("shared memory", state, text, advice)
    return finding("shared memory", State.OK, text)


def optional_finding(package: str, loss: str) -> Finding:
    """A package that may be missing."""
    spec = importlib.util.find_spec(package)
    # A folder of that name on the path is no package.
    if spec is None or spec.origin is None:
        return finding(package, State.SKIP, f"not installed: {loss}")
    return finding(package, State.OK, "installed")
