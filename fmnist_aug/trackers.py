"""TensorBoard and MLflow, fed by the progress of trainings and comparisons."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fmnist_aug.errors import UsageError

if TYPE_CHECKING:
    from fmnist_aug.comparison import ComparisonProgress
    from fmnist_aug.training import TrainProgress

EXPERIMENT = "fmnist-aug"
"""The name of the experiment in MLflow."""


class Tracker(Protocol):
    """Where the figures of runs go."""

    def log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Keep figures of a run at a step."""

    def close(self, status: str) -> None:
        """End all runs as ``FINISHED``, ``FAILED`` or ``KILLED``."""


class Trackers:
    """Hands progress on to any number of trackers.

    Args:
        trackers: where it goes.
    """

    def __init__(self, trackers: list[Tracker]) -> None:
        self.trackers = trackers
        self._steps: dict[str, int] = {}

    def training(self, run: str, progress: TrainProgress) -> None:
        """Keep how a training goes: loss, accuracy on augmented training images, speed."""
        if not self.trackers:
            return
        self._steps[run] = progress.step
        self._log(
            run,
            {
                "train_loss": progress.loss,
                "train_accuracy": progress.accuracy,
                "epoch": progress.epoch,
                "images_per_second": progress.images_per_second,
            },
        )

    def comparison(self, event: ComparisonProgress) -> None:
        """Keep what happens in a comparison, each training as a run of its own."""
        run = f"{event.arm}-{event.seed}"
        if event.training is not None:
            self.training(run, event.training)
        elif event.accuracy is not None:
            self.finished(run, event.accuracy)

    def finished(self, run: str, test_accuracy: float) -> None:
        """Keep the accuracy of a finished run on the test set."""
        self._log(run, {"test_accuracy": test_accuracy})

    def _log(self, run: str, metrics: dict[str, float]) -> None:
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        step = self._steps.get(run, 0)
        self.trackers = [
            tracker
            for tracker in self.trackers
            if _guarded(tracker, functools.partial(tracker.log, run, finite, step))
        ]


@contextlib.contextmanager
def open_trackers(
    tensorboard: str | Path | None = None,
    mlflow: str | None = None,
    *,
    name: str,
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[Trackers]:
    """Open the trackers that are asked for, and close them whatever happens.

    Args:
        tensorboard: folder for TensorBoard's event files, one folder a run in it.
        mlflow: tracking URI of MLflow: a server's address, ``sqlite:///FILE`` or a folder.
        name: of what is tracked; MLflow's parent run.
        parameters: settings to keep with it.

    Raises:
        UsageError: a package is missing, or the store can't be used.
    """
    parameters = {key: value for key, value in (parameters or {}).items() if value is not None}
    trackers: list[Tracker] = []
    status = "FAILED"
    try:
        if tensorboard is not None:
            trackers.append(_TensorBoard(Path(tensorboard)))
        if mlflow is not None:
            trackers.append(_MLflow(mlflow, name, parameters))
        yield Trackers(trackers)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        for tracker in trackers:
            _guarded(tracker, functools.partial(tracker.close, status))


def _guarded(tracker: Tracker, act: Callable[[], None]) -> bool:
    """Whether that worked: a server that is away must not end a training of hours."""
    try:
        act()
    except Exception as error:
        warnings.warn(
            f"{type(tracker).__name__.strip('_')} failed and gets nothing more: {error}",
            stacklevel=2,
        )
        return False
    return True


class _TensorBoard:
    """One event file a run, in a folder named like it."""

    def __init__(self, folder: Path) -> None:
        _require("tensorboard", "tensorboard")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot use {folder} for TensorBoard: {error.strerror}; choose another folder"
            ) from error
        self.folder = folder
        self.writers: dict[str, Any] = {}

    def log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if run not in self.writers:
            self.writers[run] = SummaryWriter(self.folder / run)  # type: ignore[no-untyped-call]
        for name, value in metrics.items():
            self.writers[run].add_scalar(name, value, step)

    def close(self, status: str) -> None:
        for writer in self.writers.values():
            writer.close()


class _MLflow:
    """A parent run with the settings, and a nested run for each training.

    MLflow's client is used directly, so a run that the user has open is left alone.
    """

    def __init__(self, uri: str, name: str, parameters: Mapping[str, Any]) -> None:
        _require("mlflow", "mlflow")
        # by itself MLflow tries for minutes to reach a server that is not there
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            self.client = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment = (
                found.experiment_id if found else self.client.create_experiment(EXPERIMENT)
            )
            self.parent = self._start(name)
            for key, value in parameters.items():
                self.client.log_param(self.parent, key, value)
        except (MlflowException, OSError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(f"cannot use the MLflow store {uri!r}: {reason}") from error
        self.runs: dict[str, str] = {}

    def log(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        if run not in self.runs:
            self.runs[run] = self._start(run, {"mlflow.parentRunId": self.parent})
        now = int(time.time() * 1000)
        values = [Metric(name, value, now, step) for name, value in metrics.items()]
        self.client.log_batch(self.runs[run], metrics=values)

    def close(self, status: str) -> None:
        for run in (*self.runs.values(), self.parent):
            self.client.set_terminated(run, status)

    def _start(self, name: str, tags: dict[str, str] | None = None) -> str:
        tags = {"mlflow.source.name": "fmnist-aug", **(tags or {})}
        started = self.client.create_run(self.experiment, run_name=name, tags=tags)
        return str(started.info.run_id)


def _require(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise UsageError(
            f"--{extra} needs {package}; install with: pip install 'fmnist-aug[{extra}]'"
        )
