"""Two threads that train one network together, each with half of every batch.

By itself torch shares the work of each operation among its threads, which then wait for each other
some hundred times a step; between the operations only one of them works. Threads with half a batch
each meet twice a step. ``examples/benchmark.py --only threads`` measures both.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

FEWEST_IMAGES = 64
"""Of half a batch, for batch norm takes its statistics from these alone."""

T = TypeVar("T")


class Crew:
    """Who does the work: the calling thread, or another one beside it.

    Args:
        other: runs the second thread; None if there is none.
    """

    def __init__(self, other: ThreadPoolExecutor | None = None) -> None:
        self._other = other
        self.count = 2 if other else 1

    def run(self, work: Callable[[int], T]) -> list[T]:
        """``work(rank)`` of every thread at once, in the order of their ranks.

        What is raised in either is raised here, after both have ended.
        """
        if self._other is None:
            return [work(0)]
        future = self._other.submit(work, 1)
        try:
            own = work(0)
        finally:
            future.exception()  # waits
        return [own, future.result()]

    def map(self, function: Callable[[Tensor], Tensor], values: Iterable[Tensor]) -> list[Tensor]:
        """``function`` of each tensor, with about as many elements for every thread."""
        values = list(values)
        shares: list[list[int]] = [[] for _ in range(self.count)]
        loads = [0] * self.count
        for index in sorted(range(len(values)), key=lambda index: -values[index].numel()):
            least = loads.index(min(loads))
            shares[least].append(index)
            loads[least] += values[index].numel()
        results = self.run(lambda rank: [function(values[index]) for index in shares[rank]])
        found = {
            index: result
            for share, own in zip(shares, results, strict=True)
            for index, result in zip(share, own, strict=True)
        }
        return [found[index] for index in range(len(values))]


def threads_that_pay(model: nn.Module, batch_size: int) -> int:
    """2 if two threads with half a batch each train this network faster, else 1.

    That was measured on two cores, so more are not split up. Two threads would draw from torch's
    one random generator in any order, so a network with dropout isn't shared.
    """
    draws = any(isinstance(module, _DropoutNd) for module in model.modules())
    pays = torch.get_num_threads() == 2 and batch_size >= 2 * FEWEST_IMAGES and not draws
    return 2 if pays else 1


@contextlib.contextmanager
def gather_crew(threads: int) -> Iterator[Crew]:
    """A crew of one or two threads, which ends with this block.

    In a crew of two each thread computes torch's operations by itself.
    """
    if threads == 1:
        yield Crew()
        return
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as other:
        torch.set_num_threads(1)
        try:
            yield Crew(other)
        finally:
            torch.set_num_threads(before)


class Copies:
    """A network and, for the second thread, a copy of it; they share their weights, no more.

    Args:
        model: of the first thread.
        count: how many threads there are, one or two.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        self.models = [model, *(copy.deepcopy(model) for _ in range(count - 1))]
        for other in self.models[1:]:
            for own, shared in zip(other.parameters(), model.parameters(), strict=True):
                own.data = shared.data

    @torch.no_grad()
    def join(self) -> None:
        """Add the gradients up in the first network, and give both the mean of the statistics."""
        if len(self.models) == 1:
            return
        model, other = self.models
        for weight, theirs in zip(model.parameters(), other.parameters(), strict=True):
            if weight.grad is not None and theirs.grad is not None:
                weight.grad += theirs.grad
            theirs.grad = None
        for mean, own in zip(model.buffers(), other.buffers(), strict=True):
            if mean.is_floating_point():  # batch norm's count of batches is the same in both
                mean.lerp_(own, 0.5)
                own.copy_(mean)
