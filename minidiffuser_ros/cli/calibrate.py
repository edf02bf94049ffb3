"""`minidiffuser calibrate`: where the cameras sit, from views of a printed board."""

from __future__ import annotations

import argparse
import importlib

from minidiffuser_ros.cli import calibrate_take, calibrate_use
from minidiffuser_ros.cli.verbs import add_verbs
from minidiffuser_ros.contract.errors import ConfigurationError

HELP = "Find where a camera sits on the arm's base or hand, from views of a printed board, and check it."
EPILOG = """examples:
  minidiffuser calibrate board --out board.pdf
  minidiffuser calibrate capture --camera front --out views/front
  minidiffuser calibrate solve views/front --out cameras.yaml
  minidiffuser calibrate check views/front --calibration cameras.yaml --out check.png

without hardware:
  minidiffuser calibrate capture --camera front --simulated --out views/front

`minidiffuser calibrate VERB --help` shows options. docs/calibration.md tells how to print, to take views and to judge.
exit codes: 0 done, 2 bad input"""
VERBS = (*calibrate_take.VERBS, *calibrate_use.VERBS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One parser a verb."""
    add_verbs(parser, VERBS)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns its exit code. Raises ConfigurationError where OpenCV is missing or too old."""
    try:
        aruco = importlib.import_module("cv2").aruco
    except (ImportError, AttributeError):
        aruco = None
    if not hasattr(aruco, "CharucoDetector"):  # distributions have older ones than PyPI
        raise ConfigurationError(
            "calibration needs OpenCV 4.10 or newer, which is missing: pip install 'minidiffuser_ros[calibration]'"
        )
    return int(args.run_verb(args))
