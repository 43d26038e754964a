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
TRIAL_BATCH = 8
HOPELESS = 3.0
"""A precision that takes so many times as long as the fastest on a small batch is not measured any
further: where bf16 is emulated, whole batches of a large network take minutes in it."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        hardware: the choice.
        step_seconds: median seconds of an optimisation step, for each precision that came near the
            fastest in the trial.
        trial_seconds: seconds of a step on 8 images, for each precision that the device knows.
    """

    hardware: Hardware
    step_seconds: dict[str, float]
    trial_seconds: dict[str, float]


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

    def measure(precision: str, batch_size: int, steps: int) -> float:
        return _step_seconds(dataset, settings, Hardware(device, precision), batch_size, steps)

    small = min(TRIAL_BATCH, batch_size)
    trial: dict[str, float] = {}
    for name in candidates(device):
        measure(name, small, 1)  # warms up
        trial[name] = measure(name, small, 1)
    hopeful = [name for name in trial if trial[name] <= HOPELESS * min(trial.values())]
    seconds: dict[str, list[float]] = {name: [] for name in hopeful}
    for turn in range(TURNS + 1):
        for name, times in seconds.items():
            taken = measure(name, batch_size, STEPS)
            if turn:
                times.append(taken)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return Measured(Hardware(device, choose_fastest(medians, rule)), medians, trial)


def _step_seconds(
    dataset: ImageDataset, settings: TrainSettings, hardware: Hardware, batch_size: int, steps: int
) -> float:
    # as many images as give the same batch size: `batch_for` takes an eighth at most
    # spread over all of them, which may be sorted by class
    count = min(max(8, steps) * batch_size, len(dataset))
    places = np.linspace(0, len(dataset) - 1, count).astype(np.int64)
    others = np.flatnonzero(dataset.labels != dataset.labels[places[0]])
    if len(others) and (dataset.labels[places] == dataset.labels[places[0]]).all():
        places[-1] = others[-1]  # of one class alone nothing is trained
    images = dataset.subset(places)
    epochs = steps * batch_size / len(images)
    short = dataclasses.replace(settings, epochs=epochs, batch_size=batch_size)
    trained = train_model(images, short, hardware=hardware)
    return trained.seconds / trained.steps


def choose_fastest(step_seconds: dict[str, float], rule: str) -> str:
    """The fastest precision, or the rule's if that is as fast but for noise."""
    fastest = min(step_seconds, key=step_seconds.__getitem__)
    if rule in step_seconds and step_seconds[rule] <= step_seconds[fastest] * (1 + CLEAR_GAIN):
        return rule
    return fastest
