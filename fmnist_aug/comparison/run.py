"""One run of a comparison: train an arm with a seed, test it, keep its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fmnist_aug.augment.policies import Policy
from fmnist_aug.comparison.arms import arm_treatment
from fmnist_aug.comparison.config import ComparisonConfig
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


@dataclass(frozen=True, eq=False)
class RunInputs:
    """What all runs of a comparison share; plain values that can be sent to another process.

    Attributes:
        config: what is compared.
        train: the training images.
        test: the test images.
        base: the data set's base augmentation.
        plan: the comparison's plan.
        path: the comparison's folder.
    """

    config: ComparisonConfig
    train: ImageDataset
    test: ImageDataset
    base: Policy
    plan: ConfusionPlan
    path: Path


def train_run(
    inputs: RunInputs, run: Run, on_progress: Callable[[TrainProgress], None]
) -> dict[str, Any]:
    """Train and test one run, or go on with it, and write its files.

    Returns:
        The run's figures, as they stand in its record.

    Raises:
        TrainingError: the loss is no longer finite.
        RunFolderError: a file can't be written.
    """
    config, test = inputs.config, inputs.test
    folder = ComparisonFolder(inputs.path)
    class_counts = np.bincount(inputs.train.labels, minlength=inputs.train.num_classes).tolist()
    base, plan = arm_treatment(run.arm, inputs.plan, inputs.base, class_counts, run.seed)
    trained = train_model(
        inputs.train,
        config.settings,
        base=base,
        plan=plan,
        seed=run.seed,
        hardware=config.hardware,
        state_path=folder.state(*run),
        on_progress=on_progress,
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
        inputs.train.card.focus or inputs.plan.classes,
        steps=trained.steps,
        images_seen=trained.images_seen,
        train_seconds=trained.seconds,
        curve=trained.curve,
    )
    figures["parameters"] = count_parameters(classifier.model)
    if trained.refreshed:
        names = test.class_names
        figures["refreshed"] = [
            [[names[pair.first], names[pair.second]] for pair in made.pairs]
            for made in trained.refreshed
        ]
    folder.save_run(figures, classifier, logits, test.labels)
    return figures
