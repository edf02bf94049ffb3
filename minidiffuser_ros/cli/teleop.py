"""`minidiffuser teleop`: lead the arm from this terminal; the same node as `ros2 run minidiffuser_ros teleop`."""

from __future__ import annotations

import argparse
import os
import sys

HELP = "Lead the arm of a running graph from this terminal, and steer the recorder with the same keys."
EPILOG = """The graph must be running: `minidiffuser bringup record`. docs/record.md shows a whole session.

examples:
  minidiffuser teleop --task push_button --instruction "push the red button"
  minidiffuser teleop --device joystick --task tidy_up --instruction "put the cup on the shelf" --operator ada"""
DEVICES = ("keyboard", "joystick", "spacemouse", "guiding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--device", default="keyboard", choices=DEVICES, help="what leads the arm (default: keyboard)")
    parser.add_argument("--task", default="", help="name of the task, noted in each episode")
    parser.add_argument("--instruction", default="", help="the sentence that the demonstrations answer, in quotes")
    parser.add_argument("--operator", default="", help="who demonstrates")
    parser.add_argument("--namespace", default="", help="namespace of the graph (default: none)")


def run(args: argparse.Namespace) -> int:
    """Become the node, so that the terminal and Ctrl-C are its own."""
    from minidiffuser_ros.cli.graph import require_ros

    require_ros()
    parameters = {name: getattr(args, name) for name in ("device", "task", "instruction", "operator")}
    command = [sys.executable, "-m", "minidiffuser_ros.nodes", "teleop", "--ros-args", "--log-level", "warn"]
    if args.namespace:
        command += ["-r", f"__ns:=/{args.namespace.strip('/')}"]
    for name, value in parameters.items():
        if value:
            command += ["-p", name + ":='" + value.replace("'", "''") + "'"]
    os.execv(command[0], command)
