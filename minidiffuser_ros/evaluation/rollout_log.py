"""Rollouts on disk while an evaluation runs, so that a stopped one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from minidiffuser_ros.evaluation.rollout import Rollout
from minidiffuser_ros.policy.checkpoint import CONFIG, WEIGHTS

Pair = tuple[Rollout, Rollout]
"""The policy's rollout and the expert's from the same scene."""


class RolloutLog:
    """One JSON line a scene below a first line that says whose they are.

    Lines of another checkpoint or shift, or of another way to play, are dropped.
    """

    def __init__(self, path: Path, checkpoint: Path, shift: str, live: bool = False) -> None:
        self._path = path
        self._owner = {"checkpoint": _digest(checkpoint), "shift": shift, **({"live": True} if live else {})}
        self.pairs: dict[tuple[str, int], Pair] = {}
        if path.exists():
            self._read(path.read_text().splitlines())
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew: a line that was cut off in mid-word would spoil the one after it.
        path.write_text("".join(f"{json.dumps(line)}\n" for line in (self._owner, *map(_line, self.pairs.values()))))

    def add(self, pair: Pair) -> None:
        """Keep a scene's rollouts."""
        self.pairs[pair[0].task, pair[0].seed] = pair
        with self._path.open("a") as file:
            file.write(json.dumps(_line(pair)) + "\n")

    def close(self) -> None:
        """The evaluation is complete: its report says what the log did."""
        self._path.unlink(missing_ok=True)

    def _read(self, lines: list[str]) -> None:
        try:
            if not lines or json.loads(lines[0]) != self._owner:
                return
            for line in lines[1:]:
                policy, expert = (Rollout(**values) for values in json.loads(line))
                self.pairs[policy.task, policy.seed] = (policy, expert)
        except (ValueError, TypeError):
            return  # the line that was being written when the run was stopped


def _line(pair: Pair) -> list[dict[str, object]]:
    return [asdict(rollout) for rollout in pair]


def _digest(checkpoint: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update((checkpoint / name).read_bytes())
    return digest.hexdigest()
