"""Test images that no run could do, and those whose label may be wrong: to look at, no more.

Nothing is removed from the test set and no figure is changed by what is found here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.report.galleries import check_logits, probabilities


@dataclass(frozen=True)
class HardImage:
    """A test image that was hard for the runs of all arms together.

    Attributes:
        index: its place in the test set.
        true: the class that its label names.
        rival: the wrong class that was given the highest mean probability.
        true_probability: mean over all runs for the labelled class.
        rival_probability: mean over all runs for the rival.
        wrong_runs: how many runs mislabelled it.
        runs: how many runs there are.
    """

    index: int
    true: int
    rival: int
    true_probability: float
    rival_probability: float
    wrong_runs: int
    runs: int


def probably_mislabelled(
    labels: NDArray[np.int64], logits: Sequence[NDArray[np.floating]]
) -> list[HardImage]:
    """Images whose label is probably wrong, the most doubtful first.

    By confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068): the mean
    probability of the rival reaches what images labelled as the rival are given on average. We
    ask in addition that every run mislabels the image, so that one run's luck is not enough.

    Args:
        labels: labels of the test set int64 (N,).
        logits: for each run float (N, K).

    Raises:
        DataError: a run's logits don't fit the labels.

    >>> labels = np.array([0, 0, 0, 1, 1])
    >>> scores = np.array([[9.0, 0], [0, 9.0], [9.0, 0], [0, 9.0], [0.1, 0]])
    >>> [image.index for image in probably_mislabelled(labels, [scores])]
    [1]
    """
    if not len(logits) or not len(labels):
        return []
    images, mean = _all_images(labels, logits)
    given = mean[np.arange(len(labels)), labels]
    count = np.bincount(labels, minlength=mean.shape[1])
    total = np.bincount(labels, weights=given, minlength=mean.shape[1])
    # a class without images has no threshold to reach
    threshold = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    found = [
        image
        for image in images
        if image.wrong_runs == image.runs and image.rival_probability >= threshold[image.rival]
    ]
    return sorted(found, key=lambda image: image.true_probability - image.rival_probability)


def hardest_images(
    labels: NDArray[np.int64], logits: Sequence[NDArray[np.floating]]
) -> list[HardImage]:
    """Images that some run mislabelled: by most runs first, then by the lowest true probability.

    Args:
        labels: labels of the test set int64 (N,).
        logits: for each run float (N, K).

    Raises:
        DataError: a run's logits don't fit the labels.
    """
    if not len(logits) or not len(labels):
        return []
    images, _ = _all_images(labels, logits)
    return sorted(
        (image for image in images if image.wrong_runs),
        key=lambda image: (-image.wrong_runs, image.true_probability, image.index),
    )


def _all_images(
    labels: NDArray[np.int64], logits: Sequence[NDArray[np.floating]]
) -> tuple[list[HardImage], NDArray[np.float64]]:
    """Each image that a run mislabelled, and the mean probabilities (N, K) of all."""
    for scores in logits:
        check_logits(labels, scores)
    mean = np.mean([probabilities(scores) for scores in logits], axis=0)
    wrong = np.sum([scores.argmax(axis=1) != labels for scores in logits], axis=0)
    others = mean.copy()
    others[np.arange(len(labels)), labels] = -1
    rival = others.argmax(axis=1)
    images = [
        HardImage(
            index,
            int(labels[index]),
            int(rival[index]),
            float(mean[index, labels[index]]),
            float(mean[index, rival[index]]),
            int(wrong[index]),
            len(logits),
        )
        for index in np.flatnonzero(wrong).tolist()
    ]
    return images, mean
