"""Plans that are refreshed during a training, from images that it has not been trained on yet.

A part of the training images is held back for each refresh. When the time has come, the network
predicts that part, which it has never seen; the plan follows what it confuses now, and the part is
trained on from then on. So the confusions are held-out ones, no image is lost, and the other arms
pay nothing: the only price is that the refreshed training meets those images later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data import ImageDataset, Images
from fmnist_aug.pairs import MAX_PAIRS
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.sampler import AugmentationSampler

HELD_BACK = 0.05
"""Share of the images that is held back for each refresh, …"""
MOST_HELD_BACK = 0.25
"""… and for all of them together at the most."""

Predict = Callable[[Images], NDArray[np.int64]]


class RefreshedDraws:
    """The draws of a plan whose classes are chosen anew every few passes over the images.

    Takes the place of the sampler, as a function of (seed, epoch) and the plans so far.

    Args:
        dataset: the training images.
        sampler: of the plan at the beginning.
        every: passes from one refresh to the next, at least 1.
        draws: of the whole training. Parts are held back only for refreshes that surely come.
        plans: the plan after each refresh so far, which is kept with the training's state.
        predict: predicted labels int64 (N,) of uint8 images (N, H, W, C), by the network as it is.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: AugmentationSampler,
        every: int,
        draws: int,
        plans: list[ConfusionPlan],
        predict: Predict,
    ) -> None:
        self.dataset = dataset
        self.plan = sampler.plan
        self.every = every
        self.plans = plans
        self.predict = predict
        longest = len(dataset) + sum(sampler.extras_per_class)
        self.refreshes = (draws - 1) // (every * longest)
        self.held_for = hold_back(dataset.labels, self.refreshes, sampler.seed)
        self._samplers = [sampler]

    @property
    def newest(self) -> ConfusionPlan:
        """The plan that is followed now."""
        return self.plans[-1] if self.plans else self.plan

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Which images, bool (N,), are still held back."""
        return np.asarray(self.held_for > len(self.plans))

    def length_in(self, epoch: int) -> int:
        """Draws in an epoch; refreshes the plan if it is due."""
        return len(self.epoch_draws(epoch)[0])

    def epoch_draws(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices and copy numbers of an epoch; refreshes the plan if it is due."""
        number = min(epoch // self.every, self.refreshes)
        while len(self.plans) < number:
            self._refresh()
        first = self._samplers[0]
        for plan in self.plans[len(self._samplers) - 1 :]:
            self._samplers.append(
                AugmentationSampler(first.labels, plan, seed=first.seed, epochs=first.epochs)
            )
        indices, copies = self._samplers[number].epoch_draws(epoch)
        seen = self.held_for[indices] <= number
        return indices[seen], copies[seen]

    def _refresh(self) -> None:
        due = np.flatnonzero(self.held_for == len(self.plans) + 1)
        names = self.dataset.class_names
        report = ConfusionReport.from_predictions(
            self.dataset.labels[due], self.predict(self.dataset.subset(due).images), names
        )
        counts = np.bincount(self.dataset.labels, minlength=len(names)).tolist()
        self.plans.append(refresh_plan(self.newest, report, counts))


def hold_back(labels: NDArray[np.int64], parts: int, seed: int) -> NDArray[np.int64]:
    """For each image, int64 (N,), the refresh from 1 on for which it is held back; 0 for most.

    Args:
        labels: int64 (N,).
        parts: number of refreshes.
        seed: another seed holds back others.
    """
    held_for = np.zeros(len(labels), np.int64)
    share = min(HELD_BACK, MOST_HELD_BACK / max(parts, 1))
    generator = np.random.default_rng([seed, 0x52454652])  # unlike other uses of the seed
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        size = round(share * len(members))
        held_for[members[: parts * size]] = np.repeat(np.arange(1, parts + 1), size)
    return held_for


def refresh_plan(
    plan: ConfusionPlan, report: ConfusionReport, class_counts: Sequence[int]
) -> ConfusionPlan:
    """The plan with the classes that are confused now, and as many extra draws as before.

    Policy, strength, schedule and weights of images stay; so does the whole plan if no pair of
    classes stands out.

    Args:
        plan: as it was so far.
        report: confusions on training images that were not trained on.
        class_counts: training images of each class.
    """
    extras = np.asarray(plan.extra_draws) * class_counts
    targeted = float(extras[list(plan.classes)].sum())
    if not targeted:
        return plan
    made = ConfusionPlan.from_report(
        report,
        share_for_others=float(extras.sum()) / targeted - 1,
        max_pairs=max(MAX_PAIRS, len(plan.pairs)),
    )
    if not made.pairs:
        return plan
    scale = float(extras.sum()) / float((np.asarray(made.extra_draws) * class_counts).sum())
    return dataclasses.replace(
        plan,
        pairs=made.pairs,
        extra_draws=tuple(scale * draws for draws in made.extra_draws),
        reason=made.reason,
        source=f"{report.total} training images that were held back until then",
        confusions=report,
    )
