"""What it costs and brings to doubt a pruned walk's answer: normal scenes, shifts, and masks that are bad.

python benchmarks/fallback.py runs/mine --json out/fallback.json
python benchmarks/fallback.py runs/mine --scenarios none bad-random --episodes 50

RUN needs a pruner and a calibration (`minidiffuser prune`). Every scenario is a shift of `simulation/shifts.py` with
the trained pruner, or scenes as in training with a mask that prunes badly: `bad-random` reuses 91 % at random,
`bad-uniform` computes every 7th step and not the last. Each is played three times with the same seeds: believing
everything, falling back where there is doubt, and by the whole walk alone. A stopped run with --json goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from minidiffuser_ros.contract.errors import CheckpointError, InstructionError, UnknownTaskError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.evaluation.rollout import Scene, roll_out
from minidiffuser_ros.evaluation.statistics import wilson_interval
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.policy.checkpoint import WEIGHTS
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.policy.pruned import PrunedWalks
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.policy.trust import Trust
from minidiffuser_ros.pruning.schedules import random_schedule, uniform_schedule
from minidiffuser_ros.simulation.shifts import SHIFTS, shift_named
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.tasks import make_task

BAD = ("bad-random", "bad-uniform")
METHODS = ("believed", "fallback", "whole")


@dataclass(frozen=True)
class Row:
    """One scenario played by one method. fell_back: share of the decisions; milliseconds: of denoising and checking."""

    scenario: str
    method: str
    episodes: int
    success: float
    low: float
    high: float
    decisions: int
    fell_back: float
    denoise_ms_p50: float
    denoise_ms_mean: float
    reasons: dict[str, int] = field(default_factory=dict)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a trained policy with pruner and calibration")
    parser.add_argument("--scenarios", nargs="+", choices=[*SHIFTS, *BAD], default=[*SHIFTS, *BAD])
    parser.add_argument("--tasks", nargs="+", help="default: those of its demonstrations")
    parser.add_argument("--episodes", type=int, default=25, help="scenes a task (default: 25)")
    parser.add_argument("--seed", type=int, default=200_000, help="first test seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        policy = Policy.load(args.policy, args.device)
        walks, trust = PrunedWalks.load(args.policy, policy), Trust.load(args.policy, policy)
    except CheckpointError as error:
        raise SystemExit(str(error)) from None
    tasks = args.tasks or sorted(json.loads((args.policy / "training.json").read_text())["demonstrations"])
    owner, rows = _owner(args, tasks), []
    if args.json and args.json.exists() and (kept := json.loads(args.json.read_text()))["owner"] == owner:
        rows = [Row(**row) for row in kept["rows"]]
    print(f"{'scenario':<14}{'method':<10}{'success':>17}{'fell back':>11}{'ms p50':>8}{'mean':>8}  doubted by")
    for scenario in args.scenarios:
        able = [task for task in tasks if _has(task, scenario)]
        for method in METHODS if able else ():
            row = next((r for r in rows if (r.scenario, r.method) == (scenario, method)), None)
            if row is None:
                row = _played(policy, walks, trust, scenario, method, able, args)
                rows.append(row)
            print(_line(row), flush=True)
            if args.json:
                text = json.dumps({"owner": owner, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
                replace_file(args.json, lambda path, text=text: path.write_text(text))  # type: ignore[misc]


def _shift(scenario: str) -> str:
    return "none" if scenario in BAD else scenario


def _has(task: str, scenario: str) -> bool:
    """Whether a task has such scenes; those of one object have no new combinations."""
    try:
        make_task(task).check_variation(None, shift_named(_shift(scenario)))
    except UnknownTaskError:
        return False
    return True


def _owner(args: argparse.Namespace, tasks: list[str]) -> dict[str, object]:
    """What must be the same for figures to be kept."""
    digest = hashlib.sha256(b"".join((args.policy / part / WEIGHTS).read_bytes() for part in (".", "pruner", "trust")))
    return {"policy": digest.hexdigest(), "tasks": tasks, "episodes": args.episodes, "seed": args.seed}


def _played(
    policy: Policy, walks: PrunedWalks, trust: Trust, scenario: str, method: str, tasks: list[str],
    args: argparse.Namespace,
) -> Row:  # fmt: skip
    whole = Walk(trust.config.sampler)
    policy.plan = (lambda condition: whole) if method == "whole" else _plan(policy, walks, scenario)
    policy.doubt = trust.doubt if method == "fallback" else lambda condition, proposal: None
    world: Tabletop = shared_world(policy.spec)
    shift = _shift(scenario)
    decisions: list[Decision] = []
    scenes = [Scene(task, args.seed + index, shift) for task in tasks for index in range(args.episodes)]
    done = played = 0
    for scene in tqdm(scenes, desc=f"{scenario} {method}", unit="scene", leave=False):
        with contextlib.suppress(InstructionError):  # a sentence that is unlike all that it knows: nothing is decided
            done += roll_out(world, policy, scene, decisions.append).success
        played += 1
    reasons = [decision.doubt.split()[0] for decision in decisions if decision.doubt]
    times = [decision.denoise_ms for decision in decisions] or [0.0]
    return Row(
        scenario, method, played, done / played, *wilson_interval(done, played), len(decisions),
        len(reasons) / max(1, len(decisions)), statistics.median(times), statistics.fmean(times),
        {name: reasons.count(name) for name in sorted(set(reasons))},
    )  # fmt: skip


def _plan(policy: Policy, walks: PrunedWalks, scenario: str) -> Callable[[Condition], Walk]:
    """The pruner's walks, or a bad one for all."""
    if scenario not in BAD:
        return walks.walk
    sampler = walks.config.sampler
    units = policy.sampler.units(sampler)
    random = random_schedule(units, 0.91, torch.Generator().manual_seed(0))
    walk = Walk(sampler, random) if scenario == "bad-random" else Walk(sampler, uniform_schedule(units, 7), False)
    return lambda condition: walk


def _line(row: Row) -> str:
    success = f"{row.success:.0%} {row.low:.0%}-{row.high:.0%}"
    reasons = ", ".join(f"{name} {count}" for name, count in row.reasons.items())
    return (
        f"{row.scenario:<14}{row.method:<10}{success:>17}{row.fell_back:>11.1%}{row.denoise_ms_p50:>8.1f}"
        f"{row.denoise_ms_mean:>8.1f}  {reasons}"
    )


if __name__ == "__main__":
    main()
