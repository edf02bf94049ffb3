"""Plays the same scenes with many ways to decide, side by side, and keeps what was played.

A `Subject` is a trained policy (or several of the same task) with its scenes and its methods. For another task write a
subject and hand it to `compare`; `inference_report` makes table, plot and JSON of what it returns.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from minidiffuser_ros.contract.errors import ConfigurationError


@dataclass(frozen=True)
class Method:
    """One way to decide. policy: name of the weights that it runs.

    scenes: how many of the scenes it plays, None for all. answers_of: the method whose answers it gives bit for bit,
    where it is slow and only its time is of interest; that one's success then stands for its own.
    """

    policy: str
    scenes: int | None = None
    answers_of: str | None = None


class Timed(Protocol):
    """A decision of any policy."""

    @property
    def encode_ms(self) -> float:
        """Until the observation was encoded."""

    @property
    def denoise_ms(self) -> float:
        """From there to the answer."""

    @property
    def pruned(self) -> float:
        """Share reused."""


@dataclass(frozen=True)
class Played:
    """One scene by one method. Milliseconds of denoising and of the whole decision, and share reused, per decision.

    score: how much of the task was done, in [0, 1], where that can be told; what is halfway done is no success.
    """

    success: bool
    denoise_ms: Sequence[float]
    total_ms: Sequence[float]
    pruned: Sequence[float]
    score: float | None = None

    @classmethod
    def of(cls, success: bool, decisions: Sequence[Timed], score: float | None = None) -> Played:
        """From the decisions of an episode, in their order."""
        return cls(
            success,
            [decision.denoise_ms for decision in decisions],
            [decision.encode_ms + decision.denoise_ms for decision in decisions],
            [decision.pruned for decision in decisions],
            score,
        )


class Subject(Protocol):
    """What is played. identity: anything that, when changed, makes results kept in a file those of something else."""

    name: str
    device: str
    identity: str
    reference: str

    @property
    def methods(self) -> Mapping[str, Method]:
        """By name; the one named `reference` plays every scene, the others are compared with it."""

    @property
    def scenes(self) -> Sequence[Hashable]:
        """Each with a `str` of its own."""

    def play(self, method: str, scene: Any) -> Played:
        """One scene from its beginning."""


@dataclass
class Tally:
    """What one method did, scene by scene in the order of the subject's scenes."""

    method: Method
    played: dict[str, Played] = field(default_factory=dict)

    @property
    def successes(self) -> dict[str, bool]:
        """Of every scene played."""
        return {scene: played.success for scene, played in self.played.items()}

    @property
    def scores(self) -> dict[str, float]:
        """Share of the task that was done in every scene played."""
        return {
            scene: float(played.success) if played.score is None else played.score
            for scene, played in self.played.items()
        }

    def denoise_ms(self, scenes: Iterable[str] | None = None) -> list[float]:
        """Of every decision, or of those in some scenes."""
        return [ms for scene in scenes or self.played for ms in self.played[scene].denoise_ms]

    @property
    def total_ms(self) -> list[float]:
        """Of every decision."""
        return [ms for played in self.played.values() for ms in played.total_ms]

    @property
    def pruned(self) -> list[float]:
        """Of every decision."""
        return [share for played in self.played.values() for share in played.pruned]


class PlayLog:
    """Every scene played, a line each, so that a stopped run goes on. Without a path nothing is kept.

    Raises ConfigurationError for the file of another subject.
    """

    def __init__(self, path: Path | None, subject: Subject) -> None:
        self.path = path.with_name(f"{path.stem}-{subject.device}{path.suffix}") if path else None
        self._known: dict[tuple[str, str], Played] = {}
        head = {"subject": subject.name, "identity": subject.identity}
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(self.path)
        if lines and lines[0] != head:
            raise ConfigurationError(f"{self.path} is of another policy or other methods: name another file to keep")
        self._known = {(line["method"], line["scene"]): Played(**line["played"]) for line in lines[1:]}
        with self.path.open("w") as file:  # without the line that a kill has cut
            file.writelines(json.dumps(line) + "\n" for line in [head, *lines[1:]])

    def get(self, method: str, scene: str) -> Played | None:
        """What is known already."""
        return self._known.get((method, scene))

    def put(self, method: str, scene: str, played: Played) -> None:
        """Keep it."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"method": method, "scene": scene, "played": asdict(played)}) + "\n")


def compare(subject: Subject, log: Path | None = None) -> dict[str, Tally]:
    """Every scene with every method, one after the other; the order of methods turns around from scene to scene.

    So whatever else the machine does hits all alike. A method that plays all scenes plays its first one twice and is
    timed the second time, when it is warm.
    """
    keeping = PlayLog(log, subject)
    tallies = {name: Tally(method) for name, method in subject.methods.items()}
    plays = list(_plays(subject))
    cold = {name for name, method in subject.methods.items() if method.scenes is None}
    for name, scene in tqdm(plays, unit="play", desc=f"{subject.name}, {subject.device}"):
        played = keeping.get(name, str(scene))
        if played is None:
            if name in cold:
                subject.play(name, scene)
                cold.discard(name)
            played = subject.play(name, scene)
            keeping.put(name, str(scene), played)
        tallies[name].played[str(scene)] = played
    return tallies


def _plays(subject: Subject) -> Iterator[tuple[str, Hashable]]:
    """(method, scene) in the order of play."""
    for number, scene in enumerate(subject.scenes):
        names = [name for name, method in subject.methods.items() if method.scenes is None or number < method.scenes]
        for name in names if number % 2 else reversed(names):
            yield name, scene


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
