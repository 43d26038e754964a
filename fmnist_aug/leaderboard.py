"""Our comparisons beside published figures, each with what must be known to believe it.

The published figures, and where each comes from, are in ``data/published.toml``. Most of them are
the best epoch by the test set, which flatters; ours are means over runs, after the last epoch.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.data import Split, load_dataset
from fmnist_aug.data.named import NAMED_DATASETS
from fmnist_aug.errors import DataError, FmnistAugError, RunFolderError

NOT_SAID = "not said"


@dataclass(frozen=True)
class Entry:
    """One line of a leaderboard.

    Attributes:
        dataset: name of the data set.
        accuracy: on all test images, 0–1.
        model: the network.
        parameters: of one network; None if the source doesn't say.
        training: length and augmentation.
        time: of training.
        runs: one run, a mean of several, or the best of several.
        epoch: ``last``, or ``best on test``.
        source: where it comes from: an address, or a comparison's folder.
        ours: whether it is from a comparison of ours.
    """

    dataset: str
    accuracy: float
    model: str
    runs: str
    epoch: str
    source: str
    parameters: int | None = None
    training: str = NOT_SAID
    time: str = NOT_SAID
    ours: bool = False


@dataclass(frozen=True)
class Leaderboard:
    """All entries, and what could not be one.

    Attributes:
        entries: by data set, the highest accuracy first.
        left_out: folders of comparisons that say nothing about the whole test set, and why.
    """

    entries: tuple[Entry, ...]
    left_out: dict[str, str]


def published_entries() -> list[Entry]:
    """The published figures."""
    text = files("fmnist_aug.data").joinpath("published.toml").read_text(encoding="utf-8")
    return [
        Entry(**{**figure, "accuracy": round(figure["accuracy"] / 100, 6)})
        for figure in tomllib.loads(text)["figure"]
    ]


def make_leaderboard(folders: Sequence[Path]) -> Leaderboard:
    """Put finished comparisons beside the published figures.

    Args:
        folders: of comparisons, each counted once; those on other data, or on a slice of it, are
            left out, and those that can't be read if others can.

    Raises:
        RunFolderError: no folder can be read; the first has no ``results.json``, or it was changed.
        DataError: likewise; its ``results.json`` is not of a comparison.
    """
    entries, left_out = published_entries(), dict[str, str]()
    errors: list[FmnistAugError] = []
    once = {os.path.realpath(folder): folder for folder in reversed(folders)}
    for folder in reversed(once.values()):
        try:
            results = ComparisonFolder(folder).load_results()
            name = _named("test", results["fingerprints"]["test"])
            if name is None:
                left_out[str(folder)] = (
                    f"tested on {int(results['test_images'])} images that are not the whole test "
                    "set of Fashion-MNIST or MNIST"
                )
            elif _named("train", results["fingerprints"]["train"]) != name:
                left_out[str(folder)] = (
                    f"trained on {int(results['train_images'])} images that are not the whole "
                    f"training set of {results['dataset']}"
                )
            else:
                entries += _our_entries(name, results, folder)
        except RunFolderError as error:
            errors.append(error)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            errors.append(
                DataError(f"{folder / 'results.json'} is not of a comparison ({error!r})")
            )
        else:
            continue
        left_out[str(folder)] = str(errors[-1])
    if errors and len(errors) == len(once):
        raise errors[0]
    order = list(NAMED_DATASETS)
    entries.sort(key=lambda entry: (order.index(entry.dataset), -entry.accuracy))
    return Leaderboard(tuple(entries), left_out)


def _named(split: Split, fingerprint: str) -> str | None:
    """Which named data set's split it is of."""
    return _fingerprints(split).get(fingerprint)


@functools.cache
def _fingerprints(split: Split) -> dict[str, str]:
    return {load_dataset(name, split).fingerprint(): name for name in NAMED_DATASETS}


def _our_entries(dataset: str, results: dict[str, Any], folder: Path) -> list[Entry]:
    entries = []
    epochs = float(results["config"]["settings"]["epochs"])
    for arm, figures in results["arms"].items():
        runs = [run for run in results["runs"] if run["arm"] == arm]
        seconds = sum(float(run["train_seconds"]) for run in runs) / len(runs)
        spread = figures["std"]
        entries.append(
            Entry(
                dataset=dataset,
                accuracy=float(figures["mean"]),
                model=f"{results['model']}, {arm}",
                parameters=int(results["parameters"]),
                training=f"{epochs:g} epochs, preset {results['preset']}",
                time=f"{seconds:.0f} s a run, {results['environment']['device_name']}",
                runs="one run"
                if spread is None
                else f"mean of {len(runs)} (± {100 * float(spread):.2f})",
                epoch="last",
                source=str(folder),
                ours=True,
            )
        )
    return entries
