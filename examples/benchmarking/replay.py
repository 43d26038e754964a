"""Milliseconds a training step takes on a GPU: replayed, and told kernel by kernel."""

import dataclasses
from functools import partial
from typing import Any
from unittest.mock import patch

from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import ConfusionPlan, load_dataset
from fmnist_aug.comparison import base_augmentation
from fmnist_aug.data import ImageDataset
from fmnist_aug.training import PRESETS, TrainSettings, choose_hardware, train_model

STEPS = 50, 250
"""Lengths of two trainings whose difference is free of what is done once."""


def measure(options: Options) -> dict[str, Any]:
    if choose_hardware().device != "cuda":
        return {"notes": ["no CUDA GPU: nothing is replayed elsewhere"]}
    train = load_dataset("fashion-mnist", "train")
    comparisons = {}
    for name in ("fast", "fast-gpu", "original", "gpu"):
        settings = options.shortened(PRESETS[name].settings)
        contenders = {
            "replayed": partial(milliseconds, train, settings),
            "one by one": patch(
                "fmnist_aug.training.engine.ReplayedStep", lambda step, version, device: step
            )(partial(milliseconds, train, settings)),
        }
        comparisons[f"preset {name}, batches of {settings.batch_size}"] = compared(
            in_turns(contenders, options.repeats),
            ours="replayed",
            unit="ms a step",
            more_is_better=False,
        )
    return {"comparisons": comparisons}


def milliseconds(train: ImageDataset, settings: TrainSettings) -> float:
    seconds = [
        train_model(
            train,
            dataclasses.replace(settings, epochs=steps * settings.batch_size / len(train)),
            base=base_augmentation(train, settings.augment),
            plan=ConfusionPlan.empty(train.class_names, keep=0.5),
        ).seconds
        for steps in STEPS
    ]
    return 1000 * (seconds[1] - seconds[0]) / (STEPS[1] - STEPS[0])
