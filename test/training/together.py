"""What each of several processes does for the test of their laws; started by torchrun with a folder to write into."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from small import CONFIG, small_data, small_trainer

from minidiffuser_ros.training.loop import Watch, train
from minidiffuser_ros.training.processes import Processes, join_processes


def gradients(processes: Processes) -> dict[str, torch.Tensor]:
    """Of the first step, with the losses beside them."""
    trainer = small_trainer(small_data(), CONFIG, processes)
    losses = trainer.gradients(trainer.batch(0))
    found = {name: p.grad.clone() for name, p in trainer.network.named_parameters() if p.grad is not None}
    return {**found, **{f"loss.{name}": torch.tensor(value) for name, value in losses.items()}}


def train_whole_and_in_two_parts(processes: Processes, folder: Path) -> None:
    """The same training twice, the second one stopped after its third step and resumed."""
    data = small_data()
    whole = small_trainer(data, CONFIG, processes)
    curve: list[list[float]] = []
    watch = Watch(on_step=lambda step, losses, learning_rate: curve.append(list(losses.values())))
    train(whole, folder / f"whole_{processes.rank}", watch=watch)

    def stop(step: int, losses: dict[str, float], learning_rate: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    try:
        # Both are stopped here; where one is killed, torchrun ends the other.
        train(small_trainer(data, CONFIG, processes), folder / "parts", watch=Watch(on_step=stop))
    except KeyboardInterrupt:
        processes.average([torch.zeros(1)])  # wait until the first one has written
    again = small_trainer(data, replace(CONFIG, checkpoint_every=1), processes)
    again.resume(folder / "parts")
    assert again.step_number == 3
    processes.average([torch.zeros(1)])  # nobody writes before all have read
    train(again, folder / f"again_{processes.rank}")
    same = all(torch.equal(v, again.network.state_dict()[name]) for name, v in whole.network.state_dict().items())
    end = {"same": same, "curve": torch.tensor(curve), "weights": whole.network.state_dict()}
    torch.save(end, folder / f"end_{processes.rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    joined = join_processes("cpu")
    torch.save({"count": joined.count, "gradients": gradients(joined)}, out / f"first_{joined.rank}.pt")
    train_whole_and_in_two_parts(joined, out)
    joined.close()
