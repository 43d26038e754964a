"""One run of a comparison: train an arm with a seed, test it, keep its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.augment.policies import Policy
from fmnist_aug.comparison.arms import arm_treatment
from fmnist_aug.comparison.config import ComparisonConfig
from fmnist_aug.comparison.environment import describe_environment, describe_run
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.results import run_figures
from fmnist_aug.data import ImageDataset
from fmnist_aug.models import count_parameters
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training import TrainProgress, train_model


class Run(NamedTuple):
    """Which run of a comparison."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm} (seed {self.seed})"


Splits = tuple[ImageDataset, ImageDataset]
"""The training and the test images of a comparison."""


@dataclass(frozen=True, eq=False)
class RunInputs:
    """What all runs of a comparison share but the images; can be sent to another process.

    Attributes:
        config: what is compared.
        base: the data set's base augmentation.
        plan: the comparison's plan.
        path: the comparison's folder; None on a machine that may not have it.
        environment: as it was when the comparison started, since a checkout may move on
            meanwhile; None on another machine, which has its own.
    """

    config: ComparisonConfig
    base: Policy
    plan: ConfusionPlan
    path: Path | None
    environment: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run leaves, as values that can be sent to another machine.

    Attributes:
        figures: as they stand in its record.
        checkpoint: the bytes of the file.
        logits: float32 (N, classes) of the test images.
    """

    figures: dict[str, Any]
    checkpoint: bytes
    logits: NDArray[np.float32]


def train_run(
    inputs: RunInputs, splits: Splits, run: Run, on_progress: Callable[[TrainProgress], None]
) -> FinishedRun:
    """Train and test one run; with a folder, go on with the state that is kept there.

    Raises:
        TrainingError: the loss is no longer finite.
        RunFolderError: the state can't be written.
    """
    config, (train, test) = inputs.config, splits
    class_counts = np.bincount(train.labels, minlength=train.num_classes).tolist()
    base, plan = arm_treatment(run.arm, inputs.plan, inputs.base, class_counts, run.seed)
    trained = train_model(
        train,
        config.settings,
        base=base,
        plan=plan,
        seed=run.seed,
        hardware=config.hardware,
        state_path=inputs.path and ComparisonFolder(inputs.path).state(*run),
        on_progress=on_progress,
        made_with=describe_run(inputs.environment or describe_environment(config.hardware)),
    )
    classifier = trained.classifier
    if inputs.plan.confusions is not None:
        classifier = classifier.with_confusions(inputs.plan.confusions, inputs.plan.source)
    logits = classifier.predict_logits(test.images)
    figures = run_figures(
        *run,
        logits,
        test.labels,
        test.class_names,
        train.card.focus or inputs.plan.classes,
        steps=trained.steps,
        images_seen=trained.images_seen,
        train_seconds=trained.seconds,
        curve=trained.curve,
    )
    figures["parameters"] = count_parameters(classifier.model)
    figures["made_with"] = list(trained.made_with)
    if trained.refreshed:
        names = test.class_names
        figures["refreshed"] = [
            [[names[pair.first], names[pair.second]] for pair in made.pairs]
            for made in trained.refreshed
        ]
    return FinishedRun(figures, classifier.to_bytes(), logits)


def keep_run(path: Path, splits: Splits, finished: FinishedRun) -> dict[str, Any]:
    """Write a run's files into the comparison's folder.

    Returns:
        The run's figures, as they stand in its record.

    Raises:
        RunFolderError: a file can't be written.
    """
    _, test = splits
    ComparisonFolder(path).save_run(
        finished.figures, finished.checkpoint, finished.logits, test.labels
    )
    return finished.figures


def train_and_keep(
    inputs: RunInputs, splits: Splits, run: Run, on_progress: Callable[[TrainProgress], None]
) -> dict[str, Any]:
    """`train_run` and `keep_run`, where the folder is at hand."""
    assert inputs.path
    return keep_run(inputs.path, splits, train_run(inputs, splits, run, on_progress))
