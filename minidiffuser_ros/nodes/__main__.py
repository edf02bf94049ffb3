"""`python -m minidiffuser_ros.nodes NAME --ros-args …` starts one node, as the executables of the package do."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType


def start(name: str) -> int:
    """Import the node `name` and run it; returns its exit code. Ctrl-C or SIGTERM during the imports ends quietly."""

    def end(number: int, frame: FrameType | None) -> None:
        os._exit(0)  # nothing is up yet that would have to be stopped

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    return int(importlib.import_module(f"minidiffuser_ros.nodes.{name}").main())


if __name__ == "__main__":
    sys.exit(start(sys.argv[1]))
