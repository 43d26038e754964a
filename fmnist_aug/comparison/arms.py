"""The arms of a comparison: what each does to the training data."""

from __future__ import annotations

from collections.abc import Sequence

from fmnist_aug.augment.policies import Policy, base_policy, get_policy
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import UsageError
from fmnist_aug.plan import ConfusionPlan

ARMS = {
    "baseline": "the images as they are, no augmentation",
    "uniform": "base augmentation, and as many extra draws as targeted, spread over all classes",
    "targeted": "base augmentation, and extra draws of the planned classes",
}
CONTRASTS = (("uniform", "baseline"), ("targeted", "uniform"), ("targeted", "baseline"))
"""The differences that are reported, a − b: what augmenting does, what targeting does on top."""


def base_augmentation(dataset: ImageDataset) -> Policy:
    """The augmentation of all draws that the data set's card allows for."""
    return base_policy(dataset.card.flip, dataset.card.shift, dataset.image_size[0])


def arm_treatment(
    arm: str, plan: ConfusionPlan, base: Policy, class_counts: Sequence[int]
) -> tuple[Policy, ConfusionPlan]:
    """The augmentation of all draws, and the plan of the extra draws, for an arm.

    Args:
        arm: one of `ARMS`.
        plan: the comparison's plan.
        base: the data set's base augmentation.
        class_counts: training images of each class.

    Raises:
        UsageError: an unknown arm.
    """
    if arm == "baseline":
        return get_policy("none"), ConfusionPlan.empty(plan.class_names, "the baseline has none")
    if arm == "uniform":
        return base, plan.spread_evenly(class_counts)
    if arm == "targeted":
        return base, plan
    raise UsageError(f"unknown arm {arm!r}; choose from {', '.join(ARMS)}")
