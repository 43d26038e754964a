"""`compare`: checks what is asked for, and goes on in its folder or shows what is there."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from fmnist_aug.comparison.cluster import check_backend, join_cluster
from fmnist_aug.comparison.comparing import Comparing, Comparison, OnProgress
from fmnist_aug.comparison.config import ComparisonConfig, resolve_config, settle_precision
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.inputs import load_splits
from fmnist_aug.comparison.jobs import Schedule, make_schedule
from fmnist_aug.comparison.plan_files import check_plan, load_plan
from fmnist_aug.comparison.sharing import share_images
from fmnist_aug.computing import use_threads
from fmnist_aug.data import NAMED_DATASETS, ImageDataset, check_split
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.files import owned_folder
from fmnist_aug.models import create_model
from fmnist_aug.pairs import check_pairs
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training import check_classes


def compare(
    dataset: str | Path = "fashion-mnist",
    *,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: bool = True,
    extend: bool = False,
    jobs: int | None = None,
    backend: str = "local",
    scheduler: str | None = None,
    stream: bool | None = None,
    plan: ConfusionPlan | str | Path | None = None,
    command: str | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Comparison:
    """Train every arm with every seed and compare them on the test set.

    The same call again goes on where an earlier one stopped; finished runs are not repeated. On
    one machine the numbers are the same for any number of jobs. Draws and augmentations are the
    same everywhere; with another number of threads or cores, float32 sums may differ in their last
    digits, and so may a few predictions.

    Args:
        dataset: name or path, as for `load_dataset`.
        out: folder for the results; ``runs/<dataset>-<preset>`` by default.
        data_dir: folder in which named sets are looked for before the packaged ones.
        resume: whether to go on in a folder that has results already, or to start over.
        extend: whether the folder may be of a comparison with fewer of these arms or runs; what
            it lacks is added, and its results stay until the new ones are written.
        jobs: runs side by side; None for as many as the cores can do, one on a GPU; on a cluster
            as many as its workers take.
        backend: ``local``, or ``dask`` for the workers of a Dask cluster (extra ``dask``).
        scheduler: address of that cluster's scheduler.
        stream: as for `load_dataset`.
        plan: a plan, its file, or ``default`` for the one that comes with the package; by default
            one is made from the confusions of a probe.
        command: how to repeat this, for the record.
        on_progress: called as things happen.
        **options: as for `resolve_config`: ``preset``, ``runs``, ``seed``, ``arms``, ``pairs``, …

    Raises:
        UsageError: an argument that can't be used.
        DataError: the data is missing, damaged, or unfit.
        RunFolderError: the folder can't be used.
        TrainingError: a loss is no longer finite, or processes or workers died again and again.
    """
    check_backend(backend, scheduler)
    if extend and not resume:
        raise UsageError("--extend adds to what is there, --no-resume removes it; leave one out")
    if out is not None and not str(out):
        raise UsageError("out is empty; name a folder (--out), or leave it out")
    if plan is not None and not isinstance(plan, ConfusionPlan):
        plan = load_plan(plan, str(dataset))
    config = resolve_config(dataset, plan=plan, **options)
    schedule = make_schedule(jobs, len(config.arms) * config.runs, config.hardware.device)
    train, test = load_splits(config, data_dir, stream)
    if backend == "dask":
        schedule = dataclasses.replace(schedule, jobs=jobs or len(config.arms) * config.runs)
    elif schedule.jobs > 1:
        train, test = share_images(train), share_images(test)
    check_pairs(config.pairs, train.class_names)
    if plan is not None:
        check_plan(plan, train)
    _check_trainable(config, train)
    path = Path(out) if out is not None else Path("runs") / f"{train.card.name}-{config.preset}"
    if out is not None and config.dataset not in NAMED_DATASETS:
        _check_apart(path, Path(config.dataset))
    with join_cluster(backend, scheduler) as cluster, owned_folder(path):
        folder = ComparisonFolder(path)
        fingerprints = {"train": train.fingerprint(), "test": test.fingerprint()}
        config, measured = _settle(config, train, folder if resume else None, schedule)
        folder.claim({**config.to_dict(), "fingerprints": fingerprints}, resume, measured, extend)
        earlier = load_comparison(path) if folder.results.exists() else None
        if earlier and earlier.is_of(config):
            return earlier
        return Comparing(
            config,
            schedule,
            cluster,
            (train, test),
            folder,
            fingerprints,
            command,
            on_progress,
            earlier,
        ).execute()


def load_comparison(path: Path) -> Comparison:
    """A finished comparison, from its folder.

    Raises:
        RunFolderError: ``results.json`` is missing, damaged, or is not JSON.
        DataError: it is not of a comparison.
    """
    results = ComparisonFolder(path).load_results()
    try:
        found = Comparison(path, results, ConfusionPlan.from_dict(results["plan"]))
        if not (found.runs and results["config"]["arms"]):
            raise KeyError("runs")
        return found
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path / 'results.json'} is not of a comparison ({error!r})") from error


def _check_apart(out: Path, dataset: Path) -> None:
    """Refuse a folder for results among the pictures: its charts would become a class of them.

    Raises:
        UsageError: it is there.
    """
    # pathlib's own resolve fails on links that lead to themselves
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(dataset)):
        raise UsageError(
            f"{out} lies in the data set's own folder {dataset}, where the report's pictures would "
            "pass for its images; choose another --out"
        )


def _check_trainable(config: ComparisonConfig, train: ImageDataset) -> None:
    """Find out before a folder is made that these images can't be trained on."""
    check_split(train)
    check_classes(train)
    with torch.device("meta"):  # without memory, time or random numbers
        create_model(
            config.settings.model, train.num_classes, train.images.shape[3], train.image_size
        )


def _settle(
    config: ComparisonConfig,
    train: ImageDataset,
    folder: ComparisonFolder | None,
    schedule: Schedule,
) -> tuple[ComparisonConfig, dict[str, Any] | None]:
    """Measure the precision if that was asked for, unless the folder has its own already."""
    if config.hardware.precision == "measure" and folder and (kept := folder.kept_precision()):
        hardware = dataclasses.replace(config.hardware, precision=kept)
        return dataclasses.replace(config, hardware=hardware), None
    with use_threads(schedule.threads):
        config, measured = settle_precision(config, train)
    return config, dataclasses.asdict(measured) if measured else None
