"""Samplers that draw every image once an epoch and those of the planned classes more often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler, Sampler

from fmnist_aug.checks import whole_number
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.labels import check_known, find_labels, kinds
from fmnist_aug.plan import ConfusionPlan


class AugmentedIndex(int):
    """An index that remembers which draw it is; to a data set it is a plain ``int``.

    Attributes:
        epoch: the epoch in which it was drawn.
        copy: 0 for the one regular draw of an epoch, 1, 2, … for extra draws.
    """

    epoch: int
    copy: int

    def __new__(cls, index: int, epoch: int = 0, copy: int = 0) -> AugmentedIndex:
        """Make an index of draw ``copy`` in ``epoch``."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        self.copy = copy
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return AugmentedIndex, (int(self), self.epoch, self.copy)


class _Position:
    """Where a sampler is in its epoch, and how it goes on there."""

    seed: int
    epoch: int
    _start = 0
    _consumed = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def state_dict(self, consumed: int | None = None) -> dict[str, int]:
        """Where the sampler is, as plain JSON values.

        Args:
            consumed: draws of the current epoch that were used up, of this process if there are
                several. By default those that were handed out; a ``DataLoader`` with workers
                fetches ahead, so give batches done × batch size there.
        """
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "consumed": self._consumed if consumed is None else whole_number(consumed, "consumed"),
            "length": len(self),
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken: the next iteration yields the rest of that epoch.

        Raises:
            DataError: the state is of a sampler with another length or seed, or is no state. The
                sampler stays where it was.
        """
        missing = [key for key in ("seed", "epoch", "consumed", "length") if key not in state]
        if missing:
            raise DataError(
                f"the state has no {', '.join(missing)}; load what state_dict of a sampler gave"
            )
        before = self.epoch, self._start, self._consumed
        try:
            self._go_on(state)
        except Exception:
            self.epoch, self._start, self._consumed = before
            raise

    def _go_on(self, state: dict[str, int]) -> None:
        self.set_epoch(state["epoch"])  # on which the length can depend
        if state["seed"] != self.seed or state["length"] != len(self):
            raise DataError(
                f"the state is of a sampler with seed {state['seed']} and {state['length']} draws "
                f"an epoch, this one has seed {self.seed} and {len(self)}; use the same data, "
                "plan and seed"
            )
        consumed = whole_number(state["consumed"], "consumed")
        if consumed > len(self):
            raise DataError(f"the state has used {consumed} of {len(self)} draws")
        self._start = self._consumed = consumed

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; another one forgets a position in mid-epoch."""
        epoch = whole_number(epoch, "epoch")
        if epoch != self.epoch:
            self._start = self._consumed = 0
        self.epoch = epoch

    def _begin(self, indices: NDArray[np.int64], copies: NDArray[np.int64]) -> Iterator[int]:
        self._consumed = self._start
        return self._draws(indices[self._start :], copies[self._start :], self.epoch)

    def _draws(
        self, indices: NDArray[np.int64], copies: NDArray[np.int64], epoch: int
    ) -> Iterator[int]:
        # only now: a DataLoader with workers asks for an iterator that it throws away, then another
        self._start = 0
        for index, copy in zip(indices.tolist(), copies.tolist(), strict=True):
            self._consumed += 1
            yield AugmentedIndex(index, epoch, copy)


