"""Batches of hard examples for a training loop of one's own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler

from fmnist_aug.checks import whole_number
from fmnist_aug.distributed import Processes
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.sampler import AugmentationSampler


class HardExampleBatchSampler(BatchSampler):
    """Batches of those draws on which the network did worst when it last saw the image.

    What ``fmnist-aug``'s own engine does with a plan that keeps a share of the draws: as long as
    `ConfusionPlan.keep_after` says, all draws are trained on; from then on a batch is chosen from
    ``batch_size / plan.keep`` draws, by the losses that the loop tells with `record`. An image
    whose loss is not known counts as hard. The epochs are then shorter, so a comparison at equal
    steps takes more of them.

    In a process group (``torchrun``), made after the group was, each process gets its share of a
    batch of ``batch_size`` draws for each, and `record`, which all must call, joins what they tell:
    together they see what one process with so large batches would. As with torch's
    ``DistributedSampler``, a batch that can't be divided repeats its first draws.

    It belongs into ``DataLoader(…, batch_sampler=…)``, one at a time, that gives the batches in
    order, as is usual. Its workers fetch ahead, so the newest losses are then some batches old, and
    another number of workers gives other batches; the same number gives the same.

    Args:
        sampler: makes the draws, by a plan whose ``keep`` says how many of them are trained on.
        batch_size: draws in a batch, of each process.
        drop_last: leave out what remains of an epoch for less than a batch.

    Raises:
        UsageError: ``batch_size`` is below 1, or the sampler is another kind.

    >>> from fmnist_aug import ConfusionPlan
    >>> plan = ConfusionPlan.empty(("a", "b"), keep=0.5)
    >>> batches = HardExampleBatchSampler(AugmentationSampler([0, 0, 1, 1], plan), batch_size=2)
    >>> for epoch in range(2):
    ...     batches.set_epoch(epoch)
    ...     for images in batches:
    ...         batches.record([0.1 * image for image in images])
    >>> len(batches), sorted(images)
    (1, [2, 3])
    """

    sampler: AugmentationSampler

    def __init__(
        self, sampler: AugmentationSampler, batch_size: int, drop_last: bool = False
    ) -> None:
        if not isinstance(sampler, AugmentationSampler):
            raise UsageError(
                f"an AugmentationSampler must make the draws, not a {type(sampler).__name__}"
            )
        super().__init__(sampler, whole_number(batch_size, "batch_size", 1), drop_last)
        self.hard = HardExamples(len(sampler.labels), torch.device("cpu"))
        self._processes = Processes.joined()
        self._waiting: deque[tuple[Tensor, int]] = deque()
        self._done = (sampler.epoch, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, of the sampler as well."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches in the current epoch."""
        return sum(1 for _ in self._groups(0))

    def __iter__(self) -> Iterator[list[int]]:
        self._waiting.clear()  # of a pass that was broken off
        draws = iter(self.sampler)
        done = self.sampler.state_dict()["consumed"]
        self._done = self.sampler.epoch, done
        return self._batches(draws, done)

    def record(self, losses: Any) -> None:
        """Tell the losses of the earliest batch whose losses were not told yet.

        Args:
            losses: float (batch,), each draw's loss in the batch's order, on any device that the
                process group can use, as ``cross_entropy(…, reduction="none")`` gives them. NaN is
                as good as not known.

        Raises:
            UsageError: there is no such batch, or it has another size.
        """
        if not self._waiting:
            raise UsageError("no batch waits for losses; call record once for each batch")
        indices, draws = self._waiting[0]
        told = torch.as_tensor(losses).detach().flatten().float()
        expected = len(indices) // self._processes.count
        if len(told) != expected:
            raise UsageError(
                f"the batch has {expected} images, but the losses are {len(told)}; compute "
                'them with reduction="none"'
            )
        self._waiting.popleft()
        told = self._processes.gather(told, len(indices)).cpu()
        self.hard.record(indices, torch.where(told.isnan(), torch.inf, told))
        epoch, done = self._done
        self._done = epoch, done + draws

    def state_dict(self) -> dict[str, Any]:
        """Where it is: after the last batch whose losses were told. For ``torch.save``."""
        epoch, done = self._done
        consumed = done if epoch == self.sampler.epoch else 0
        return {
            "sampler": self.sampler.state_dict(consumed),
            "losses": self.hard.losses.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next iteration yields the rest of that epoch.

        Raises:
            DataError: the state is of another number of images or draws, of another seed, or no
                state. Nothing is changed then.
        """
        losses = state.get("losses")
        if not isinstance(losses, Tensor) or losses.shape != self.hard.losses.shape:
            raise DataError(
                f"the state holds no losses of {len(self.hard.losses)} images; load what "
                "state_dict gave with the same data"
            )
        self.sampler.load_state_dict(state.get("sampler", {}))
        self.hard.losses.copy_(losses)
        self._waiting.clear()
        self._done = self.sampler.epoch, state["sampler"]["consumed"]

    def _batches(self, draws: Iterator[int], done: int) -> Iterator[list[int]]:
        processes = self._processes
        for count, size in self._groups(done):
            candidates = list(islice(draws, count))
            indices = torch.tensor(candidates)
            places = torch.arange(count)
            if size < count:
                self._check_losses(indices)
                places = self.hard.choose(indices, size)
            places = places[torch.arange(-(-size // processes.count) * processes.count) % size]
            self._waiting.append((indices[places], count))
            yield [candidates[place] for place in places[processes.share].tolist()]

    def _groups(self, done: int) -> Iterator[tuple[int, int]]:
        """From how many draws each batch of all processes is chosen, and how many it takes."""
        plan, length, epoch = self.sampler.plan, len(self.sampler), self.sampler.epoch
        whole = self.batch_size * self._processes.count
        while done < length:
            every = epoch + done / length < plan.keep_after
            wanted = whole if every else round(whole / plan.keep)
            count = min(wanted, length - done)
            if count < wanted and self.drop_last:
                return
            yield count, max(1, round(count * whole / wanted))
            done += count

    def _check_losses(self, candidates: Tensor) -> None:
        losses = self.hard.losses
        # the candidates first: they are few, and as a rule tell it
        unknown = (bool(values.isinf().all()) for values in (losses[candidates], losses))
        if self.sampler.epoch and all(unknown):
            raise UsageError(
                f"no losses are known in epoch {self.sampler.epoch}, so hard examples can't be "
                "told; call record(losses) after each batch, and load_state_dict to go on"
            )
