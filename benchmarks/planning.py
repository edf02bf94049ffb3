"""How often and how fast the planner finds a way in simulated scenes, and the same search by ompl beside it.

    python benchmarks/planning.py
    python benchmarks/planning.py --count 30 --without-ompl --json planning.json

First the whole question (`plan_pose`: postures, search, shortening, checks), each path checked again at 0.01 rad by the
simulation's own model against what is really there. Then, for those questions whose postures cannot be reached
straight, search and shortening alone: RRT-Connect of this package and of ompl (with its shortcuts, as many tries),
both with the collision model as validity checker, asked for whole edges; and ompl asking state by state, as its Python
examples do. Times are of the processor, so that what runs beside counts little; both orders alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from planning_scenes import OPENING, Question, make_questions
from tqdm import tqdm

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.planning.planner import MOST_POSTURES, MotionPlanner, PlanningSettings
from minidiffuser_ros.arm.planning.postures import PostureSearch
from minidiffuser_ros.arm.planning.rrt_connect import EdgeFree, Search, rrt_connect
from minidiffuser_ros.arm.planning.shortcut import length_of, shorten
from minidiffuser_ros.contract.errors import PlanningError

Array = NDArray[np.float64]
Find = Callable[[Array, Array], Array | None]

LIMIT_S = 5.0


@dataclass(frozen=True)
class Answer:
    """To one question. cpu_ms, wall_ms: what it took. seen, unseen: what touched when checked again."""

    kind: str
    solved: bool
    cpu_ms: float
    wall_ms: float
    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


def ask(planner: MotionPlanner, question: Question) -> Answer:
    """Plan, then check what was planned against the truth."""
    planner.collision.set_obstacles(question.obstacles)
    wall, cpu = time.perf_counter(), time.thread_time()
    try:
        path = planner.plan_pose(question.start, question.goal, OPENING)
    except PlanningError:
        return Answer(question.kind, False, 1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - wall))
    cpu_ms, wall_ms = 1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - wall)
    seen, unseen = question.truth.contacts(path.joints)
    return Answer(question.kind, True, cpu_ms, wall_ms, tuple(seen), tuple(unseen))


def main() -> None:
    """Make the questions, ask them, print."""
    args = _arguments()
    planner = MotionPlanner()
    questions = list(tqdm(make_questions(args.count, args.first), total=args.count, desc="scenes", unit="scene"))
    answers = [ask(planner, question) for question in tqdm(questions, desc="planning", unit="path")]
    report = _summary(questions, answers)
    _print_summary(report)
    if not args.without_ompl:
        hard = _hard(planner, questions)
        report["questions_that_need_a_search"] = len(hard)
        report["search"] = _side_by_side(planner, hard)
        _print_search(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="scenes")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--without-ompl", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _summary(questions: list[Question], answers: list[Answer]) -> dict[str, Any]:
    solved = [answer for answer in answers if answer.solved]
    return {
        "questions": len(answers),
        "blocked": sum(question.blocked for question in questions),
        "solved": len(solved),
        "solved_by_kind": {
            kind: [sum(a.solved for a in answers if a.kind == kind), sum(a.kind == kind for a in answers)]
            for kind in sorted({answer.kind for answer in answers})
        },
        "touch_what_was_seen": sum(bool(answer.seen) for answer in solved),
        "touch_what_was_not_seen": sum(bool(answer.unseen) for answer in solved),
        "contacts": sorted({phrase for answer in solved for phrase in (*answer.seen, *answer.unseen)}),
        "cpu_ms": _spread([answer.cpu_ms for answer in answers]),
        "wall_ms": _spread([answer.wall_ms for answer in answers]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p95": float(np.percentile(values, 95)), "max": max(values)}


def _print_summary(report: dict[str, Any]) -> None:
    print(f"{report['questions']} questions, direct path blocked in {report['blocked']}")
    print(
        f"solved {report['solved']} ({report['solved'] / report['questions']:.1%}); by kind {report['solved_by_kind']}"
    )
    print(
        f"checked again at 0.01 rad: {report['touch_what_was_seen']} touch what was seen, "
        f"{report['touch_what_was_not_seen']} what was not {report['contacts'] or ''}"
    )
    for name in ("cpu_ms", "wall_ms"):
        print(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in report[name].items()))


def _hard(planner: MotionPlanner, questions: list[Question]) -> list[tuple[Question, Array]]:
    """Questions no posture of which is reached straight, with the free postures [G, 7] of their goals."""
    settings = planner.settings
    arm = FrankaKinematics(margin=SafetyLimits().joint_margin)
    postures, hard = PostureSearch(arm, settings.postures, settings.seed), []
    for question in questions:
        planner.collision.set_obstacles(question.obstacles)
        found = postures.of(question.goal, question.start)
        ends = found[planner.collision.free(found, OPENING)][:MOST_POSTURES]
        if len(ends) and not any(planner.collision.edge_free(question.start, end, OPENING) for end in ends):
            hard.append((question, ends))
    return hard


def _side_by_side(planner: MotionPlanner, hard: list[tuple[Question, Array]]) -> dict[str, Any]:
    from ompl import util

    collision, settings = planner.collision, planner.settings

    def edge_free(a: Array, b: Array) -> bool:
        return collision.edge_free(a, b, OPENING, settings.check_rad)

    util.setLogLevel(util.LogLevel.LOG_ERROR)
    util.RNG.setSeed(1)
    finders: dict[str, Find] = {
        "ours": lambda start, ends: _ours(start, ends, edge_free, settings),
        "ompl, whole edges": lambda start, ends: _ompl(start, ends, settings, edge_free=edge_free),
        "ompl, state by state": lambda start, ends: _ompl(
            start, ends, settings, state_free=lambda joints: bool(collision.free(joints[None], OPENING)[0])
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in finders}
    lengths: dict[str, list[float]] = {name: [] for name in finders}
    for number, (question, ends) in enumerate(tqdm(hard, desc="search", unit="path")):
        collision.set_obstacles(question.obstacles)
        for name in list(finders) if number % 2 else reversed(list(finders)):
            started = time.thread_time()
            path = finders[name](question.start, ends)
            times[name].append(1e3 * (time.thread_time() - started))
            good = path is not None and not collision.path_contact(path, OPENING, settings.check_rad)
            lengths[name].append(length_of(path) if path is not None and good else float("nan"))
    return {
        name: {
            "solved": int(np.isfinite(lengths[name]).sum()),
            "cpu_ms": _spread(times[name]),
            "time_ratio_to_ours": statistics.median(a / b for a, b in zip(times[name], times["ours"], strict=True)),
            "length_ratio_to_ours": float(np.nanmedian(np.array(lengths[name]) / np.array(lengths["ours"]))),
        }
        for name in finders
    }


@cache
def _limits() -> tuple[Array, Array]:
    return FrankaKinematics(margin=SafetyLimits().joint_margin).limits


def _ours(start: Array, ends: Array, edge_free: EdgeFree, settings: PlanningSettings) -> Array | None:
    low, high = _limits()
    until = time.monotonic() + LIMIT_S
    rng = np.random.default_rng(settings.seed)
    search = Search(low, high, edge_free, settings.step_rad, settings.max_rounds, lambda: time.monotonic() > until)
    found = rrt_connect(start, ends, search, rng)
    return None if found is None else shorten(found, edge_free, settings.shortcuts, rng)


def _ompl(
    start: Array,
    ends: Array,
    settings: PlanningSettings,
    edge_free: EdgeFree | None = None,
    state_free: Callable[[Array], bool] | None = None,
) -> Array | None:
    from ompl import base, geometric

    space = base.RealVectorStateSpace(7)
    bounds = base.RealVectorBounds(7)
    for joint, (low, high) in enumerate(zip(*_limits(), strict=True)):
        bounds.setLow(joint, float(low))
        bounds.setHigh(joint, float(high))
    space.setBounds(bounds)
    information = base.SpaceInformation(space)
    if state_free is not None:
        information.setStateValidityChecker(lambda state: state_free(_joints(state)))
        # A fraction of the space's extent; the same spacing in the largest joint at the least.
        information.setStateValidityCheckingResolution(settings.check_rad / information.getMaximumExtent())
    else:
        assert edge_free is not None
        information.setStateValidityChecker(lambda state: True)

        class Edges(base.MotionValidator):  # type: ignore[misc]
            def checkMotion(self, first: Any, second: Any) -> bool:
                return edge_free(_joints(first), _joints(second))

        information.setMotionValidator(Edges(information))
    setup = geometric.SimpleSetup(information)
    setup.setStartState(_state(space, start))
    goal = base.GoalStates(information)
    for end in ends:
        goal.addState(_state(space, end))
    setup.setGoal(goal)
    planner = geometric.RRTConnect(information)
    planner.setRange(settings.step_rad)
    setup.setPlanner(planner)
    if not setup.solve(LIMIT_S) or not setup.haveExactSolutionPath():
        return None
    path = setup.getSolutionPath()
    simplifier = geometric.PathSimplifier(information)
    simplifier.reduceVertices(path)
    simplifier.partialShortcutPath(path, settings.shortcuts)
    return np.array([_joints(path.getState(i)) for i in range(path.getStateCount())])


def _joints(state: Any) -> Array:
    return np.array([state[i] for i in range(7)])


def _state(space: Any, joints: Array) -> Any:
    state = space.allocState()
    for i, value in enumerate(joints):
        state[i] = float(value)
    return state


def _print_search(report: dict[str, Any]) -> None:
    print(f"search and shortening alone, the {report['questions_that_need_a_search']} questions that need it:")
    print(f"{'':>22}{'solved':>8}{'median ms':>11}{'p95 ms':>9}{'time':>7}{'length':>8}")
    for name, row in report["search"].items():
        print(
            f"{name:>22}{row['solved']:>8}{row['cpu_ms']['median']:>11.1f}{row['cpu_ms']['p95']:>9.1f}"
            f"{row['time_ratio_to_ours']:>7.2f}{row['length_ratio_to_ours']:>8.2f}"
        )


if __name__ == "__main__":
    main()
    # ompl's bindings print pages about objects that they forgot to free.
    sys.stdout.flush()
    os._exit(0)
