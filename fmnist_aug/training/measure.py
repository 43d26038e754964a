"""`--precision measure`: time a few real steps in each precision and take the fastest."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass

import numpy as np

from fmnist_aug.data import ImageDataset
from fmnist_aug.training.engine import train_model
from fmnist_aug.training.hardware import Hardware, candidates
from fmnist_aug.training.settings import TrainSettings

STEPS = 4
TURNS = 5
"""Odd, so that the median is one of them; another turn before them warms up."""
CLEAR_GAIN = 0.03
"""What the rule's choice must lose by to be overruled: a smaller gain is not worth the spread."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        hardware: the choice.
        step_seconds: median seconds of an optimisation step, for each precision.
    """

    hardware: Hardware
    step_seconds: dict[str, float]


def measure_precision(
    dataset: ImageDataset, settings: TrainSettings, device: str, rule: str
) -> Measured:
    """Train a few steps in each precision that the device knows, in turns, and compare.

    Args:
        dataset: training images; a slice of them is enough, its weights are thrown away.
        settings: of the training that the choice is for.
        device: ``cpu``, ``cuda`` or ``mps``.
        rule: the precision that `choose_hardware` takes by itself; kept if none is clearly faster.

    Raises:
        DataError: a test split, or fewer than two classes.
    """
    batch_size = settings.batch_for(len(dataset))
    # as many images as give the same batch size: `batch_for` takes an eighth at most
    needed = np.arange(max(8 * batch_size, STEPS * batch_size)) % len(dataset)
    images = dataset.subset(np.unique(needed))
    epochs = STEPS * batch_size / len(images)
    short = dataclasses.replace(settings, epochs=epochs, batch_size=batch_size)
    seconds: dict[str, list[float]] = {name: [] for name in candidates(device)}
    for turn in range(TURNS + 1):
        for name, times in seconds.items():
            trained = train_model(images, short, hardware=Hardware(device, name))
            if turn:
                times.append(trained.seconds / trained.steps)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return Measured(Hardware(device, choose_fastest(medians, rule)), medians)


def choose_fastest(step_seconds: dict[str, float], rule: str) -> str:
    """The fastest precision, or the rule's if that is as fast but for noise."""
    fastest = min(step_seconds, key=step_seconds.__getitem__)
    if rule in step_seconds and step_seconds[rule] <= step_seconds[fastest] * (1 + CLEAR_GAIN):
        return rule
    return fastest
