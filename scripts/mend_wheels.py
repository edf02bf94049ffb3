"""Point the CMake targets exported by the ROS 2 wheels at this interpreter.

The wheels were built elsewhere, and their targets name that machine's Python and numpy headers; every package that
compiles messages against them would fail. Run with the interpreter of the environment that holds the wheels.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

FOREIGN_PYTHON = r"/opt/python/cp\d+-cp\d+t?"


def mended(text: str, python_include: str, numpy_include: str) -> str:
    """The same CMake code with the foreign header folders replaced by this interpreter's."""
    text = re.sub(FOREIGN_PYTHON + r"/lib/python[\d.]+t?/site-packages/numpy/(_core|core)/include", numpy_include, text)
    return re.sub(FOREIGN_PYTHON + r"/include/python[\d.]+t?", python_include, text)


def main() -> int:
    """Rewrite `share/**/*.cmake` of this environment in place; a second run changes nothing."""
    python_include, numpy_include = sysconfig.get_path("include"), numpy.get_include()
    changed = 0
    for path in sorted(Path(sys.prefix, "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8")
        if (new := mended(text, python_include, numpy_include)) != text:
            path.write_text(new, encoding="utf-8")
            changed += 1
    print(f"CMake targets of the ROS 2 wheels: {changed} files mended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
