"""The arms of a comparison: what each does to the training data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fmnist_aug.augment.policies import Policy, base_policy, get_policy
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import UsageError
from fmnist_aug.plan import MAX_EXTRA_DRAWS, ConfusionPlan

ARMS = {
    "baseline": "the images as they are, no augmentation",
    "uniform": "base augmentation, and as many extra draws as targeted, spread over all classes",
    "sampler-only": "the draws of targeted, with the base augmentation only",
    "augment-only": "no extra draws: some regular draws of the planned classes get the targeted "
    "augmentation instead",
    "hard-only": "as uniform, but trained on the hardest draws only, as targeted is",
    "random-classes": "the plan of targeted, on as many classes chosen by chance",
    "targeted": "base augmentation, and extra draws of the planned classes",
}
DEFAULT_ARMS = ("baseline", "uniform", "targeted")
CONTRASTS = (
    ("uniform", "baseline"),
    ("targeted", "uniform"),
    ("targeted", "baseline"),
    ("targeted", "hard-only"),
    ("targeted", "random-classes"),
    ("targeted", "sampler-only"),
    ("targeted", "augment-only"),
    ("sampler-only", "uniform"),
    ("augment-only", "uniform"),
    ("hard-only", "uniform"),
    ("random-classes", "uniform"),
)
"""The differences that are reported, a − b: what augmenting does, what targeting does on top, and
which part of targeting does it."""


def base_augmentation(dataset: ImageDataset, augment: str = "none") -> Policy:
    """The augmentation of all draws: what the data set's card allows for, then the settings'.

    Args:
        dataset: the training images.
        augment: name of a policy, as in `TrainSettings`.
    """
    base = base_policy(dataset.card.flip, dataset.card.shift, dataset.image_size[0])
    return base.then(get_policy(augment))


def arm_treatment(
    arm: str, plan: ConfusionPlan, base: Policy, class_counts: Sequence[int], seed: int = 0
) -> tuple[Policy, ConfusionPlan]:
    """The augmentation of all draws, and the plan of the extra draws, for an arm.

    Args:
        arm: one of `ARMS`.
        plan: the comparison's plan.
        base: the data set's base augmentation.
        class_counts: training images of each class.
        seed: the run's, by which ``random-classes`` chooses.

    Raises:
        UsageError: an unknown arm.
    """
    if arm == "baseline":
        return get_policy("none"), ConfusionPlan.empty(plan.class_names, "the baseline has none")
    if arm == "uniform":
        return base, plan.spread_evenly(class_counts)
    if arm == "sampler-only":
        return base, dataclasses.replace(plan, policy="none")
    if arm == "augment-only":
        return base, augment_in_place(plan)
    if arm == "hard-only":
        return base, dataclasses.replace(plan.spread_evenly(class_counts), keep=plan.keep)
    if arm == "random-classes":
        return base, move_to_random_classes(plan, class_counts, seed)
    if arm == "targeted":
        return base, plan
    raise UsageError(f"unknown arm {arm!r}; choose from {', '.join(ARMS)}")


def augment_in_place(plan: ConfusionPlan) -> ConfusionPlan:
    """The plan without extra draws and without the other classes' share of them.

    As large a share of the planned classes' draws gets the targeted augmentation as with the
    plan itself, w / (1 + w) for w extra draws per image, but of the regular draws.
    """
    draws = tuple(
        extra if label in plan.classes else 0.0 for label, extra in enumerate(plan.extra_draws)
    )
    return dataclasses.replace(plan, extra_draws=draws, in_place=True, keep=1.0, refresh_every=0)


def move_to_random_classes(
    plan: ConfusionPlan, class_counts: Sequence[int], seed: int
) -> ConfusionPlan:
    """The plan with each of its classes replaced by another, chosen by chance.

    The control for "it helps because it is *these* classes". The classes are drawn from those
    that are not planned; only where these are too few, planned ones fill up. Each takes over the
    pairs, and as many extra draws as the class in whose place it is, whatever its size; what the
    plan spreads over the others is spread over those that are now the others. So is what a class
    with very few images can't take, since no image is drawn more than `MAX_EXTRA_DRAWS` times.
    Weights of single images are left out, since they belong to the planned classes' images.

    Args:
        plan: the comparison's plan.
        class_counts: training images of each class; classes without any are not chosen.
        seed: decides the choice.
    """
    planned = plan.classes
    if not planned:
        return plan
    rng = np.random.default_rng([seed, 0x52414E44])  # unlike other uses of the seed
    present = [label for label, count in enumerate(class_counts) if count]
    others = rng.permutation([label for label in present if label not in planned]).tolist()
    fillers = rng.permutation([label for label in present if label in planned]).tolist()
    chosen = (others + fillers)[: len(planned)]
    places = dict(zip(planned, chosen, strict=False))
    draws = np.zeros(len(class_counts))
    totals = np.asarray(plan.extra_draws) * class_counts
    taken = 0.0
    for label, place in places.items():
        moved = min(float(totals[label]), float(MAX_EXTRA_DRAWS * class_counts[place]))
        draws[place] = moved / class_counts[place]
        taken += moved
    rest = [label for label in present if label not in chosen]
    if rest:
        left = max(0.0, float(totals.sum()) - taken)  # sums are rounded
        draws[rest] = min(left / sum(class_counts[label] for label in rest), MAX_EXTRA_DRAWS)
    pairs = []
    for pair in plan.pairs:
        if pair.first in places and pair.second in places:
            first, second = places[pair.first], places[pair.second]
            pairs.append(
                dataclasses.replace(pair, first=min(first, second), second=max(first, second))
            )
    return dataclasses.replace(
        plan,
        pairs=tuple(pairs),
        extra_draws=tuple(float(value) for value in draws),
        reason="classes chosen by chance in place of the planned ones, as a control",
        confusions=None,
        image_weights="",
        excluded=(),
        refresh_every=0,
    )
