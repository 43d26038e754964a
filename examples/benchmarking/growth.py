"""Time an image and memory as data and classes grow, and a comparison's memory as its runs do.

Each case is measured in a process of its own.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarking.timing import Options, spread

CASES = ((6_000, 10), (60_000, 10), (600_000, 10), (60_000, 100))
QUICK = ((600, 10), (1_200, 100))
RUNS = (3, 9)
QUICK_RUNS = (1, 2)
TRAINED = 6_000
"""At least so many images are trained on, and at least a tenth of the data: the draws of the whole
epoch are made in that time, so their cost shows tenfold."""


def measure(options: Options) -> dict[str, Any]:
    repeats = 1 if options.quick else min(3, options.repeats)
    cases = QUICK if options.quick else CASES
    trained = 120 if options.quick else TRAINED
    found: dict[tuple[int, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            found[case].append(_in_a_process("training", *case, trained, options.threads))
    compared = {
        runs: _in_a_process("comparison", runs, int(options.quick))
        for runs in (QUICK_RUNS if options.quick else RUNS)
    }
    comparisons = {
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
    }
    comparisons["peak memory of a comparison"] = {
        "unit": "MB",
        "figures": {
            f"its own process, {runs} runs an arm": spread([figures["megabytes"]])
            for runs, figures in compared.items()
        },
    }
    return {"comparisons": comparisons}


def _in_a_process(*arguments: str | int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarking.growth", *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def comparison(runs: int, quick: int) -> dict[str, float]:
    """Compare baseline, uniform and targeted on a slice, two at a time."""
    from fmnist_aug.comparison import compare

    with tempfile.TemporaryDirectory() as folder:
        compare(
            preset="smoke",
            epochs=0.02 if quick else 1,
            pairs="0:6",
            runs=runs,
            jobs=1 if quick else 2,
            out=Path(folder) / "run",
        )
    return {"megabytes": _peak()}


def _peak() -> float:
    """The most memory that this process has had so far, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would be that of the process that started this one, if larger
        (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


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
    settings = dataclasses.replace(
        PRESETS["light"].settings, epochs=max(0.1, trained_on / images), progressive_resizing=0.0
    )
    trained = train_model(data, settings, base=get_policy("flip"))
    peak = _peak()
    return {
        "microseconds": 1e6 * trained.seconds / trained.images_seen,
        "megabytes": peak,
        "beyond_data": peak - data.images.nbytes / 1e6,
    }


if __name__ == "__main__":
    measured = {"training": one_case, "comparison": comparison}[sys.argv[1]]
    print(json.dumps(measured(*map(int, sys.argv[2:]))))
