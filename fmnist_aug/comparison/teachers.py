"""Who teaches the runs of a comparison: checkpoints of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fmnist_aug.classifier import load_classifier
from fmnist_aug.comparison.ensemble import checkpoints_in
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import DataError
from fmnist_aug.training import Teacher


def load_teacher(paths: Sequence[str | Path], train: ImageDataset) -> Teacher | None:
    """The networks of checkpoints, together.

    Args:
        paths: of checkpoints, and of folders of comparisons, of which all are taken.
        train: the images that will be trained on, the same as those networks'.

    Returns:
        None if there are no paths.

    Raises:
        CheckpointError: there is no checkpoint, or one can't be read.
        DataError: the checkpoints don't fit together, or were trained on other images: images that
            a network is tested on may have been among those.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += [found for *_, found in checkpoints_in(path)] if path.is_dir() else [path]
    if not files:
        return None
    teacher = Teacher.of([load_classifier(file) for file in files])
    teacher.check(train)
    if teacher.headers[0].fingerprint != train.fingerprint():
        raise DataError(
            f"{paths[0]} was not trained on these {len(train):,} training images of "
            f"{train.card.title}, so it may know what is tested here; train the teacher with the "
            "same data and preset sizes"
        )
    return teacher
