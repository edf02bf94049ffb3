"""Which scenes a policy is trained and tested on: splits by seed, and what a test may change beyond them."""

from __future__ import annotations

from dataclasses import dataclass

from minidiffuser_ros.contract.errors import ConfigurationError

SPLITS: dict[str, range] = {
    "training": range(0, 100_000),
    "validation": range(100_000, 200_000),
    "test": range(200_000, 2**31),
}


@dataclass(frozen=True)
class Shift:
    """What is drawn from the seed and otherwise is as it always is.

    lights, materials: of the lab; camera: the front one moved by up to 5 degrees and 5 cm, and calibrated again;
    distractors: things of no task; combinations: only variations that training never draws; paraphrases: only
    sentences that training never says; doubles: a second thing is as the sentence says, and either is right.
    """

    lights: bool = False
    materials: bool = False
    camera: bool = False
    distractors: bool = False
    combinations: bool = False
    paraphrases: bool = False
    doubles: bool = False


NONE = Shift()
SHIFTS: dict[str, Shift] = {
    "none": NONE,
    "combinations": Shift(combinations=True),
    "paraphrases": Shift(paraphrases=True),
    "camera": Shift(camera=True),
    "lighting": Shift(lights=True, materials=True),
    "distractors": Shift(distractors=True),
    "doubles": Shift(doubles=True),
    "looks": Shift(lights=True, materials=True, camera=True, distractors=True),
}


def shift_named(name: str) -> Shift:
    """One of SHIFTS. Raises ConfigurationError naming them."""
    if name not in SHIFTS:
        raise ConfigurationError(f"there is no shift '{name}'; choose one of {', '.join(SHIFTS)}")
    return SHIFTS[name]


def split_of(seed: int) -> str:
    """The split that a seed belongs to. Raises ConfigurationError for one that has none."""
    for name, seeds in SPLITS.items():
        if seed in seeds:
            return name
    raise ConfigurationError(f"seeds lie between 0 and {2**31 - 1}, got {seed}")
