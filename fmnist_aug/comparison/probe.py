"""Measuring the confusions of a classifier on held-out training images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.augment.policies import Policy
from fmnist_aug.comparison.arms import base_augmentation
from fmnist_aug.comparison.config import ComparisonConfig
from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.data import ImageDataset, held_out_split, require_training_data
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.plan import KEEP, ConfusionPlan
from fmnist_aug.training import Hardware, TrainProgress, TrainSettings, train_model


@dataclass(frozen=True)
class Probe:
    """What the probe found.

    Attributes:
        confusions: on the held-out training images.
        seconds: of training.
        source: what was measured, in a sentence.
        held_out: int64 (N,), where the held-out images stand in the training images.
        logits: float32 (N, classes), what was predicted for them.
    """

    confusions: ConfusionReport
    seconds: float
    source: str
    held_out: NDArray[np.int64] = field(repr=False, compare=False)
    logits: NDArray[np.float32] = field(repr=False, compare=False)


def measure_confusions(
    train: ImageDataset,
    settings: TrainSettings,
    *,
    epochs: float | None = None,
    base: Policy | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    hardware: Hardware | None = None,
    state_path: Path | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> Probe:
    """Train on a part of the training images and count the confusions on the rest.

    Args:
        train: training images; a test split is refused, so nothing of it can reach a plan.
        settings: how to train.
        epochs: length of the probe, if it should differ from the settings'.
        base: augmentation of the training part.
        held_out: share of the images to hold out, each class alike.
        seed: of the split and of the training.
        hardware: device and precision.
        state_path: as for `train_model`.
        on_progress: as for `train_model`.

    Raises:
        DataError: a test split, or a class with too few images to split.
    """
    require_training_data(train, "measuring confusions")
    fit, rest = held_out_split(train, held_out, seed)
    if epochs is not None:
        settings = dataclasses.replace(settings, epochs=epochs)
    trained = train_model(
        train.subset(fit),
        settings,
        base=base,
        seed=seed,
        hardware=hardware,
        state_path=state_path,
        on_progress=on_progress,
    )
    held = train.subset(rest)
    logits = trained.classifier.predict_logits(held.images)
    confusions = ConfusionReport.from_predictions(held.labels, logits, train.class_names)
    source = (
        f"{len(held):,} held-out training images of {train.card.title}, predicted by "
        f"{settings.model} after {_epochs(settings)} on the other {len(fit):,} (seed {seed})"
    )
    return Probe(confusions, trained.seconds, source, rest, logits)


def run_probe(
    train: ImageDataset,
    config: ComparisonConfig,
    *,
    state_path: Path | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> Probe:
    """`measure_confusions` as a comparison of this configuration does it."""
    return measure_confusions(
        train,
        config.settings,
        epochs=config.probe_epochs,
        base=base_augmentation(train, config.settings.augment),
        held_out=config.held_out,
        seed=config.seed,
        hardware=config.hardware,
        state_path=state_path,
        on_progress=on_progress,
    )


def measure_out_of_fold(
    train: ImageDataset,
    settings: TrainSettings,
    folds: int,
    *,
    base: Policy | None = None,
    seed: int = 0,
    hardware: Hardware | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> Probe:
    """Predict every training image by a network that was trained on the other folds.

    Args:
        train: training images; a test split is refused.
        settings: of each fold's training.
        folds: how many, at least 2.
        base: augmentation of the trainings.
        seed: of folds and trainings.
        hardware: device and precision.
        on_progress: as for `train_model`, for each fold in turn.

    Raises:
        UsageError: fewer than 2 folds.
        DataError: a test split, or a class with fewer images than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    require_training_data(train, "out-of-fold prediction")
    if folds < 2:
        raise UsageError(f"out-of-fold prediction needs at least 2 folds, not {folds}")
    counts = np.bincount(train.labels)
    fewest = int(counts[counts > 0].min())
    if fewest < folds:
        raise DataError(f"a class has {fewest} training images only, too few for {folds} folds")
    logits = np.zeros((len(train), train.num_classes), np.float32)
    seconds = 0.0
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fit, rest in splitter.split(np.zeros(len(train)), train.labels):
        trained = train_model(
            train.subset(fit),
            settings,
            base=base,
            seed=seed,
            hardware=hardware,
            on_progress=on_progress,
        )
        logits[rest] = trained.classifier.predict_logits(train.images[rest])
        seconds += trained.seconds
    confusions = ConfusionReport.from_predictions(train.labels, logits, train.class_names)
    source = (
        f"all {len(train):,} training images of {train.card.title}, each predicted by "
        f"{settings.model} after {_epochs(settings)} on the other {folds - 1} of {folds} "
        f"folds (seed {seed})"
    )
    return Probe(confusions, seconds, source, np.arange(len(train)), logits)


def _epochs(settings: TrainSettings) -> str:
    return "1 epoch" if settings.epochs == 1 else f"{settings.epochs:g} epochs"


def make_plan(
    found: Probe,
    train: ImageDataset,
    pairs: str = "auto",
    policy: str | None = None,
    keep: float = KEEP,
) -> ConfusionPlan:
    """Turn what a probe found into a plan, with the policy that suits the data set by default.

    Args:
        found: by the probe.
        train: the data set.
        pairs: as for `ConfusionPlan.from_report`, as text.
        policy: augmentation of the extra draws; None for the data set's default.
        keep: as for `ConfusionPlan.from_report`; that of the preset that is trained with.
    """
    return ConfusionPlan.from_report(
        found.confusions, pairs, policy=policy or train.card.policy, keep=keep, source=found.source
    )
