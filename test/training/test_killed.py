"""Whatever kills a training, and whenever: started again it ends where an undisturbed one does."""

from __future__ import annotations

import multiprocessing
import random
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import killed_training
import pytest
import torch
from killed_training import CURVE, LONG

KILLS = 10


def started(context: ForkServerContext, folder: Path) -> ForkServerProcess:
    process = context.Process(target=killed_training.run, args=(folder,))
    process.start()
    return process


def lines(folder: Path) -> list[str]:
    """The whole lines of a curve; a kill may cut the last one."""
    path = folder / CURVE
    return path.read_text().split("\n")[:-1] if path.exists() else []


def kill_after_next_step(process: ForkServerProcess, folder: Path, delay_s: float) -> None:
    """Wait until the process has made a step, then `delay_s`, then SIGKILL."""
    before, deadline = len(lines(folder)), time.monotonic() + 30.0
    while len(lines(folder)) == before and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay_s)
    process.kill()
    process.join()


@pytest.mark.slow
def test_a_training_killed_at_random_moments_ends_bit_for_bit_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    rng = random.Random(0)
    context = multiprocessing.get_context("forkserver")
    # The server imports once what takes long (the optimiser brings dynamo); it does not know this folder.
    context.set_forkserver_preload(["minidiffuser_ros.training.loop", "torch._dynamo"])
    folders = whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    undisturbed = started(context, whole)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    step_s = torch.load(whole / "resume.pt", weights_only=True)["seconds"] / LONG.steps
    exits = []
    for _ in range(KILLS):
        process = started(context, killed)
        kill_after_next_step(process, killed, rng.uniform(0.0, 3.0) * step_s)
        exits.append(process.exitcode)
    assert exits == [-9] * KILLS
    last = started(context, killed)
    last.join()
    assert last.exitcode == 0

    curves = [dict(line.split(" ", 1) for line in lines(folder)) for folder in folders]
    assert curves[0] == curves[1]
    assert len(curves[0]) == LONG.steps
    assert len(set(lines(killed))) == LONG.steps, "a step that was repeated gave another loss"
    states = [torch.load(folder / "resume.pt", weights_only=True) for folder in folders]
    for part in ("network", "average"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items())
    moments = [state["optimizer"]["state"] for state in states]
    for index, first in moments[0].items():
        assert all(torch.equal(value, moments[1][index][name]) for name, value in first.items())
    assert (whole / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()
