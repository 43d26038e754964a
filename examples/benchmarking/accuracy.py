"""Seconds of training to 93, 94 and 95 % on Fashion-MNIST: the whole grid, nothing picked.

Each method has a fixed list of lengths, and each length is trained with seeds that nothing was
tuned on. Nothing is stopped by looking at the test set: the accuracy is that of the last epoch.
The seconds are those of training, with all that it prepares, and of the test-time views; reading
the data, warming up (on dummy labels) and counting what is right lie outside. Every finished
training is a line of a file, and is not repeated on the same machine.
"""

import dataclasses
import json
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarking.plain_loop import accuracy, make_model, torchvision_images, train_plainly
from benchmarking.timing import Options, spread
from fmnist_aug import ConfusionPlan, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.comparison import base_augmentation
from fmnist_aug.comparison.environment import describe_environment
from fmnist_aug.training import PRESETS, Hardware, choose_hardware, train_model

TARGETS = (0.93, 0.94, 0.95)
FIRST_SEED = 1000
LENGTHS: dict[str, tuple[float, ...]] = {
    "fast preset": (1, 2, 3, 4, 6, 8, 12, 16, 24),
    "medium-cpu preset": (11,),
    "strong-cpu preset": (11, 26),
    "fast-gpu preset": (4, 6, 8),
    "gpu preset": (4, 6, 8),
    "baseline-cnn, engine": (2, 4, 8, 12, 16, 24),
    "baseline-cnn, plain loop": (2, 4, 8, 12, 16, 24),
    "resnet18, plain loop": (2, 4, 8, 12, 16, 24),
}
Outcome = dict[str, Any]


def measure(options: Options) -> dict[str, Any]:
    limit = 160 if options.quick else None
    lengths = {
        name: (options.lengths or values)[: 1 if options.quick else None]
        for name, values in LENGTHS.items()
        if name in (options.methods or _methods())
    }
    seeds = range(FIRST_SEED, FIRST_SEED + (1 if options.quick else options.runs))
    wanted = [
        # short ones first: a look at the file tells most while it grows
        (method, epochs, seed)
        for epochs in sorted({epochs for values in lengths.values() for epochs in values})
        for method, values in lengths.items()
        for seed in seeds
        if epochs in values
    ]
    here = {method: _where(method) for method in lengths}
    outcomes = {_key(outcome): outcome for outcome in _read(options, limit, here)}
    for method, epochs, seed in wanted:
        if (method, epochs, seed) not in outcomes:
            outcome = {**_train(method, epochs, seed, limit), **here[method]}
            _append(options, outcome)
            outcomes[method, epochs, seed] = outcome
    return summary([outcomes[key] for key in wanted])


def _methods() -> list[str]:
    """Those that suit this machine."""
    gpu = choose_hardware().device == "cuda"
    return [name for name in LENGTHS if gpu or "gpu" not in name]


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """All lengths of all methods, then the shortest that reaches each target on average."""
    groups: dict[tuple[str, float], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome["method"], outcome["epochs"]].append(outcome)
    comparisons = {
        unit: {
            "unit": unit,
            "figures": {
                f"{method}, {epochs:g} epochs": spread([scale * run[key] for run in runs])
                for (method, epochs), runs in groups.items()
            },
        }
        for key, unit, scale in (("accuracy", "% right", 100), ("seconds", "s", 1))
    }
    notes, shortest = [], {}
    for target in TARGETS:
        for method in dict.fromkeys(method for method, _ in groups):
            reached = [
                (mean(run["seconds"] for run in runs), epochs, len(runs))
                for (name, epochs), runs in groups.items()
                if name == method and mean(run["accuracy"] for run in runs) >= target
            ]
            shortest[f"{target:.0%} {method}"] = min(reached)[0] if reached else None
            notes.append(
                f"{target:.0%} {method}: "
                + (
                    f"{min(reached)[0]:.1f} s, {min(reached)[1]:g} epochs, "
                    f"mean of {min(reached)[2]}"
                    if reached
                    else "not reached"
                )
            )
    commits = sorted({str(outcome["commit"]) for outcome in outcomes})
    if len(commits) > 1:
        notes.append(f"trained at several commits: {', '.join(commits)}")
    return {"comparisons": comparisons, "seconds_to": shortest, "notes": notes}


def _train(method: str, epochs: float, seed: int, limit: int | None) -> Outcome:
    train: Callable[..., tuple[float, float]] = _plain if "plain" in method else _engine
    reached, seconds = train(method, epochs, seed, limit)
    return {
        "method": method,
        "epochs": epochs,
        "seed": seed,
        "images": limit,
        "accuracy": reached,
        "seconds": seconds,
    }


def _where(method: str) -> dict[str, Any]:
    """Where a method is trained, and by which commit."""
    # the loop that people write knows of no other precision, and stays on the CPU
    hardware = Hardware("cpu", "fp32") if "plain" in method else choose_hardware()
    environment = describe_environment(hardware)
    names = ("threads", "torch", "device", "precision", "device_name", "commit")
    return {name: environment[name] for name in names}


def _engine(method: str, epochs: float, seed: int, limit: int | None) -> tuple[float, float]:
    preset = PRESETS["original" if "baseline-cnn" in method else method.removesuffix(" preset")]
    settings = preset.settings
    train, test = (load_dataset("fashion-mnist", split) for split in ("train", "test"))
    if limit is not None:
        train, test = (data.subset(np.arange(limit)) for data in (train, test))
    warm = train.subset(np.arange(min(len(train), 8 * settings.batch_size)))
    dummy = dataclasses.replace(warm, labels=np.arange(len(warm)) % 10)
    train_model(dummy, dataclasses.replace(settings, epochs=0.5))
    started = time.perf_counter()
    trained = train_model(
        train,
        dataclasses.replace(settings, epochs=epochs),
        base=base_augmentation(train, settings.augment),
        plan=ConfusionPlan.empty(train.class_names, keep=preset.keep),
        seed=seed,
    )
    predicted = trained.classifier.predict(test.images)
    seconds = time.perf_counter() - started
    return float((predicted == test.labels).mean()), seconds


def _plain(method: str, epochs: float, seed: int, limit: int | None) -> tuple[float, float]:
    torch.manual_seed(seed)
    model = make_model(method.split(",")[0])
    model(torch.zeros(128, 1, 28, 28)).sum().backward()
    model.zero_grad()
    data = torchvision_images(True, get_policy("flip"), limit)
    batch_size = 128 if limit is None else 32
    seconds = train_plainly(model, data, batch_size=batch_size, epochs=epochs, seed=seed)
    return accuracy(model, limit), seconds


def _key(outcome: Outcome) -> tuple[str, float, int]:
    return outcome["method"], outcome["epochs"], outcome["seed"]


def _read(options: Options, limit: int | None, here: dict[str, dict[str, Any]]) -> list[Outcome]:
    """What is known of these methods, from machines whose seconds may stand beside this one's."""
    if not options.accuracy_file.exists():
        return []
    lines = options.accuracy_file.read_text().splitlines()
    outcomes = [json.loads(line) for line in lines if line.endswith("}")]  # not one cut short
    return [
        outcome
        for outcome in outcomes
        if outcome["images"] == limit
        and outcome["method"] in here
        and all(
            outcome[name] == here[outcome["method"]][name]
            for name in ("threads", "device", "precision", "device_name")
        )
    ]


def _append(options: Options, outcome: Outcome) -> None:
    options.accuracy_file.parent.mkdir(parents=True, exist_ok=True)
    with options.accuracy_file.open("a") as stream:
        stream.write(json.dumps(outcome) + "\n")
    print(outcome, flush=True)
