"""From predictions to the figures of ``results.json``; pure functions, no files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.comparison.arms import CONTRASTS
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.statistics import contrast, holm, mean_interval

SCHEMA = 1


def run_figures(
    arm: str,
    seed: int,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    focus: Sequence[int],
    *,
    steps: int,
    images_seen: int,
    train_seconds: float,
    curve: Sequence[Sequence[float]] = (),
) -> dict[str, Any]:
    """The entry of one run in ``results.json``.

    Args:
        arm: the arm's name.
        seed: the run's seed.
        logits: float32 (N, classes) of the test images.
        labels: int64 (N,) of the test images.
        class_names: one name a class.
        focus: indices of the classes that are looked at more closely.
        steps: optimisation steps taken.
        images_seen: draws, extra ones included.
        train_seconds: of training alone.
        curve: epochs, accuracy and loss on the training images, as `TrainedModel.curve`.
    """
    report = ConfusionReport.from_predictions(labels, logits, class_names)
    return {
        "arm": arm,
        "seed": seed,
        "test_accuracy": report.accuracy,
        "per_class_recall": list(report.recall),
        "confusion": [list(row) for row in report.counts],
        "errors": report.errors,
        "focus": focus_figures(report, focus),
        "steps": steps,
        "images_seen": images_seen,
        "train_seconds": round(train_seconds, 3),
        "curve": [list(point) for point in curve],
    }


def focus_figures(report: ConfusionReport, focus: Sequence[int]) -> dict[str, Any]:
    """Errors around some classes.

    ``missed``: of these classes, but predicted as something else; ``swapped``: those of them that
    were predicted as another class in focus; ``claimed``: of other classes, but predicted as one
    of these. Missed and claimed together are each error around the classes once;
    ``share_of_errors`` is their share of all errors (None without errors).
    """
    matrix = report.matrix
    inside = np.zeros(len(report.class_names), bool)
    inside[list(focus)] = True
    correct = int(np.diag(matrix)[inside].sum())
    missed = int(matrix[inside].sum()) - correct
    claimed = int(matrix[np.ix_(~inside, inside)].sum())
    swapped = int(matrix[np.ix_(inside, inside)].sum()) - correct
    return {
        "classes": [int(label) for label in focus],
        "missed": missed,
        "claimed": claimed,
        "swapped": swapped,
        "share_of_errors": (missed + claimed) / report.errors if report.errors else None,
    }


def arm_figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Averages over the runs of one arm; ``std`` and ``ci95`` are None for a single run."""
    accuracies = [run["test_accuracy"] for run in runs]
    interval = mean_interval(accuracies)
    shares = [run["focus"]["share_of_errors"] for run in runs]
    return {
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies, ddof=1)) if len(runs) > 1 else None,
        "ci95": list(interval) if interval else None,
        "runs": len(runs),
        **{
            f"focus_{kind}_mean": float(np.mean([run["focus"][kind] for run in runs]))
            for kind in ("missed", "claimed", "swapped")
        },
        "focus_share_of_errors": None if None in shares else float(np.mean(shares)),
    }


def contrast_figures(
    correct: dict[str, NDArray[np.bool_]], labels: NDArray[np.int64], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """The differences between arms, on all images and class by class.

    The p-values of the classes are adjusted by Holm's method, since ten looks find something by
    chance; a class's verdict is that of its adjusted p-value.

    Args:
        correct: for each arm bool (runs, images), rows in the order of the seeds.
        labels: int64 (images,).
        class_names: one name a class.
    """
    found = []
    for a, b in CONTRASTS:
        if a not in correct or b not in correct:
            continue
        overall = contrast(correct[a], correct[b])
        present = [label for label in range(len(class_names)) if (labels == label).any()]
        by_class = [
            contrast(correct[a][:, labels == label], correct[b][:, labels == label])
            for label in present
        ]
        adjusted = holm([item.p_value for item in by_class])
        found.append(
            {
                "a": a,
                "b": b,
                "difference": overall.difference,
                "ci95": list(overall.ci95),
                "p_value": overall.p_value,
                "verdict": overall.verdict,
                "minimum_detectable_difference": overall.minimum_detectable_difference,
                "per_class": [
                    {
                        "class": class_names[label],
                        "difference": item.difference,
                        "ci95": list(item.ci95),
                        "p_value_adjusted": p_value,
                        "verdict": item.verdict if p_value < 0.05 else "no evidence",
                    }
                    for label, item, p_value in zip(present, by_class, adjusted, strict=True)
                ],
            }
        )
    return found


def runs_csv(runs: Sequence[dict[str, Any]]) -> str:
    """One row a run."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    kinds = ("missed", "claimed", "swapped")
    columns = ("arm", "seed", "test_accuracy", "errors", "train_seconds", "steps", "images_seen")
    writer.writerow([*columns, *(f"focus_{kind}" for kind in kinds)])
    for run in runs:
        writer.writerow([*(run[name] for name in columns), *(run["focus"][kind] for kind in kinds)])
    return stream.getvalue()
