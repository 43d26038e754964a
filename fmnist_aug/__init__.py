"""Find the classes that an image classifier confuses, augment exactly those, and measure honestly.

The public names are imported on first use, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from fmnist_aug.augment import AugmentedDataset as AugmentedDataset
    from fmnist_aug.batch_sampler import HardExampleBatchSampler as HardExampleBatchSampler
    from fmnist_aug.classifier import load_classifier as load_classifier
    from fmnist_aug.comparison import compare as compare
    from fmnist_aug.confusion import ConfusionReport as ConfusionReport
    from fmnist_aug.data import load_dataset as load_dataset
    from fmnist_aug.estimator import (
        TargetedAugmentationClassifier as TargetedAugmentationClassifier,
    )
    from fmnist_aug.models import BaselineCNN as BaselineCNN
    from fmnist_aug.models import create_model as create_model
    from fmnist_aug.plan import ConfusionPlan as ConfusionPlan
    from fmnist_aug.sampler import AugmentationSampler as AugmentationSampler
    from fmnist_aug.sampler import DistributedAugmentationSampler as DistributedAugmentationSampler

_HOMES = {
    "AugmentationSampler": "sampler",
    "AugmentedDataset": "augment",
    "BaselineCNN": "models",
    "ConfusionPlan": "plan",
    "ConfusionReport": "confusion",
    "DistributedAugmentationSampler": "sampler",
    "HardExampleBatchSampler": "batch_sampler",
    "TargetedAugmentationClassifier": "estimator",
    "compare": "comparison",
    "create_model": "models",
    "load_classifier": "classifier",
    "load_dataset": "data",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer to import than all else here

        return version("fmnist-aug")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"fmnist_aug.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, "__version__"]
