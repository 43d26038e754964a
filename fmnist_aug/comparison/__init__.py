"""Training baseline against augmented arms, and saying what came of it."""

from fmnist_aug.comparison.arms import ARMS, arm_treatment, base_augmentation
from fmnist_aug.comparison.compare import compare
from fmnist_aug.comparison.comparing import Comparison, ComparisonProgress
from fmnist_aug.comparison.config import ComparisonConfig, resolve_config, settle_precision
from fmnist_aug.comparison.inputs import load_split, load_splits
from fmnist_aug.comparison.probe import (
    make_plan,
    measure_confusions,
    measure_out_of_fold,
    run_probe,
)
from fmnist_aug.statistics import Contrast, contrast

__all__ = [
    "ARMS",
    "Comparison",
    "ComparisonConfig",
    "ComparisonProgress",
    "Contrast",
    "arm_treatment",
    "base_augmentation",
    "compare",
    "contrast",
    "load_split",
    "load_splits",
    "make_plan",
    "measure_confusions",
    "measure_out_of_fold",
    "resolve_config",
    "run_probe",
    "settle_precision",
]
