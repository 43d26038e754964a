"""From predictions to the figures of ``results.json``; pure functions, no files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.comparison.arms import CONTRASTS
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.statistics import LEVEL, Contrast, Verdict, contrast, holm, mean_interval

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
        # Student's interval knows nothing of the ends of the scale
        "ci95": [min(max(bound, 0.0), 1.0) for bound in interval] if interval else None,
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

    Several looks find something by chance, so verdicts are those of p-values that are adjusted by
    Holm's method, over all contrasts and, within each of them, over the classes. ``ci95`` and
    ``p_value`` are those of a contrast by itself; the classes' ``ci95_adjusted`` hold all classes
    of a contrast at once with 95 % probability (Bonferroni, so they are a little wider than the
    verdicts' p-values would have them), and so much is asked of a detectable difference, too.

    Args:
        correct: for each arm bool (runs, images), rows in the order of the seeds.
        labels: int64 (images,).
        class_names: one name a class.
    """
    pairs = [(a, b) for a, b in CONTRASTS if a in correct and b in correct]
    found = [contrast(correct[a], correct[b]) for a, b in pairs]
    adjusted = holm([item.p_value for item in found])
    level = 1 - (1 - LEVEL) / max(1, len(found))
    return [
        {
            "a": a,
            "b": b,
            "difference": item.difference,
            "ci95": list(item.ci95),
            "p_value": item.p_value,
            "p_value_adjusted": p_value,
            "verdict": _adjusted_verdict(item, p_value),
            "minimum_detectable_difference": item.detectable(level),
            "with_more_runs": _with_more_runs(item, level),
            "per_class": _class_figures(correct[a], correct[b], labels, class_names),
        }
        for (a, b), item, p_value in zip(pairs, found, adjusted, strict=True)
    ]


def _with_more_runs(item: Contrast, level: float) -> dict[str, Any] | None:
    """What twice as many runs of each arm would detect, and what any number of them would."""
    if item.spread is None:
        return None
    runs = 2 * int(item.spread.runs)
    return {
        "runs": runs,
        "minimum_detectable_difference": item.detectable(level, runs),
        "limit": item.detectable(level, math.inf),
    }


def _class_figures(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
) -> list[dict[str, Any]]:
    present = np.unique(labels).tolist()
    found = [contrast(correct_a[:, labels == k], correct_b[:, labels == k]) for k in present]
    adjusted = holm([item.p_value for item in found])
    return [
        {
            "class": class_names[label],
            "difference": item.difference,
            "ci95": list(item.ci95),
            "ci95_adjusted": list(item.interval(1 - 0.05 / len(present))),
            "p_value_adjusted": p_value,
            "verdict": _adjusted_verdict(item, p_value),
        }
        for label, item, p_value in zip(present, found, adjusted, strict=True)
    ]


def _adjusted_verdict(found: Contrast, p_value: float) -> Verdict:
    return found.verdict if p_value < 0.05 else "no evidence"


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
