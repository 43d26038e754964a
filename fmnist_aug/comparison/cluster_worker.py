"""The other end of `cluster`: what is kept and done on a Dask worker. Only Dask loads this."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from distributed import WorkerPlugin, get_worker

from fmnist_aug.comparison.jobs import OnRun, Schedule, train_runs
from fmnist_aug.comparison.run import Run, Splits
from fmnist_aug.errors import TrainingError
from fmnist_aug.training import TrainProgress

TrainOn = Callable[[Splits, Run, Callable[[TrainProgress], None]], Any]


class KeptSplits(WorkerPlugin):  # type: ignore[misc]
    """The images on every worker, also on those that join later.

    A plugin, because Dask would send runs where scattered data is rather than where nothing is to
    do, and lose the data with the worker that holds it.

    Args:
        splits: what to keep.
        name: of this plugin.
    """

    def __init__(self, splits: Splits, name: str) -> None:
        self.splits = splits
        self.name = name


def train_on_worker(
    train: TrainOn, images: str, run: Run, threads: int, versions: Mapping[str, str], topic: str
) -> Any:
    """Train a run in a process of its own, telling the client how far it is.

    Args:
        train: trains it.
        images: name of the `KeptSplits`.
        run: which.
        threads: of its process.
        versions: of packages, as they are on the client.
        topic: of the events for the client: (kind, run, value).

    Raises:
        TrainingError: other versions, the process was killed three times, or nobody waits.
        Exception: what ``train`` raised.
    """
    worker = get_worker()
    for name, wanted in versions.items():
        if version(name) != wanted:
            raise TrainingError(
                f"the Dask worker {worker.address} has {name} {version(name)}, the client "
                f"{wanted}; install the same, or runs could not be compared"
            )
    key = worker.get_current_task()

    def tell(kind: str, value: Any = None) -> None:
        worker.log_event(topic, (kind, tuple(run), value))

    def progress(_: Run, training: TrainProgress) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise TrainingError("nobody waits for this run any more")
        tell("progress", dataclasses.asdict(training))

    found: list[Any] = []
    tell("started")
    train_runs(
        functools.partial(train, worker.plugins[images].splits),
        [run],
        Schedule(2, threads),  # more than one, so that it gets a process of its own
        OnRun(
            progress=progress,
            finished=lambda _, value: found.append(value),
            again=lambda _: tell("started"),
        ),
    )
    return found[0]
