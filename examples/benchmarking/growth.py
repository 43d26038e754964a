"""Time an image and memory as data and classes grow; each case in a process of its own."""

import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarking.timing import Options, spread

CASES = ((6_000, 10), (60_000, 10), (600_000, 10), (60_000, 100))
QUICK = ((600, 10), (1_200, 100))
TRAINED = 6_000
"""At least so many images are trained on, and at least a tenth of the data: the draws of the whole
epoch are made in that time, so their cost shows tenfold."""


def measure(options: Options) -> dict[str, Any]:
    repeats = 1 if options.quick else min(3, options.repeats)
    cases = QUICK if options.quick else CASES
    found: dict[tuple[int, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            found[case].append(_in_a_process(*case, options))
    return {
        "comparisons": {
            title: {
                "unit": unit,
                "figures": {
                    f"{images:,} images, {classes} classes": spread([run[key] for run in runs])
                    for (images, classes), runs in found.items()
                },
            }
            for key, title, unit in (
                ("microseconds", "time of training", "µs/image"),
                ("megabytes", "peak memory", "MB"),
                ("beyond_data", "peak memory beyond the images", "MB"),
            )
        },
    }


def _in_a_process(images: int, classes: int, options: Options) -> dict[str, float]:
    trained = 120 if options.quick else TRAINED
    arguments = [str(value) for value in (images, classes, trained, options.threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarking.growth", *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def one_case(images: int, classes: int, trained_on: int, threads: int) -> dict[str, float]:
    """Train on repeated Fashion-MNIST, its classes cut into more of them at random."""
    import numpy as np
    import torch

    from fmnist_aug import load_dataset
    from fmnist_aug.augment import get_policy
    from fmnist_aug.data import ImageDataset
    from fmnist_aug.training import PRESETS, train_model

    torch.set_num_threads(threads)
    source = load_dataset()
    which = np.arange(images) % len(source)
    labels = source.labels[which] * (classes // 10) + which % (classes // 10)
    names = tuple(str(label) for label in range(classes))
    data = ImageDataset(source.images[which], labels, names, source.card)
    settings = dataclasses.replace(PRESETS["fast"].settings, epochs=max(0.1, trained_on / images))
    trained = train_model(data, settings, base=get_policy("flip"))
    # kilobytes on Linux, bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 if sys.platform == "darwin" else 1 / 1024
    )
    return {
        "microseconds": 1e6 * trained.seconds / trained.images_seen,
        "megabytes": peak / 1e6,
        "beyond_data": (peak - data.images.nbytes) / 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(one_case(*map(int, sys.argv[1:]))))
