"""`compare`: probe → plan → arms × seeds → figures → report, resumable at every step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist_aug.augment.policies import Policy
from fmnist_aug.comparison.arms import base_augmentation
from fmnist_aug.comparison.config import ComparisonConfig, resolve_config, settle_precision
from fmnist_aug.comparison.environment import describe_environment
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.inputs import load_splits
from fmnist_aug.comparison.jobs import (
    OnRun,
    Schedule,
    make_schedule,
    train_runs,
    use_threads,
)
from fmnist_aug.comparison.plan_files import check_plan, load_plan
from fmnist_aug.comparison.probe import Probe, make_plan, measure_confusions
from fmnist_aug.comparison.results import (
    SCHEMA,
    arm_figures,
    contrast_figures,
    runs_csv,
)
from fmnist_aug.comparison.run import Run, RunInputs, train_run
from fmnist_aug.confusion import class_index
from fmnist_aug.data import ImageDataset, held_out_split
from fmnist_aug.errors import DataError
from fmnist_aug.files import owned_folder, write_text
from fmnist_aug.models import create_model
from fmnist_aug.plan import ConfusionPlan, parse_pairs
from fmnist_aug.training import TrainProgress, check_classes


@dataclass(frozen=True)
class Comparison:
    """What a comparison found and where its files are.

    Attributes:
        folder: the run folder.
        results: the content of ``results.json``.
        plan: which classes were targeted, and why.
    """

    folder: Path
    results: dict[str, Any]
    plan: ConfusionPlan


@dataclass(frozen=True)
class ComparisonProgress:
    """How far a comparison is.

    Attributes:
        stage: ``probe``, ``plan``, ``train``, ``finished`` (a run, now or earlier), ``again`` (a
            run whose process was killed is done again) or ``report``.
        run: trainings done, the probe included.
        runs: trainings in all, the probe included.
        arm: the arm that is trained, ``probe`` for the probe.
        seed: its seed.
        training: how far that training is, while it runs.
        accuracy: of the finished run on the test set.
        plan: once it is made.
    """

    stage: str
    run: int
    runs: int
    arm: str = ""
    seed: int = 0
    training: TrainProgress | None = None
    accuracy: float | None = None
    plan: ConfusionPlan | None = None


OnProgress = Callable[[ComparisonProgress], None]


def compare(
    dataset: str | Path = "fashion-mnist",
    *,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    resume: bool = True,
    jobs: int | None = None,
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
        jobs: runs side by side; None for as many as the cores can do, one on a GPU.
        plan: a plan, its file, or ``default`` for the one that comes with the package; by default
            one is made from the confusions of a probe.
        command: how to repeat this, for the record.
        on_progress: called as things happen.
        **options: as for `resolve_config`: ``preset``, ``runs``, ``seed``, ``arms``, ``pairs``, …

    Raises:
        UsageError: an argument that can't be used.
        DataError: the data is missing, damaged, or unfit.
        RunFolderError: the folder can't be used.
    """
    if plan is not None and not isinstance(plan, ConfusionPlan):
        plan = load_plan(plan, str(dataset))
    config = resolve_config(dataset, plan=plan, **options)
    schedule = make_schedule(jobs, len(config.arms) * config.runs, config.hardware.device)
    train, test = load_splits(config, data_dir)
    check_pairs(config.pairs, train.class_names)
    if plan is not None:
        check_plan(plan, train)
    _check_trainable(config, train)
    path = Path(out) if out is not None else Path("runs") / f"{train.card.name}-{config.preset}"
    with owned_folder(path):
        folder = ComparisonFolder(path)
        fingerprints = {"train": train.fingerprint(), "test": test.fingerprint()}
        config, measured = _settle(config, train, folder if resume else None, schedule)
        folder.claim({**config.to_dict(), "fingerprints": fingerprints}, resume, measured)
        if folder.results.exists():
            return load_comparison(path)
        return _Comparing(
            config, schedule, train, test, folder, fingerprints, command, on_progress
        ).execute()


