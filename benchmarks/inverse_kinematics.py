"""How often the inverse kinematics finds a posture, and what it costs in evaluations of the forward kinematics.

    python benchmarks/inverse_kinematics.py
    python benchmarks/inverse_kinematics.py --model fer --poses 2000

The poses are those of joints drawn evenly inside the limits, the tool above the table; the search begins at home.
`solved`: within 0.1 mm and 0.05 degrees; `at once`: by the first search, the one that keeps the posture near its seed.
A time is given as a multiple of one forward evaluation on the same machine, for poses in reach, and for poses beyond
the arm's limits that no search can reach.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, Array, FrankaKinematics
from minidiffuser_ros.arm.model import ARM_MODELS, FR3, arm_model
from minidiffuser_ros.geometry.rotation import angle_between_deg
from minidiffuser_ros.geometry.transform import pose_of

POSITION_M, ROTATION_DEG = 1e-4, 0.05
OUT_OF_REACH_M = 0.15


def main() -> None:
    """Draw poses, solve, print."""
    args = _arguments()
    arm = FrankaKinematics(model=arm_model(args.model))
    targets = reachable_poses(arm, args.poses, args.seed)
    unit_s = _forward_s(arm)
    solved, at_once, times = 0, 0, []
    for target in targets:
        begin = time.perf_counter()
        joints = arm.inverse(target, HOME_JOINTS)
        times.append((time.perf_counter() - begin) / unit_s)
        solved += joints is not None and lands(arm, joints, target)
        at_once += arm.inverse(target, HOME_JOINTS, seed_only=True) is not None
    far = []
    for target in targets[: max(1, args.poses // 20)]:
        begin = time.perf_counter()
        arm.inverse(_pushed_out(target), HOME_JOINTS)
        far.append((time.perf_counter() - begin) / unit_s)
    print(f"{args.poses} poses of {args.model}, seed {args.seed}")
    print(f"solved   {solved / len(targets):8.2%}")
    print(f"at once  {at_once / len(targets):8.2%}")
    print(f"median   {np.median(times):8.0f} forward evaluations")
    print(f"95 %     {np.percentile(times, 95):8.0f}")
    print(f"longest  {np.max(times):8.0f}")
    print(f"out of reach, median {np.median(far):.0f}, longest {np.max(far):.0f}")


def reachable_poses(arm: FrankaKinematics, count: int, seed: int) -> list[Array]:
    """`T_base_tool` [4, 4] of joints drawn evenly inside the limits, the tool above the table."""
    rng = np.random.default_rng(seed)
    poses: list[Array] = []
    while len(poses) < count:
        pose = arm.forward(rng.uniform(*arm.limits))
        if pose[2, 3] > 0.0:
            poses.append(pose)
    return poses


def lands(arm: FrankaKinematics, joints: Array, target: Array) -> bool:
    """Whether joints [7] have the tool at the target `T_base_tool` [4, 4]."""
    (position, quat), (wanted, wanted_quat) = pose_of(arm.forward(joints)), pose_of(target)
    near = float(np.linalg.norm(position - wanted)) < POSITION_M
    return near and float(angle_between_deg(quat, wanted_quat)) < ROTATION_DEG


def _pushed_out(target: Array) -> Array:
    """The same orientation, a little farther from the shoulder than anything reaches."""
    far = target.copy()
    outwards = target[:3, 3] - (0.0, 0.0, 0.333)
    length = max(float(np.linalg.norm(outwards)), 1e-6)
    far[:3, 3] += (0.86 + OUT_OF_REACH_M - length) * outwards / length
    return far


def _forward_s(arm: FrankaKinematics, count: int = 2000) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        arm.forward(HOME_JOINTS)
    return (time.perf_counter() - begin) / count


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(ARM_MODELS), default=FR3.name)
    parser.add_argument("--poses", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
