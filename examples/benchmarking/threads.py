"""What backs the rule of ``training/threads.py``: half a batch each, or each operation shared."""

import dataclasses
from typing import Any
from unittest import mock

import numpy as np

from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import load_dataset
from fmnist_aug.training import PRESETS, TrainSettings, engine, train_model

OURS = "half a batch each"
STEPS = {"fast-cnn": 60, "deep-cnn-48": 20}


def measure(options: Options) -> dict[str, Any]:
    models = [dataclasses.replace(PRESETS["light"].settings, model=name) for name in STEPS]
    return {
        "comparisons": {
            f"{settings.model}, batches of {settings.batch_size}": compared(
                in_turns(
                    {
                        OURS: lambda settings=settings: train(settings, 2, options),
                        "operations shared": lambda settings=settings: train(settings, 1, options),
                    },
                    options.repeats,
                ),
                ours=OURS,
                unit="images/s",
            )
            for settings in models
        },
        "notes": [f"of {options.threads} threads; on two the engine gives each half a batch"],
    }


def train(settings: TrainSettings, crew: int, options: Options) -> float:
    """Images a second with a crew of one or two."""
    steps, batch = 1 if options.quick else STEPS[settings.model], settings.batch_size
    data = load_dataset().subset(np.arange(8 * batch))
    settings = dataclasses.replace(settings, epochs=steps * batch / len(data))
    with mock.patch.object(engine, "threads_that_pay", return_value=crew):
        trained = train_model(data, settings)
    return trained.images_seen / trained.seconds
