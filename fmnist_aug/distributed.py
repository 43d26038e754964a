"""One training on several processes, as ``torchrun`` starts them.

Every process holds all images and walks the same stream of batches, but takes only its stride of
each: the processes' draws together are the single process's, batch by batch, so the number of
steps and the size of a batch don't change. Gradients are averaged by DistributedDataParallel.
Batch norm uses the statistics of a process's own share, as is usual, so the numbers differ a
little from a single process's; draws and augmentations don't.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fmnist_aug.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Attributes:
        rank: number of this one, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def joined(cls) -> Processes:
        """Those of torch's process group; this one alone where there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def share(self) -> slice:
        """This process's part of a batch."""
        return slice(self.rank, None, self.count)

    def check_batch(self, batch_size: int) -> None:
        """Find out before a training that the batches are too small to be shared.

        Raises:
            UsageError: a process would get fewer than two images, too few for batch norm.
        """
        if batch_size < 2 * self.count:
            raise UsageError(
                f"batches of {batch_size} images can't be shared by {self.count} processes, which "
                "need two each; start fewer processes"
            )

    def wrap(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """The network to call in training; gradients are averaged over the processes."""
        return model if self.count == 1 else DistributedDataParallel(model)

    def weight(self, images: int, batch_size: int) -> float:
        """What to multiply the mean loss of this share by, so that every image counts alike."""
        return images * self.count / batch_size

    def sum(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over the processes, the same in each."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, values: Tensor, batch_size: int) -> Tensor:
        """Values (batch_size,) of a whole batch from those of the shares."""
        if self.count == 1:
            return values
        whole = values.new_zeros(batch_size)
        whole[self.share] = values
        return self.sum(whole)


@contextlib.contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started beside this one; alone if there are none.

    Args:
        device: ``cuda`` gives each process of a machine its own GPU and uses NCCL; others gloo.

    Raises:
        UsageError: there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device == "cuda":
        gpu = int(os.environ["LOCAL_RANK"])
        if gpu >= torch.cuda.device_count():
            raise UsageError(
                f"{torch.cuda.device_count()} GPU(s) can't serve process {gpu} of this machine; "
                "start fewer (--nproc-per-node) or use --device cpu"
            )
        torch.cuda.set_device(gpu)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes.joined()
    finally:
        distributed.destroy_process_group()
