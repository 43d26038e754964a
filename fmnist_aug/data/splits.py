"""Held-out parts of the training data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset, require_training_data
from fmnist_aug.errors import DataError, UsageError


def held_out_split(
    dataset: ImageDataset, fraction: float = 0.1, random_state: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split training data into a part to fit on and a part held out, each class alike.

    Each class has an image in both parts, which for small ones may be more than their share.
    Classes without any image are allowed and are in neither part.

    Args:
        dataset: training images; a test split is refused.
        fraction: share of the images to hold out, between 0 and 1.
        random_state: the same number gives the same split.

    Returns:
        Indices of the fitting part and of the held-out part, both sorted, int64.

    Raises:
        DataError: a class has fewer than 2 images, or the data is a test split.
        UsageError: a share that is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the share to hold out must lie between 0 and 1, not {fraction}")
    from sklearn.model_selection import StratifiedShuffleSplit

    check_split(dataset)
    counts = np.unique(dataset.labels, return_counts=True)[1]
    held_out_size = round(fraction * len(dataset))
    if counts.min() * min(held_out_size, len(dataset) - held_out_size) < len(dataset):
        # scikit-learn might round a small class's share of a part to none
        sizes = np.clip(np.round(fraction * counts).astype(int), 1, counts - 1)
        order = np.random.default_rng(random_state).permutation(len(dataset))
        classes = _by_class(dataset.labels, order)
        held_out = np.concatenate(
            [places[:size] for places, size in zip(classes, sizes, strict=True)]
        )
        fit = np.setdiff1d(order, held_out)
        return fit.astype(np.int64), np.sort(held_out).astype(np.int64)
    splitter = StratifiedShuffleSplit(
        n_splits=1, test_size=held_out_size, random_state=random_state
    )
    fit, held_out = next(splitter.split(np.zeros(len(dataset)), dataset.labels))
    return np.sort(fit).astype(np.int64), np.sort(held_out).astype(np.int64)


def check_split(dataset: ImageDataset) -> None:
    """Find out before a long training that `held_out_split` would refuse.

    Raises:
        DataError: a class has fewer than 2 images, or the data is a test split.
    """
    require_training_data(dataset, "a held-out split")
    counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
    for label in np.flatnonzero(counts == 1):
        raise DataError(
            f"class {dataset.class_names[label]!r} has 1 training image, too few to split: each "
            "class needs at least 2, one to train on and one to hold out; add images or remove "
            "the class"
        )


def stratified_slice(
    dataset: ImageDataset, size: int | None, random_state: int = 0
) -> ImageDataset:
    """At most ``size`` images in the classes' own proportions; all of them if ``size`` is None.

    Each class keeps an image, as long as ``size`` is not smaller than the number of classes, and a
    second one, so that it can be split, as long as there is room for that.

    Raises:
        UsageError: a size below 1.
    """
    if size is None or size >= len(dataset):
        return dataset
    if size < 1:
        raise UsageError(f"a slice of {size} images is none; choose at least 1")
    counts = np.unique(dataset.labels, return_counts=True)[1]
    refused = counts.min() < 2 or min(size, len(dataset) - size) < len(counts)
    # scikit-learn refuses the one, and might round a small class's share to none
    if refused or counts.min() * size < len(dataset):
        return dataset.subset(_choose_by_rank(dataset.labels, size, random_state))
    from sklearn.model_selection import train_test_split

    chosen, _ = train_test_split(
        np.arange(len(dataset)),
        train_size=size,
        stratify=dataset.labels,
        random_state=random_state,
    )
    return dataset.subset(np.sort(chosen))


def _choose_by_rank(labels: NDArray[np.int64], size: int, random_state: int) -> NDArray[np.int64]:
    """Sorted places of two of each class, then of equal shares of each, in chance order."""
    order = np.random.default_rng(random_state).permutation(len(labels))
    ranks = np.empty(len(labels))
    for places in _by_class(labels, order):
        ranks[places] = np.arange(len(places)) / len(places)
        ranks[places[:2]] -= 2  # before all others
    return np.sort(order[np.argsort(ranks[order], kind="stable")[:size]])


def _by_class(labels: NDArray[np.int64], order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The places of each class that has any, in that order."""
    return [order[labels[order] == label] for label in np.unique(labels)]
