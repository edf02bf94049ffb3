"""One demonstration: an observation before each keypose and the keypose that followed; one .npz file each.

The file may keep a recording, too, which training never reads.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE, Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.recording import Recording

FORMAT = 1
ARRAYS: dict[str, type[np.generic]] = {
    "counts": np.int64, "points": np.float32, "colors": np.uint8, "tool": np.float64, "openings": np.float64,
    "joints": np.float64, "targets": np.float64,
}  # fmt: skip
WANTED = {"header", *ARRAYS}
MAX_BYTES = 1 << 31  # unpacked; a thousand steps of a hundred thousand points take 1.5 GB


@dataclass(frozen=True)
class Demonstration:
    """T steps. `targets` [T, 8] are position, quat_wxyz and opening of the keypose after each observation.

    counts [T]; points [sum(counts), 3] float32 m; colors [sum(counts), 3] uint8; tool [T, 7] position and
    quat_wxyz; openings [T]; joints [T, 7]. instructions: every sentence that fits, the canonical one first.
    """

    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    spec: ObservationSpec
    counts: NDArray[np.int64]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    tool: NDArray[np.float64]
    openings: NDArray[np.float64]
    joints: NDArray[np.float64]
    targets: NDArray[np.float64]


def demonstration_of(
    task: str,
    variation: int,
    seed: int,
    instructions: Sequence[str],
    steps: Sequence[tuple[Observation, Keypose]],
) -> Demonstration:
    """Pack observations and the keyposes that followed them."""
    observations = [observation for observation, _ in steps]
    return Demonstration(
        task,
        variation,
        seed,
        tuple(instructions),
        observations[0].spec,
        np.array([len(o.points) for o in observations], np.int64),
        np.concatenate([o.points for o in observations]),
        np.concatenate([o.colors for o in observations]),
        np.array([[*o.tool_position, *o.tool_quat_wxyz] for o in observations]),
        np.array([o.opening for o in observations]),
        np.array([o.joint_positions for o in observations]),
        np.array([[*k.position, *k.quat_wxyz, k.opening] for _, k in steps]),
    )


def packed(demonstration: Demonstration, recording: Recording | None = None, compress: bool = True) -> bytes:
    """The content of a demonstration's file; without compression larger, and quicker to write and read."""
    header = {
        "format": FORMAT,
        "task": demonstration.task,
        "variation": demonstration.variation,
        "seed": demonstration.seed,
        "instructions": list(demonstration.instructions),
        "spec": demonstration.spec.to_dict(),
    }
    arrays = {name: getattr(demonstration, name) for name in ARRAYS}
    if recording is not None:
        arrays |= vars(recording)
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, header=np.array(json.dumps(header)), **arrays)
    return buffer.getvalue()


def write_demonstration(content: bytes, path: Path) -> None:
    """Write what `packed` made to a temporary name and rename it: a file that exists is complete.

    Raises EpisodeError where it cannot be written, as on a full disk; then nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EpisodeError(
            f"cannot write the demonstration {path} ({error.strerror}): make room or name another folder; "
            "those already written are complete, and the same command goes on with the others"
        ) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def save_demonstration(demonstration: Demonstration, path: Path, recording: Recording | None = None) -> None:
    """`write_demonstration` of `packed`."""
    write_demonstration(packed(demonstration, recording), path)


@dataclass(frozen=True)
class Outline:
    """What a demonstration's file says without its clouds; the fields are those of `Demonstration`."""

    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    spec: ObservationSpec
    counts: NDArray[np.int64]


def load_demonstration(path: Path) -> Demonstration:
    """Read and check one file. Raises EpisodeError naming the file and what is wrong; never unpickles."""
    with _opened(path) as archive:
        described = _described(archive, path)
        demonstration = Demonstration(*described, **{name: archive[name] for name in ARRAYS})
    problem = problem_of(demonstration)
    if problem:
        raise EpisodeError(f"{path}: {problem}: make it again")
    return demonstration


def load_outline(path: Path) -> Outline:
    """Read what one file says of itself, quickly. Raises EpisodeError as `load_demonstration` does."""
    with _opened(path) as archive:
        return Outline(*_described(archive, path), archive["counts"])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a file by name; whatever goes wrong with them becomes an EpisodeError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            # A few megabytes may unpack to more than any memory.
            size = sum(i.file_size for i in archive.zip.infolist() if i.filename.removesuffix(".npy") in WANTED)
            if size > MAX_BYTES:
                raise ValueError(f"it unpacks to {size} bytes, at most {MAX_BYTES} are read")
            yield archive
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise EpisodeError(f"cannot read the demonstration {path} ({error.strerror}): name a file of one") from None
    except EpisodeError:
        raise
    except Exception as error:  # damaged and foreign files make zipfile, zlib and numpy raise almost anything
        raise EpisodeError(
            f"{path} is not a demonstration of this package ({error}): delete it and make it again"
        ) from None


def _described(archive: Any, path: Path) -> tuple[str, int, int, tuple[str, ...], ObservationSpec]:
    """Task, variation, seed, sentences and spec; anything may be raised."""
    header = json.loads(str(archive["header"]))
    if header["format"] != FORMAT:
        raise EpisodeError(f"{path} has format {header['format']}, this version reads {FORMAT}: make it again")
    if isinstance(header["instructions"], str):
        raise EpisodeError(f"{path}: 'instructions' is one text instead of a list: make it again")
    return (
        header["task"],
        int(header["variation"]),
        int(header["seed"]),
        tuple(header["instructions"]),
        ObservationSpec.from_dict(header["spec"]),
    )


def problem_of(demonstration: Demonstration) -> str:
    """What keeps the parts from fitting together; empty where they fit."""
    instructions = demonstration.instructions
    if not instructions or not all(isinstance(sentence, str) for sentence in instructions):
        return f"'instructions' must be one or more sentences, is {list(instructions)}"
    counts = demonstration.counts
    if counts.ndim != 1 or counts.dtype != np.int64 or len(counts) == 0 or (counts < 1).any():
        given = counts.tolist() if counts.size <= 20 else f"{counts.size} numbers"
        return f"'counts' must be one positive int64 per step, is {counts.dtype} {given}"
    steps, points = len(counts), int(counts.sum())
    shapes = {
        "points": (points, 3), "colors": (points, 3), "tool": (steps, 7), "openings": (steps,),
        "joints": (steps, 7), "targets": (steps, 8),
    }  # fmt: skip
    for name, shape in shapes.items():
        array, dtype = getattr(demonstration, name), np.dtype(ARRAYS[name])
        if array.dtype != dtype or array.shape != shape or not np.isfinite(array).all():
            return f"'{name}' must be finite {dtype} {shape}, is {array.dtype} {array.shape}"
    norms = np.linalg.norm(np.concatenate([demonstration.tool[:, 3:7], demonstration.targets[:, 3:7]]), axis=1)
    if (np.abs(norms - 1.0) > QUATERNION_TOLERANCE).any():
        return f"its quaternions must have norm 1, one has {norms[np.abs(norms - 1.0).argmax()]:.4f}"
    openings = np.concatenate([demonstration.openings, demonstration.targets[:, 7]])
    if (openings < 0.0).any() or (openings > 1.0).any():
        return f"gripper openings must lie in [0, 1], they reach from {openings.min():.3f} to {openings.max():.3f}"
    if not isinstance(demonstration.task, str):
        return f"'task' must be a name, is {demonstration.task!r:.60}"
    return ""
