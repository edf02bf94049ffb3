"""The machine: Python, torch and its GPU, threads, kernel, clock governor, room on the disk."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minidiffuser_ros.cli.doctor_findings import Finding, State

GROUP = "machine"
OLDEST_PYTHON = (3, 11)
GIGABYTE = 1e9
# A small policy takes a fraction of it; less is left only where something else computes there.
MIN_GPU_MEMORY = 1.0 * GIGABYTE
# Two raw cameras of 640x480 at 15 Hz write 46 MB a second.
LOW_DISK, MIN_DISK = 20.0 * GIGABYTE, 1.0 * GIGABYTE
# What libfranka's documentation sets for the group `realtime`.
RTPRIO, MEMLOCK_KB = 99, 102_400
CPUS = Path("/sys/devices/system/cpu")


def machine_findings(hardware: bool, episodes: Path) -> Iterator[Finding]:
    """hardware: whether a real arm is to be driven from here. episodes: where recordings go."""
    yield python_finding(sys.version_info[:3])
    yield from torch_findings()
    yield threads_finding(os.environ.get("OMP_NUM_THREADS", ""), os.cpu_count() or 1)
    yield governor_finding(CPUS)
    yield kernel_finding(platform.version(), Path("/sys/kernel/realtime"), hardware)
    limits = (resource.getrlimit(resource.RLIMIT_RTPRIO)[0], resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
    yield limits_finding(*limits, hardware)
    yield disk_finding(episodes)


def finding(check: str, state: State, found: str, advice: str = "") -> Finding:
    """One of this group."""
    return Finding(GROUP, check, state, found, advice)


def python_finding(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    text, oldest = ".".join(map(str, version)), ".".join(map(str, OLDEST_PYTHON))
    if version < OLDEST_PYTHON:
        return finding("python", State.FAIL, f"{text}, older than {oldest}", f"install Python {oldest} or later")
    return finding("python", State.OK, text)


def torch_findings() -> Iterator[Finding]:
    """Version, devices, and why a GPU that is there cannot be used."""
    if importlib.util.find_spec("torch") is None:
        yield finding("torch", State.WARN, "not installed: no policy can be trained or run here", "pip install torch")
        return
    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    yield torch_finding(
        str(torch.__version__), torch.version.cuda, usable, " ".join(str(w.message) for w in told),
        Path("/proc/driver/nvidia/version").is_file(), torch.cuda.get_device_name() if usable else "",
    )  # fmt: skip
    if usable:
        yield gpu_memory_finding(*torch.cuda.mem_get_info())
    else:
        yield finding("gpu memory", State.SKIP, "no GPU in use")


def torch_finding(version: str, cuda: str | None, usable: bool, told: str, driver: bool, device: str) -> Finding:
    """cuda: of torch's build, None without. told: what torch warned of. driver: whether NVIDIA's is loaded."""
    if usable:
        return finding("torch", State.OK, f"{version}, CUDA {cuda} on {device}")
    if cuda and driver:
        why = told or "torch finds no device"
        return finding(
            "torch", State.WARN, f"{version} is built for CUDA {cuda}, the driver does not serve it: {why}",
            "update NVIDIA's driver, or install the torch that is built for its CUDA; until then the CPU computes",
        )  # fmt: skip
    if driver:
        return finding(
            "torch", State.WARN, f"{version} without CUDA, but there is an NVIDIA driver",
            "install torch with CUDA to use the GPU; the CPU computes meanwhile",
        )  # fmt: skip
    return finding("torch", State.OK, f"{version} on the CPU")


def gpu_memory_finding(free: int, total: int) -> Finding:
    """Bytes."""
    text = f"{free / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB free"
    if free < MIN_GPU_MEMORY:
        return finding("gpu memory", State.WARN, text, "end what else computes there (nvidia-smi names it)")
    return finding("gpu memory", State.OK, text)


def threads_finding(value: str, cores: int) -> Finding:
    """OMP_NUM_THREADS against the cores."""
    if not value.isdigit() or int(value) < 1:
        given = f"is '{value}'" if value else "is not set"
        return finding(
            "threads", State.WARN, f"OMP_NUM_THREADS {given}: each process takes all {cores} cores and slows the rest",
            "source env.sh, or: export OMP_NUM_THREADS=1",
        )  # fmt: skip
    if int(value) > cores:
        advice = "set it to 1, or at most to the cores"
        return finding("threads", State.WARN, f"OMP_NUM_THREADS is {value} on {cores} cores", advice)
    return finding("threads", State.OK, f"OMP_NUM_THREADS is {value}, {cores} cores")


def governor_finding(cpus: Path) -> Finding:
    """The clock governor of every core below `cpus`."""
    governors = {path.read_text().strip() for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if not governors:
        return finding("cpu governor", State.SKIP, "the kernel tells none (a virtual machine?)")
    text = ", ".join(sorted(governors))
    if governors != {"performance"}:
        return finding(
            "cpu governor", State.WARN, f"{text}: cores slow down between decisions, which a real arm answers with "
            "communication errors", "sudo cpupower frequency-set -g performance",
        )  # fmt: skip
    return finding("cpu governor", State.OK, text)


def kernel_finding(version: str, realtime_file: Path, hardware: bool) -> Finding:
    """Whether the kernel is a real-time one. version: as uname -v says it."""
    if not hardware:
        return finding("real-time kernel", State.SKIP, "only a real arm needs it (--robot-ip)")
    marked = realtime_file.is_file() and realtime_file.read_text().strip() == "1"
    if marked or "PREEMPT_RT" in version.replace("PREEMPT RT", "PREEMPT_RT"):
        return finding("real-time kernel", State.OK, "PREEMPT_RT")
    return finding(
        "real-time kernel", State.WARN, f"this kernel is none ({version})",
        "boot a PREEMPT_RT kernel; without it the arm may stop with communication errors under load",
    )  # fmt: skip


def limits_finding(rtprio: int, memlock: int, hardware: bool) -> Finding:
    """What this user may do: highest real-time priority, and bytes of memory locked (-1: any)."""
    if not hardware:
        return finding("real-time limits", State.SKIP, "only a real arm needs them (--robot-ip)")
    locked = "any memory" if memlock == resource.RLIM_INFINITY else f"{memlock // 1024} kB"
    text = f"rtprio {rtprio}, {locked} locked"
    enough = memlock == resource.RLIM_INFINITY or memlock >= MEMLOCK_KB * 1024
    if (rtprio < RTPRIO and rtprio != resource.RLIM_INFINITY) or not enough:
        return finding(
            "real-time limits", State.WARN, text,
            f"in /etc/security/limits.conf: @realtime - rtprio {RTPRIO} and @realtime - memlock {MEMLOCK_KB}, then "
            "add yourself to the group realtime and log in again",
        )  # fmt: skip
    return finding("real-time limits", State.OK, text)


def disk_finding(folder: Path, usage: Any = shutil.disk_usage) -> Finding:
    """Room where episodes go; the folder need not exist yet. usage: as `shutil.disk_usage`."""
    place = folder.resolve()
    while not place.is_dir():
        place = place.parent
    free = usage(place).free
    text = f"{free / GIGABYTE:.0f} GB free for {folder}"
    if not os.access(place, os.W_OK):
        return finding("disk", State.FAIL, f"{place} cannot be written to", "name another folder with --episodes")
    if free < LOW_DISK:
        state = State.FAIL if free < MIN_DISK else State.WARN
        return finding("disk", state, text, "a minute of two VGA cameras at 15 Hz takes 2.8 GB: free some room")
    return finding("disk", State.OK, text)
