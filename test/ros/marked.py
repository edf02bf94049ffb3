"""Commands that a test starts as a user does, and every process that comes of them, however deep."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = ("MINIDIFFUSER_TEST", str(uuid.uuid4()))


def start_marked(*arguments: str) -> subprocess.Popen[str]:
    """Start a Python program with these arguments in the repository's root, marked."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, MARK[0]: MARK[1]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def marked_processes() -> list[str]:
    """Command lines of all processes that carry MARK in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if "=".join(MARK).encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
