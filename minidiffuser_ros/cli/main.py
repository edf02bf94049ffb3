"""The command `minidiffuser`: finds the subcommand, imports only that one, and turns errors into one sentence."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from minidiffuser_ros.contract.errors import MinidiffuserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

# Subcommand → what it does, in the order of a first day's work. Each is a module of this package, underscores for
# dashes, with `add_arguments(parser)`, `run(args) -> exit code`, `HELP` and `EPILOG`; heavy things it imports in `run`.
COMMANDS: dict[str, str] = {
    "doctor": "look at machine, graph and arm before a run, and say what is wrong",
    "demo": "six sentences through the live graph on the simulated arm, with pictures",
    "bringup": "start the nodes of the ROS graph and keep them running",
    "run": "perform a sentence on the running graph",
    "calibrate": "find where the cameras sit, from views of a printed board",
    "record": "record demonstrations through the live graph, unattended",
    "teleop": "lead the arm from this terminal, and steer the recorder",
    "demos": "make demonstrations in simulation with the scripted experts",
    "episodes": "list, check, repair and label episodes, and make training data of them",
    "train": "train a policy from demonstrations",
    "train-actions": "train a policy over sequences of actions from episodes of states and actions",
    "average": "weights between those of a policy and of what it was trained on to",
    "prune": "teach a trained policy which parts of its denoiser an observation needs",
    "evaluate": "measure a policy's success in simulation",
}

DESCRIPTION = "Learn table-top tasks from a handful of demonstrations and perform them from a sentence."
EPILOG = "`minidiffuser COMMAND --help` shows options and examples."


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser, complete for `command` only: the other modules are not imported."""
    parser = argparse.ArgumentParser("minidiffuser", description=DESCRIPTION, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"minidiffuser_ros.cli.{name.replace('-', '_')}")
        options = commands.add_parser(
            name,
            help=summary,
            description=module.HELP,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(options)
        options.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 0, 2 where the user has something to fix, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if not a.startswith("-")), None)
    args = build_parser(command).parse_args(arguments)
    try:
        return int(args.run(args))
    except MinidiffuserError as error:
        print(f"minidiffuser {args.command}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"\nminidiffuser {args.command}: stopped by Ctrl-C", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