class AugmentationSampler(_Position, Sampler[int]):
    """Draws every image once an epoch, and extra copies of the classes that a plan targets.

    The number of extra draws of a class with ``n`` images is ``round(w · n)``, where ``w`` is the
    plan's ``extra_draws`` for that class, but 0 if all labels are of one class; they are drawn
    without replacement until all images of the class were drawn. Where the plan weighs single
    images, an image is drawn as often as its weight says, rounded up or down by chance. Where the
    plan's extra draws start, grow or stop with time, they lie in that part of an epoch. The order
    is a function of (seed, epoch) alone. Call `set_epoch` before each epoch, as with torch's
    ``DistributedSampler``; otherwise each epoch repeats the last.

    Yields `AugmentedIndex`, an ``int`` that works with any map-style data set and tells an
    `AugmentedDataset` which draw it is.

    Args:
        labels: int (N,), or a data set whose labels can be found without decoding images.
        plan: which classes get how many extra draws.
        seed: another seed gives another order.
        num_samples: at most so many draws an epoch, for those who need equal lengths. Only then
            may images be left out of an epoch.
        epochs: length of the training, which need not be whole, for a plan whose extra draws
            start, grow or stop with time. The length is then that of the current epoch.

    Raises:
        DataError: the labels can't be found, or the plan has fewer classes than the labels, or
            weights for another number of images.
        UsageError: a negative seed, ``num_samples`` below 1, ``epochs`` missing, a plan that is
            refreshed, or an `AugmentedDataset` inside a ``Subset`` or ``ConcatDataset``.

    >>> plan = ConfusionPlan(("a", "b"), (), (0.5, 0.0), "none", "an example")
    >>> sampler = AugmentationSampler([0, 0, 1, 1], plan)
    >>> len(sampler), sorted(set(sampler))
    (5, [0, 1, 2, 3])
    """

    def __init__(
        self,
        labels: Any,
        plan: ConfusionPlan,
        *,
        seed: int = 0,
        num_samples: int | None = None,
        epochs: float | None = None,
    ) -> None:
        _check_outermost(labels)
        self.labels = find_labels(labels)
        self.plan = plan
        self.seed = whole_number(seed, "seed")
        self.num_samples = (
            None if num_samples is None else whole_number(num_samples, "num_samples", 1)
        )
        self.epochs = epochs
        self.epoch = 0
        if plan.refresh_every:
            raise UsageError(
                "the plan is refreshed by what the network predicts during the training, which a "
                "sampler can't know; train with fmnist-aug's own engine, or use "
                "dataclasses.replace(plan, refresh_every=0)"
            )
        if plan.changes_with_time and not (epochs is not None and epochs > 0):
            raise UsageError(
                "the plan's extra draws change during the training; give its length (epochs=…)"
            )
        check_known(self.labels, len(plan.class_names))
        self._weights = _image_weights(plan, len(self.labels))
        counts = np.bincount(self.labels, minlength=len(plan.class_names))
        self._several = np.count_nonzero(counts) > 1  # with one there is nothing to tell apart
        self._members = [np.flatnonzero(self.labels == label) for label in range(len(counts))]
        self.extras_per_class = self._extras(1.0)
        """Extra draws of each class in an epoch, where the plan is in full force."""

    def _extras(self, share: float) -> tuple[int, ...]:
        if not self._several:
            return (0,) * len(self._members)
        return tuple(
            0
            if self._weights is not None and not self._weights[members].any()
            else round(share * draws * len(members))
            for draws, members in zip(self.plan.extra_draws, self._members, strict=True)
        )

    def _extras_in(self, epoch: int) -> tuple[int, ...]:
        if not self.plan.changes_with_time:
            return self.extras_per_class
        first, last = self._share_until(epoch), self._share_until(epoch + 1)
        return self._extras((last - first) * (self.epochs or 1.0))

    def _share_at(self, moment: float) -> float:
        return self.plan.share_at(moment / (self.epochs or 1.0))

    def _share_until(self, moment: float) -> float:
        return self.plan.share_until(moment / (self.epochs or 1.0))

    def __len__(self) -> int:
        """Draws in the current epoch; all epochs are alike unless the plan changes with time."""
        return self.length_in(self.epoch)

    def length_in(self, epoch: int) -> int:
        """Draws in an epoch."""
        total = len(self.labels)
        if not self.plan.in_place:
            total += sum(self._extras_in(epoch))
        return total if self.num_samples is None else min(total, self.num_samples)

    def epoch_draws(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All draws of an epoch at once: indices and copy numbers, both int64 (len(self),)."""
        indices = [np.arange(len(self.labels))]
        copies = [np.zeros(len(self.labels), np.int64)]
        moments = np.random.default_rng([self.seed, epoch, 2])  # of draws, as shares of the epoch
        times = moments.random(len(self.labels))
        for label, (members, extras) in enumerate(
            zip(self._members, self._extras_in(epoch), strict=True)
        ):
            if not extras:
                continue
            generator = np.random.default_rng([self.seed, epoch, 1, label])
            if self.plan.in_place:
                full = self.extras_per_class[label]
                # w extra draws on top would be w / (1 + w) of all draws
                share = full / (full + len(members))
                chosen = _in_chance_order(members, self._weights, generator)
                if self.plan.changes_with_time:
                    in_force = [self._share_at(epoch + moment) for moment in times[chosen]]
                    chosen = chosen[generator.random(len(chosen)) < in_force]
                copies[0][chosen[: round(share * len(members) * (extras / full))]] = 1
                continue
            if self._weights is not None:
                times_drawn = _spread(extras, self._weights[members], generator)
                indices.append(np.repeat(members, times_drawn))
                copies.append(np.concatenate([np.arange(1, n + 1) for n in times_drawn]))
                continue
            rounds, rest = divmod(extras, len(members))
            for copy in range(1, rounds + 1):
                indices.append(members)
                copies.append(np.full(len(members), copy))
            indices.append(generator.permutation(members)[:rest])
            copies.append(np.full(rest, rounds + 1))
        drawn, numbers = np.concatenate(indices), np.concatenate(copies)
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(drawn))
        order = order[: self.length_in(epoch)]
        if self.plan.changes_with_time:
            extra_times = self._times_of_extras(epoch, len(drawn) - len(times), moments)
            order = order[np.concatenate([times, extra_times])[order].argsort()]
        return drawn[order], numbers[order]

    def _times_of_extras(
        self, epoch: int, count: int, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """When in an epoch, 0–1, extra draws come: as often as the plan's share of them says."""
        first, last = self._share_until(epoch), self._share_until(epoch + 1)
        shares = generator.uniform(first, last, count)
        progress = np.array([self.plan.progress_at(share) for share in shares])
        return progress * (self.epochs or 1.0) - epoch

    def __iter__(self) -> Iterator[int]:
        return self._begin(*self.epoch_draws(self.epoch))


class DistributedAugmentationSampler(_Position, DistributedSampler[int]):
    """`AugmentationSampler` for several processes: each rank takes its stride of the same order.

    A ``DistributedSampler``, so that frameworks leave it as it is. As there, the order is padded
    with its own beginning to a multiple of the ranks, or cut with ``drop_last``; interleaved and
    cut to the length of the single-process epoch, the ranks' draws are exactly that epoch.

    Args:
        labels: as for `AugmentationSampler`.
        plan: as for `AugmentationSampler`.
        num_replicas: number of processes; by default that of the process group.
        rank: number of this process; by default that in the process group.
        seed: must be the same in all processes.
        num_samples: at most so many draws an epoch, over all processes.
        drop_last: cut instead of padding.

    Raises:
        DataError: as for `AugmentationSampler`.
        UsageError: a negative seed, ``num_samples`` below 1, or a plan whose extra draws change
            with time: torch wants one length here.
    """

    def __init__(
        self,
        labels: Any,
        plan: ConfusionPlan,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
        num_samples: int | None = None,
        drop_last: bool = False,
    ) -> None:
        if plan.changes_with_time:
            raise UsageError(
                "the plan's extra draws change during the training, so its epochs differ in "
                "length; use AugmentationSampler, or a plan without start, ramp and stop"
            )
        self.sampler = AugmentationSampler(labels, plan, seed=seed, num_samples=num_samples)
        super().__init__(
            self.sampler,  # type: ignore[arg-type]  # only its length is used
            num_replicas=num_replicas,
            rank=rank,
            shuffle=True,
            seed=seed,
            drop_last=drop_last,
        )

    def __len__(self) -> int:
        """Draws of this process in a whole epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        # np.resize repeats the order from its beginning, or cuts it
        indices, copies = (
            np.resize(values, self.total_size)[self.rank :: self.num_replicas]
            for values in self.sampler.epoch_draws(self.epoch)
        )
        return self._begin(indices, copies)


def _check_outermost(source: Any) -> None:
    """Parts of an `AugmentedDataset` would pass plain numbers on to it, and no extra draws."""
    kind, parts = kinds(source), []
    if "Subset" in kind:
        parts = [source.dataset]
    elif "ConcatDataset" in kind:
        parts = source.datasets
    for part in parts:
        if "AugmentedDataset" in kinds(part):
            raise UsageError(
                f"in a {type(source).__name__} an AugmentedDataset can't tell extra draws from "
                "others; wrap the other way round: AugmentedDataset(Subset(…), plan)"
            )
        _check_outermost(part)


def _image_weights(plan: ConfusionPlan, images: int) -> NDArray[np.float64] | None:
    """Weights of the images as extras; None if all are alike."""
    if not plan.image_weights and not plan.excluded:
        return None
    if plan.image_weights and len(plan.image_weights) != images:
        raise DataError(
            f"the plan weighs {len(plan.image_weights)} images one by one, but there are {images}; "
            "use it with the training images that it was made for"
        )
    if plan.excluded and max(plan.excluded) >= images:
        raise DataError(
            f"the plan leaves out image {max(plan.excluded)}, but there are {images}; use it with "
            "the training images that it was made for"
        )
    weights: NDArray[np.float64] = np.ones(images)
    if plan.image_weights:
        digits = np.frombuffer(plan.image_weights.encode(), np.uint8)
        weights = digits.astype(np.float64) - ord("0")
    weights[list(plan.excluded)] = 0.0
    return weights


def _in_chance_order(
    members: NDArray[np.int64], weights: NDArray[np.float64] | None, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The images, those of larger weight rather first; without those that weigh nothing."""
    if weights is None:
        return generator.permutation(members)
    members = members[weights[members] > 0]
    # the order of drawing without replacement (Efraimidis and Spirakis, IPL 97, 2006)
    waits = generator.exponential(size=len(members)) / weights[members]
    return np.asarray(members[waits.argsort(kind="stable")])


def _spread(
    total: int, weights: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """How often each image is drawn: in proportion to its weight, ``total`` in all.

    Systematic sampling (Madow, Ann. Math. Statist. 20, 1949) in an order of chance: each image is
    drawn its expected number of times, rounded up or down, and is rounded up with the probability
    that makes that number the mean.
    """
    order = generator.permutation(len(weights))
    edges = np.cumsum(weights[order]) * (total / weights.sum())
    edges[edges > total - 1e-6] = total  # whatever rounding did to the sum
    marks = np.floor(edges + generator.random()).astype(np.int64)
    times = np.empty_like(marks)
    times[order] = np.diff(marks, prepend=0)
    return np.asarray(times)
