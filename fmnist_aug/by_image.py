"""Sharper than "the class": which single images the extra draws go to.

From out-of-fold probabilities of the training images: how much an image is confused in the way
that the plan answers, and whether its label is probably wrong.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.errors import DataError
from fmnist_aug.plan import ConfusionPlan

Direction = Literal["both", "first-as-second", "second-as-first"]
WRONG_FROM = 0.95
"""Probability of another class, by networks that were not trained on the image, from which on its
label is taken for wrong."""


def target_images(
    plan: ConfusionPlan,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    *,
    direction: Direction = "both",
    wrong_from: float = WRONG_FROM,
) -> ConfusionPlan:
    """The plan with its extra draws aimed at single images of the planned classes.

    An image of class a in a pair (a, b) is weighed by the probability that it was given for b
    (the largest, if a is in several pairs), in tenths, so the extras go where the two classes
    touch; images of classes that are not planned all weigh the same. Images for which another
    class has at least ``wrong_from`` are never drawn as extras: on those the label is more
    probably wrong than hard (as in Northcutt et al., "Confident learning", JAIR 70, 2021, with one
    strict threshold), and drawing them more often would teach the error.

    Args:
        plan: which classes and pairs.
        labels: int64 (N,) of the training images.
        probabilities: float (N, classes), each image's by a classifier that was not trained on it.
        direction: ``first-as-second`` aims only at images of a pair's first class (that with the
            lower index) that look like its second, ``second-as-first`` the other way round; the
            other class's extras are drawn from all of its images alike.
        wrong_from: between 0.5 and 1; above 1 leaves no image out.

    Raises:
        DataError: the shapes don't fit, a value is no probability, or there is no such label.

    >>> from fmnist_aug.confusion import ConfusionReport
    >>> report = ConfusionReport.from_predictions([0, 0, 1, 1], [0, 1, 1, 1])
    >>> plan = ConfusionPlan.from_report(report, [(0, 1)])
    >>> sure = np.array([[0.9, 0.1], [0.3, 0.7], [0.01, 0.99], [1.0, 0.0]])
    >>> aimed = target_images(plan, np.array([0, 0, 1, 1]), sure)
    >>> aimed.image_weights, aimed.excluded
    ('1719', (3,))
    """
    if probabilities.shape != (len(labels), len(plan.class_names)):
        raise DataError(
            f"probabilities must be ({len(labels)}, {len(plan.class_names)}), one row an image and "
            f"one column a class, not {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities must be finite")
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise DataError("probabilities must lie between 0 and 1; of logits take the softmax first")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(plan.class_names):
        raise DataError(
            f"labels go from {labels.min()} to {labels.max()}, but the plan's "
            f"{len(plan.class_names)} classes are numbered from 0"
        )
    confused = np.zeros(len(labels))
    aimed = np.zeros(len(labels), bool)
    for pair in plan.pairs:
        ways = {
            "first-as-second": (pair.first, pair.second),
            "second-as-first": (pair.second, pair.first),
        }
        for name, (own, other) in ways.items():
            if direction in ("both", name):
                members = labels == own
                aimed |= members
                confused[members] = np.maximum(confused[members], probabilities[members, other])
    # at least 1: an image that is never confused keeps a small chance
    digits = np.where(aimed, np.clip(np.rint(10 * confused), 1, 9), 1).astype(np.uint8)
    others = probabilities.astype(np.float64).copy()
    others[np.arange(len(labels)), labels] = 0.0
    wrong = np.flatnonzero(others.max(axis=1) >= wrong_from)
    return dataclasses.replace(
        plan,
        image_weights=(digits + ord("0")).astype(np.uint8).tobytes().decode(),
        excluded=tuple(int(index) for index in wrong),
    )
