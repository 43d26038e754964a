"""An ensemble of a comparison's checkpoints: the average of their probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.classifier import CheckpointHeader, load_classifier
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import CheckpointError, DataError


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        path: its checkpoint.
        arm: its arm.
        seed: its seed.
        accuracy: its own accuracy, 0–1.
    """

    path: Path
    arm: str
    seed: int
    accuracy: float


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What an ensemble predicts.

    Attributes:
        members: its networks.
        probabilities: float64 (N, classes), the mean of the members' probabilities.
    """

    members: tuple[Member, ...]
    probabilities: NDArray[np.float64]


def predict_together(folder: Path, dataset: ImageDataset, arm: str | None = None) -> Ensemble:
    """Average the probabilities that the checkpoints of a comparison give to images.

    Args:
        folder: the comparison's folder.
        dataset: the images; their classes must be those of the checkpoints.
        arm: whose runs to take; None for all arms.

    Raises:
        CheckpointError: there is no checkpoint, one can't be read, or two are not of the same
            classes, size of images and training data.
        DataError: the images are not of the classes or the size that was trained on.
    """
    total = np.zeros((len(dataset), dataset.num_classes))
    members = []
    first: tuple[Path, CheckpointHeader] | None = None
    for found_arm, seed, path in _checkpoints(folder, arm):
        classifier = load_classifier(path)
        first = first or (path, classifier.header)
        _check_alike(path, classifier.header, *first)
        check_classes(path, classifier.header, dataset)
        probabilities = classifier.predict_proba(dataset.images)
        total += probabilities
        correct = probabilities.argmax(axis=1) == dataset.labels
        members.append(Member(path, found_arm, seed, float(correct.mean())))
    return Ensemble(tuple(members), total / len(members))


def check_classes(path: Path, header: CheckpointHeader, dataset: ImageDataset) -> None:
    """Refuse images of other classes, size or colours than a checkpoint's.

    Raises:
        DataError: they differ.
    """
    if dataset.class_names != header.class_names:
        raise DataError(
            f"{path} was trained on {header.card or 'another data set'}, whose "
            f"classes are not those of {dataset.card.title}; choose its own --dataset"
        )
    taken, given = (*header.image_size, len(header.mean)), tuple(dataset.images.shape[1:])
    if taken != given:
        raise DataError(
            f"{path} takes images (height, width, channels) of {taken}, but those of "
            f"{dataset.card.title} are {given}; --image-size brings an image folder to a size"
        )


def _checkpoints(folder: Path, arm: str | None) -> Iterator[tuple[str, int, Path]]:
    found = ComparisonFolder(folder).checkpoints()
    if not found:
        raise CheckpointError(
            f"{folder} holds no checkpoints of a comparison; name the folder that compare printed "
            "(--out)"
        )
    chosen = [item for item in found if arm in (None, item[0])]
    if not chosen:
        arms = ", ".join(dict.fromkeys(item[0] for item in found))
        raise CheckpointError(f"{folder} holds no checkpoint of the arm {arm}; it has {arms}")
    yield from chosen


def _check_alike(
    path: Path, header: CheckpointHeader, first_path: Path, first: CheckpointHeader
) -> None:
    for what, one, other in (
        ("other classes", header.class_names, first.class_names),
        ("images of another size", header.image_size, first.image_size),
        ("images of another number of channels", len(header.mean), len(first.mean)),
        ("other training images", header.fingerprint, first.fingerprint),
    ):
        if one != other:
            raise CheckpointError(
                f"{path} is of {what} than {first_path}, so they make no ensemble; remove one"
            )
