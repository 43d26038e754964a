"""Plans from files: the user's own, and those that come with the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import fmnist_aug
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.files import read_json
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.sampler import AugmentationSampler

DEFAULT = "default"
_SHIPPED = Path(fmnist_aug.__file__).parent / "plans"
"""One ``<name of the data set>.json`` each; ``provenance`` in it says how it was found."""


def load_plan(where: str | Path, dataset: str) -> ConfusionPlan:
    """Read a plan.

    Args:
        where: a file, as `ConfusionPlan.to_json` or a comparison's ``plan.json``; or ``default``
            for the plan that comes with the package.
        dataset: name of the data set, as on its card.

    Raises:
        UsageError: ``default``, but none comes with the package for this data set.
        RunFolderError: the file can't be read or is not JSON.
        DataError: it is not a plan.
    """
    path = Path(where)
    if str(where) == DEFAULT:
        known = {file.stem: file for file in sorted(_SHIPPED.glob("*.json"))}
        if dataset not in known:
            raise UsageError(
                f"no default plan for {dataset!r} comes with the package (for: "
                f"{', '.join(known) or 'none'}); find one with fmnist-aug plan --search --out FILE "
                "and give that"
            )
        path = known[dataset]
    return read_plan(path)


def read_plan(path: Path) -> ConfusionPlan:
    """Read a plan from a file.

    Raises:
        RunFolderError: the file can't be read or is not JSON.
        DataError: it is not a plan.
    """
    value = read_json(path, "give a plan that fmnist-aug plan --out FILE wrote")
    try:
        return ConfusionPlan.from_dict(value)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def check_plan(plan: ConfusionPlan, train: ImageDataset) -> None:
    """Find out before a long training that a plan is of other classes or images.

    Raises:
        DataError: it is.
    """
    if plan.class_names != train.class_names:
        raise DataError(
            f"the plan is for the classes {', '.join(plan.class_names[:4])}, …, but those of "
            f"{train.card.title} are {', '.join(train.class_names[:4])}, …"
        )
    AugmentationSampler(train, dataclasses.replace(plan, refresh_every=0), epochs=1)
