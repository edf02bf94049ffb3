"""Builds a cache and kills itself without warning after some parts, or in the middle of writing.

python killed_build.py SOURCE OUT reading|writing NUMBER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from minidiffuser_ros.episodes import cache_build, cache_parts

source, out, stage, number = sys.argv[1:]
done = 0


def dying(function: Any) -> Any:
    def call(*args: Any) -> Any:
        global done
        if done == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return function(*args)

    return call


if stage == "reading":
    cache_build.make_part = dying(cache_build.make_part)
elif stage == "half a part":
    cache_parts._write = dying(cache_parts._write)
else:
    cache_parts.Part.load = dying(cache_parts.Part.load)  # type: ignore[method-assign]
cache_build.build_cache([Path(source)], Path(out))
