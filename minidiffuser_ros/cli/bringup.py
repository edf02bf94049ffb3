"""`minidiffuser bringup NAME`: the same nodes as `ros2 launch minidiffuser_ros NAME.launch.py`, without launch."""

from __future__ import annotations

import argparse

from minidiffuser_ros.bringup import plan
from minidiffuser_ros.bringup_runner import process_of, run_processes
from minidiffuser_ros.bringup_tables import BRINGUPS
from minidiffuser_ros.cli.graph import require_ros

HELP = "start the nodes of the ROS graph and keep them running until Ctrl-C"
EPILOG = """examples:
  minidiffuser bringup policy
      the shipped policy on a simulated arm; then, in a second shell: minidiffuser run "push the red button"
  minidiffuser bringup policy --robot-ip 172.16.0.2 --camera realsense --front-serial 1234 --wrist-serial 5678 \\
      --calibration cameras.yaml
      on hardware: nothing moves until you switch dry_run off, and each motion waits for ~/approve
  minidiffuser bringup record --operator scripted --tasks "push_button stack_pair" --episodes 10 --out episodes
      twenty episodes, recorded unattended on the simulated arm
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option per argument of the bring-up's table."""
    bringups = parser.add_subparsers(dest="bringup", required=True, metavar="WHAT")
    for name, bringup in BRINGUPS.items():
        options = bringups.add_parser(name, help=bringup.description, description=bringup.description)
        for argument in bringup.arguments:
            options.add_argument(
                "--" + argument.name.replace("_", "-"),
                dest=argument.name,
                default=argument.default,
                choices=argument.choices or None,
                metavar=None if argument.choices else "VALUE",
                help=f"{argument.description} (default: {argument.default or 'empty'})",
            )


def run(args: argparse.Namespace) -> int:
    """Start everything; returns 0 after Ctrl-C and 1 if a node ended by itself."""
    require_ros()
    values = {argument.name: getattr(args, argument.name) for argument in BRINGUPS[args.bringup].arguments}
    return run_processes([process_of(node) for node in plan(args.bringup, values)])