def load_comparison(path: Path) -> Comparison:
    """A finished comparison, from its folder.

    Raises:
        RunFolderError: ``results.json`` is missing, damaged, or is not JSON.
        DataError: it is not of a comparison.
    """
    results = ComparisonFolder(path).load_results()
    try:
        return Comparison(path, results, ConfusionPlan.from_dict(results["plan"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path / 'results.json'} is not of a comparison ({error!r})") from error


def check_pairs(pairs: str, class_names: Sequence[str]) -> None:
    """Find out before a long training that a class is unknown.

    Raises:
        UsageError: it is.
    """
    if pairs != "auto":
        for pair in parse_pairs(pairs):
            for name in pair:
                class_index(name, class_names)


def _check_trainable(config: ComparisonConfig, train: ImageDataset) -> None:
    """Find out before a folder is made that these images can't be trained on."""
    held_out_split(train, config.held_out, config.seed)
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


def _train_probe(
    train: ImageDataset,
    config: ComparisonConfig,
    base: Policy,
    state_path: Path,
    _: Run,
    on_progress: Callable[[TrainProgress], None],
) -> Probe:
    return measure_confusions(
        train,
        config.settings,
        epochs=config.probe_epochs,
        base=base,
        held_out=config.held_out,
        seed=config.seed,
        hardware=config.hardware,
        state_path=state_path,
        on_progress=on_progress,
    )


class _Comparing:
    """One comparison under way."""

    def __init__(
        self,
        config: ComparisonConfig,
        schedule: Schedule,
        train: ImageDataset,
        test: ImageDataset,
        folder: ComparisonFolder,
        fingerprints: dict[str, str],
        command: str | None,
        on_progress: OnProgress | None,
    ) -> None:
        self.config = config
        self.schedule = schedule
        self.train = train
        self.test = test
        self.folder = folder
        self.fingerprints = fingerprints
        # described now: a checkout may move on while this runs
        self.environment = {
            **describe_environment(config.hardware, command),
            **dataclasses.asdict(schedule),
        }
        self.on_progress = on_progress
        self.base = base_augmentation(train, config.settings.augment)
        self.trainings = (config.plan is None) + len(config.arms) * config.runs
        self.done = 0

    def execute(self) -> Comparison:
        plan, probe = self._plan()
        runs = self._runs(plan)
        self._tell("report")
        logits = {
            (run["arm"], run["seed"]): self.folder.load_logits(run["arm"], run["seed"])[0]
            for run in runs
        }
        results = self._results(runs, logits, plan, probe)
        write_text(self.folder.runs_csv, runs_csv(runs))
        write_comparison_report(self.folder.path, results, self.train, self.test, logits, plan)
        self.folder.save_results(results)
        return Comparison(self.folder.path, results, plan)

    def _tell(self, stage: str, **details: Any) -> None:
        if self.on_progress:
            self.on_progress(ComparisonProgress(stage, self.done, self.trainings, **details))

    def _plan(self) -> tuple[ConfusionPlan, dict[str, Any]]:
        config = self.config
        kept = self.folder.load_plan()
        if config.plan is not None:
            kept = config.plan, {"held_out_images": 0, "accuracy": None, "seconds": 0.0}
            self.folder.save_plan(*kept)
            self._tell("plan", plan=config.plan)
            return kept
        if kept is None:
            found = self._probe()
            plan = make_plan(found, self.train, config.pairs, config.policy)
            probe = {
                "held_out_images": found.confusions.total,
                "accuracy": found.confusions.accuracy,
                "seconds": round(found.seconds, 3),
            }
            self.folder.save_plan(plan, probe)
            self.folder.drop_state("probe", config.seed)
            kept = plan, probe
        self.done += 1
        self._tell("plan", plan=kept[0])
        return kept

    def _probe(self) -> Probe:
        config, found = self.config, list[Probe]()
        run = Run("probe", config.seed)
        self._tell("probe", **run._asdict())
        train_runs(
            functools.partial(
                _train_probe, self.train, config, self.base, self.folder.state(*run).resolve()
            ),
            [run],
            # it runs alone, so it gets the threads of a single run
            Schedule(self.schedule.jobs, make_schedule(None, 1, config.hardware.device).threads),
            OnRun(
                progress=lambda _, training: self._tell(
                    "probe", **run._asdict(), training=training
                ),
                finished=lambda _, probe: found.append(probe),
                again=lambda _: self._tell("again", **run._asdict()),
            ),
        )
        return found[0]

    def _runs(self, plan: ConfusionPlan) -> list[dict[str, Any]]:
        """The figures of all runs, arm by arm; those that are not there yet are trained."""
        # seed by seed, so that a comparison that is stopped early still has pairs
        runs = [Run(arm, seed) for seed in self.config.seeds for arm in self.config.arms]
        figures: dict[Run, dict[str, Any]] = {}

        def finished(run: Run, values: dict[str, Any]) -> None:
            figures[run] = values
            self.done += 1
            self._tell("finished", **run._asdict(), accuracy=values["test_accuracy"])

        for run in runs:
            if kept := self.folder.load_run(*run):
                finished(run, kept)
        missing = [run for run in runs if run not in figures]
        inputs = RunInputs(
            self.config, self.train, self.test, self.base, plan, self.folder.path.resolve()
        )
        train_runs(
            functools.partial(train_run, inputs),
            missing,
            self.schedule,
            OnRun(
                progress=lambda run, training: self._tell(
                    "train", **run._asdict(), training=training
                ),
                finished=finished,
                again=lambda run: self._tell("again", **run._asdict()),
            ),
        )
        runs.sort(key=lambda run: (self.config.arms.index(run.arm), run.seed))
        return [figures[run] for run in runs]

    def _results(
        self,
        runs: list[dict[str, Any]],
        logits: dict[tuple[str, int], NDArray[np.float32]],
        plan: ConfusionPlan,
        probe: dict[str, Any],
    ) -> dict[str, Any]:
        config, labels = self.config, self.test.labels
        correct = {
            arm: np.stack([logits[arm, seed].argmax(axis=1) == labels for seed in config.seeds])
            for arm in config.arms
        }
        contrasts = contrast_figures(correct, labels, self.test.class_names)
        detectable = [item["minimum_detectable_difference"] for item in contrasts]
        return {
            "schema": SCHEMA,
            "dataset": self.train.card.title,
            "fingerprint": self.fingerprints["train"],
            "fingerprints": self.fingerprints,
            "preset": config.preset,
            "model": config.settings.model,
            "parameters": runs[0]["parameters"],
            "class_names": list(self.train.class_names),
            "train_images": len(self.train),
            "test_images": len(self.test),
            "base_augmentation": self.base.name,
            "runs": [
                {key: value for key, value in run.items() if key != "parameters"} for run in runs
            ],
            "arms": {
                arm: arm_figures([run for run in runs if run["arm"] == arm]) for arm in config.arms
            },
            "contrasts": contrasts,
            "minimum_detectable_difference": (
                None if not detectable or None in detectable else max(detectable)
            ),
            "plan": plan.to_dict(),
            "probe": {key: value for key, value in probe.items() if key != "seconds"},
            "config": config.to_dict(),
            "environment": {
                **self.environment,
                "probe_seconds": probe["seconds"],
            },
        }


def write_comparison_report(
    path: Path,
    results: dict[str, Any],
    train: ImageDataset,
    test: ImageDataset,
    logits: dict[tuple[str, int], NDArray[np.float32]],
    plan: ConfusionPlan,
) -> Path:
    """Write ``report.html`` and its figures into a comparison's folder."""
    from fmnist_aug.comparison.samples import augmented_samples
    from fmnist_aug.report import write_report

    classes: Sequence[int] = results["runs"][0]["focus"]["classes"] or range(
        min(2, train.num_classes)
    )
    augment = results["config"]["settings"].get("augment", "none")
    samples = augmented_samples(train, plan, classes, augment=augment)
    return write_report(path, results, test, logits, samples)
