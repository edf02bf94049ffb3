"""`minidiffuser doctor`: is this machine, its graph and the arm fit to run; what is wrong, and what to do about it."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from minidiffuser_ros.cli.doctor_findings import Finding

HELP = "Look at everything that a run rests on, change nothing, and say what to do where something is wrong."
EPILOG = """examples:
  minidiffuser doctor
  minidiffuser doctor --only ros,cameras
  minidiffuser doctor --robot-ip 172.16.0.2 --calibration cameras.yaml --json

The arm is never moved: --robot-ip opens a connection, asks for the version it speaks, and hangs up. docs/doctor.md
explains every line.

exit codes: 0 nothing failed (warnings do not count), 1 something did, 2 bad input
"""
GROUPS = ("machine", "ros", "robot", "cameras", "calibration", "policy")
# Groups that ask the running graph; the others need no ROS.
GRAPH_GROUPS = frozenset(GROUPS[3:])
EXIT_FINE, EXIT_FAILED = 0, 1
MAX_LISTEN_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument(
        "--only", default="", metavar="GROUPS", help=f"these groups only, with commas, of: {', '.join(GROUPS)}"
    )
    parser.add_argument("--json", action="store_true", help="print the findings for programs")
    parser.add_argument("--robot-ip", default="", metavar="IP", help="address of the arm to shake hands with")
    parser.add_argument(
        "--calibration",
        default="",
        metavar="FILE",
        help="poses of the cameras, as the observer takes them (default: its own)",
    )
    parser.add_argument(
        "--checkpoint",
        default="",
        metavar="DIR",
        help="trained policy (default: the policy node's, or the shipped one)",
    )
    parser.add_argument(
        "--episodes", type=Path, default=Path("episodes"), metavar="DIR", help="where episodes go (default: episodes)"
    )
    parser.add_argument("--namespace", default="", help="namespace of the graph (default: none)")
    parser.add_argument(
        "--listen", type=float, default=3.0, metavar="S", help="listen to the topics for so long (default: 3)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the findings; returns the exit code. Raises ConfigurationError for bad input."""
    from minidiffuser_ros.cli.doctor_findings import as_json, as_table, failed

    groups = chosen_groups(args.only)
    if not 0.0 < args.listen <= MAX_LISTEN_S:
        raise ConfigurationError(f"--listen takes seconds above 0 and up to {MAX_LISTEN_S:g}, got {args.listen:g}")
    if not args.json and groups & GRAPH_GROUPS and sys.stderr.isatty():
        print(f"listening to the graph for {args.listen:g} s …", file=sys.stderr)
    findings = list(all_findings(args, groups))
    print(as_json(findings) if args.json else as_table(findings))
    return EXIT_FAILED if failed(findings) else EXIT_FINE


def chosen_groups(text: str) -> frozenset[str]:
    """The groups named in --only, all of them where it is empty. Raises ConfigurationError for others."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(GROUPS)):
        raise ConfigurationError(f"--only names {unknown}; the groups are {', '.join(GROUPS)}")
    return frozenset(names or GROUPS)


def all_findings(args: argparse.Namespace, groups: frozenset[str]) -> Iterator[Finding]:
    """Every finding, in the order of GROUPS."""
    from minidiffuser_ros.cli.doctor_graph import GraphView, graph_findings, look
    from minidiffuser_ros.cli.doctor_machine import machine_findings
    from minidiffuser_ros.cli.doctor_policy import calibration_finding, policy_findings
    from minidiffuser_ros.cli.doctor_robot import robot_findings
    from minidiffuser_ros.cli.doctor_ros import ros_findings
    from minidiffuser_ros.cli.graph import ros_is_there
    from minidiffuser_ros.contract.observation import ObservationSpec

    if "machine" in groups:
        yield from machine_findings(is_hardware(args.robot_ip), args.episodes)
    if "ros" in groups:
        yield from ros_findings()
    if "robot" in groups:
        yield from robot_findings(args.robot_ip)
    view = GraphView("ROS 2 is not on the path")
    if groups & GRAPH_GROUPS and ros_is_there():
        view = look(args.namespace, args.listen if "cameras" in groups else 0.0)
    if "cameras" in groups:
        yield from graph_findings(view)
    if "calibration" in groups:
        yield calibration_finding(
            args.calibration or view.calibration, tuple(view.cameras) or ObservationSpec().cameras
        )
    if "policy" in groups:
        yield from policy_findings(args.checkpoint or view.checkpoint or "models/tabletop", view.spec)


def is_hardware(robot_ip: str) -> bool:
    """Whether this address is another machine's; simulated arms listen on this one."""
    try:
        return bool(robot_ip) and not ipaddress.ip_address(robot_ip).is_loopback
    except ValueError:
        return robot_ip != "localhost"
