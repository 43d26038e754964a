"""The one engine that trains every model on every device."""

from fmnist_aug.training.engine import TrainedModel, check_classes, train_model
from fmnist_aug.training.hardware import Hardware, choose_hardware
from fmnist_aug.training.measure import Measured, measure_precision
from fmnist_aug.training.progress import TrainProgress
from fmnist_aug.training.settings import (
    PRESETS,
    Preset,
    TrainSettings,
    default_preset,
    get_preset,
)

__all__ = [
    "PRESETS",
    "Hardware",
    "Measured",
    "Preset",
    "TrainProgress",
    "TrainSettings",
    "TrainedModel",
    "check_classes",
    "choose_hardware",
    "default_preset",
    "get_preset",
    "measure_precision",
    "train_model",
]
