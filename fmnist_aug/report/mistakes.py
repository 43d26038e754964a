"""Every mislabelled test image of every run, so that a cell of a confusion matrix can show its own.

The counts and the images come from the same predictions, and both go onto the page, so the number
in a cell is the number of images behind it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset
from fmnist_aug.errors import DataError
from fmnist_aug.report.galleries import PIXEL_STEPS, check_logits, image_png, probabilities
from fmnist_aug.report.summary import Results, arm_names, class_names, runs_of

MOST_MISTAKES = 40_000
"""Mistakes on the page at the most; with more, later seeds are left out of all arms alike."""
MOST_PICTURE_BYTES = 1_700_000
"""Room for the pictures on the page, as base64."""


@dataclass(frozen=True)
class RunMistakes:
    """What one run got wrong on the test set.

    Attributes:
        arm: the run's arm.
        seed: its seed.
        indices: the images' places in the test set, int64 (M,), ascending.
        predicted: what they were taken for, int64 (M,).
        probability: what the run gave that class, float64 (M,).
        confusion: all of the run's predictions, int64 (K, K), rows = true, columns = predicted.
    """

    arm: str
    seed: int
    indices: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    confusion: NDArray[np.int64]


@dataclass(frozen=True)
class Mistakes:
    """The mistakes of all runs that the page shows.

    Attributes:
        runs: ordered by arm, then by seed.
        seeds_left_out: seeds of the comparison whose runs are not among them.
    """

    runs: tuple[RunMistakes, ...]
    seeds_left_out: tuple[int, ...] = ()

    @property
    def arms(self) -> list[str]:
        """The arms that have runs here."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def of(self, arm: str) -> list[RunMistakes]:
        """The runs of an arm, ordered by seed."""
        return [run for run in self.runs if run.arm == arm]

    def confusion(self, arm: str) -> NDArray[np.int64]:
        """The confusion matrix of an arm, summed over its runs here: int64 (K, K), rows = true."""
        return np.asarray(np.sum([run.confusion for run in self.of(arm)], axis=0))


def collect_mistakes(
    results: Results,
    labels: NDArray[np.int64],
    logits: Mapping[tuple[str, int], NDArray[np.float32]],
    most: int = MOST_MISTAKES,
) -> Mistakes:
    """Find what each run got wrong.

    Args:
        results: the dictionary that results.json holds.
        labels: true labels of the test set, int64 (N,).
        logits: for each (arm, seed) float32 (N, K); arms with a run that has none are left out.
        most: mistakes in all at the most; the first seed is kept whatever it holds.

    Raises:
        DataError: logits that don't fit the labels, or that give another confusion matrix than
            the results hold.
    """
    found = []
    for arm in arm_names(results):
        runs = runs_of(results, arm)
        if all((arm, run["seed"]) in logits for run in runs):
            found += [
                _mistakes_of(run, labels, logits[arm, run["seed"]], len(class_names(results)))
                for run in runs
            ]
    kept: set[int] = set()
    total = 0
    seeds = sorted({run.seed for run in found})
    for seed in seeds:
        total += sum(len(run.indices) for run in found if run.seed == seed)
        if kept and total > most:
            break
        kept.add(seed)
    return Mistakes(
        tuple(run for run in found if run.seed in kept),
        tuple(seed for seed in seeds if seed not in kept),
    )


def mistakes_json(mistakes: Mistakes, test: ImageDataset, names: Sequence[str]) -> str:
    """What the page's script reads, as JSON that is safe inside a script element.

    ``images`` holds ``[index, true, PNG as base64 or null]``, each image once; ``runs`` holds for
    each run its arm's place in ``arms``, its seed, and ``[place in images, predicted, probability
    in per mille]`` of its mistakes. Pictures
    are shrunk until all fit `MOST_PICTURE_BYTES`; at the smallest size those that fewest runs got
    wrong go without.

    Args:
        mistakes: of the runs to show.
        test: the test images.
        names: the class names, fit for printing.
    """
    every = np.concatenate([run.indices for run in mistakes.runs] or [np.zeros(0, np.int64)])
    indices, counts = np.unique(every, return_counts=True)
    place = {int(index): position for position, index in enumerate(indices)}
    pictures = _pictures(test, indices[np.argsort(-counts, kind="stable")].tolist())
    arms = mistakes.arms
    value = {
        "names": list(names),
        "arms": arms,
        "images": [
            [index, int(test.labels[index]), pictures.get(index)] for index in indices.tolist()
        ],
        "runs": [
            {
                "arm": arms.index(run.arm),
                "seed": run.seed,
                "errors": [
                    [place[index], predicted, round(1000 * probability)]
                    for index, predicted, probability in zip(
                        run.indices.tolist(),
                        run.predicted.tolist(),
                        run.probability.tolist(),
                        strict=True,
                    )
                ],
            }
            for run in mistakes.runs
        ],
    }
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # so that no name can end the element or open a comment in it
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _mistakes_of(
    run: dict[str, object], labels: NDArray[np.int64], scores: NDArray[np.float32], classes: int
) -> RunMistakes:
    arm, seed = str(run["arm"]), int(str(run["seed"]))
    check_logits(labels, scores, classes)
    predicted = scores.argmax(axis=1)
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    if confusion.tolist() != run["confusion"]:
        raise DataError(
            f"the predictions of {arm} (seed {seed}) don't give the confusion matrix that "
            "results.json holds; run the comparison again in a fresh folder"
        )
    wrong = np.flatnonzero(predicted != labels)
    sure = probabilities(scores[wrong])[np.arange(len(wrong)), predicted[wrong]]
    return RunMistakes(arm, seed, wrong, predicted[wrong], sure, confusion)


def _pictures(test: ImageDataset, indices: Sequence[int]) -> dict[int, str]:
    """Base64 PNGs of as many of these images as fit, the first ones first."""
    pictures: dict[int, str] = {}
    for pixels in PIXEL_STEPS:
        pictures, room = {}, MOST_PICTURE_BYTES
        for index in indices:
            picture = base64.b64encode(image_png(test.images[index], pixels)).decode()
            room -= len(picture)
            if room < 0:
                break
            pictures[index] = picture
        if len(pictures) == len(indices):
            break
    return pictures
