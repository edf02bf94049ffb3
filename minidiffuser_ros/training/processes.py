"""One process or several that learn together: each takes its rows of the same batch, gradients are averaged.

Launched by `torchrun`; Lightning Fabric finds the others (gloo on the CPU, nccl on CUDA) and the device.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """This process, alone."""

    rank, count = 0, 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def rows(self, batch_size: int) -> range:
        """The rows of a batch that fall to this process; equal parts, so that the mean of means is the mean."""
        if batch_size % self.count:
            raise ConfigurationError(
                f"batch_size {batch_size} does not split into equal parts for {self.count} processes: use a multiple"
            )
        share = batch_size // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their means over all processes, in place; alone they are that already."""

    def close(self) -> None:
        """Leave the others in order, after the last step."""


class FabricProcesses(Processes):
    """One of several, as Lightning Fabric sees it."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.device, self.rank, self.count = fabric.device, fabric.global_rank, fabric.world_size

    def average(self, tensors: Sequence[Tensor]) -> None:
        # One collective of fixed order instead of buckets that are rebuilt after the first step: the sums are then
        # the same after a resume. At this size of network there is little to overlap.
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        flat = self._fabric.all_reduce(flat, reduce_op="mean")
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def close(self) -> None:
        self._fabric.barrier()
        torch.distributed.destroy_process_group()


def join_processes(device: str) -> Processes:
    """The processes that `torchrun` started, or this one alone. Raises ConfigurationError where Fabric is missing."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes(device)
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise ConfigurationError(
            "several processes need Lightning Fabric: pip install 'minidiffuser_ros[training]', or start one process"
        ) from None
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    accelerator = torch.device(device).type
    fabric = Fabric(accelerator=accelerator, strategy="ddp", devices=local, num_nodes=world // local)
    fabric.launch()
    return FabricProcesses(fabric)
