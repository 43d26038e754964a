"""What a classifier says about pictures that nobody labelled, and what it often takes them for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmnist_aug.classifier import CheckpointHeader, Classifier
from fmnist_aug.confusion import ConfusionReport, wilson_interval
from fmnist_aug.data import NAMED_DATASETS, read_pictures

MOST_MISTAKEN = 2
"""Classes named as often confused with a prediction at the most."""


@dataclass(frozen=True)
class Mistaken:
    """A class whose images are taken for another.

    Attributes:
        class_name: what the images really were.
        images: how many of the held-out images with that prediction were of this class.
        share: the same as a share of them.
        ci95: 95 % Wilson score interval of ``share``.
    """

    class_name: str
    images: int
    share: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Prediction:
    """What was predicted for a picture.

    Attributes:
        path: of the picture.
        classes: name and probability of the most probable classes, most probable first.
        inverted: whether the picture's negative was looked at.
        confused_with: what else images with that prediction were, most often first.
    """

    path: Path
    classes: tuple[tuple[str, float], ...]
    inverted: bool
    confused_with: tuple[Mistaken, ...]


def predict_pictures(
    classifier: Classifier, paths: Sequence[Path], *, top: int = 3, invert: bool | None = None
) -> Iterator[Prediction]:
    """Predict pictures of any size and colour.

    Args:
        classifier: what predicts.
        paths: picture files, as `find_pictures` finds them.
        top: how many classes to give for each.
        invert: True inverts all pictures, False none; by default those with a light background
            if the classifier was trained on a packaged set, whose backgrounds are black.

    Raises:
        DataError: a file is no picture, is cut, or is too large.
    """
    header = classifier.header
    report = header.confusion_report
    confused = {
        label: often_mistaken(report, label) if report else ()
        for label in range(len(header.class_names))
    }
    batches = read_pictures(
        paths,
        (*header.image_size, len(header.mean)),
        dark_background=has_dark_background(header),
        invert=invert,
    )
    for batch in batches:
        probabilities = classifier.predict_proba(batch.images)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        for row, path in enumerate(batch.paths):
            best = [
                (header.class_names[label], float(probabilities[row, label]))
                for label in order[row]
            ]
            yield Prediction(
                path, tuple(best), bool(batch.inverted[row]), confused[int(order[row, 0])]
            )


def has_dark_background(header: CheckpointHeader) -> bool:
    """Whether the classifier was trained on a packaged set of things before black."""
    named = NAMED_DATASETS.get(header.card)
    return (
        named is not None and named.card.dark_background and named.class_names == header.class_names
    )


def often_mistaken(report: ConfusionReport, predicted: int) -> tuple[Mistaken, ...]:
    """What images really were that were wrongly given a class, most often first.

    Args:
        report: confusions on images that the classifier was not trained on.
        predicted: the index of the class that they were given.

    >>> report = ConfusionReport.from_predictions([0, 0, 1, 1], [1, 0, 1, 1], ["cat", "dog"])
    >>> [(item.class_name, round(item.share, 2)) for item in often_mistaken(report, 1)]
    [('cat', 0.33)]
    """
    column = report.matrix[:, predicted]
    total = int(column.sum())
    others = [label for label in np.flatnonzero(column).tolist() if label != predicted]
    others.sort(key=lambda label: (-int(column[label]), label))
    return tuple(
        Mistaken(
            report.class_names[label],
            int(column[label]),
            int(column[label]) / total,
            wilson_interval(int(column[label]), total),
        )
        for label in others[:MOST_MISTAKEN]
    )
