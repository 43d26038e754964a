"""One comparison under way: probe → plan → arms × seeds → figures → report."""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.comparison.arms import base_augmentation
from fmnist_aug.comparison.cluster import Cluster
from fmnist_aug.comparison.config import ComparisonConfig
from fmnist_aug.comparison.environment import describe_environment, describe_run, values_of_runs
from fmnist_aug.comparison.folder import ComparisonFolder
from fmnist_aug.comparison.jobs import OnRun, Schedule, make_schedule, train_runs
from fmnist_aug.comparison.probe import Probe, make_plan, run_probe
from fmnist_aug.comparison.results import SCHEMA, arm_figures, contrast_figures, runs_csv
from fmnist_aug.comparison.run import (
    FinishedRun,
    Run,
    RunInputs,
    Splits,
    keep_run,
    train_and_keep,
    train_run,
)
from fmnist_aug.data import ImageDataset
from fmnist_aug.files import write_text
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training import TrainProgress


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

    @property
    def runs(self) -> int:
        """Trainings of each arm."""
        return int(self.results["config"]["runs"])

    def is_of(self, config: ComparisonConfig) -> bool:
        """Whether it has this configuration's arms and runs; in its folder all else is the same."""
        return self.runs == config.runs and self.results["config"]["arms"] == list(config.arms)


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
_OF_ALL = ("parameters", "made_with")
"""Of a run's record, what the results say once, for all runs."""


class Comparing:
    """Makes the plan, trains the runs that the folder lacks, and writes what came of it."""

    def __init__(
        self,
        config: ComparisonConfig,
        schedule: Schedule,
        cluster: Cluster | None,
        splits: Splits,
        folder: ComparisonFolder,
        fingerprints: dict[str, str],
        command: str | None,
        on_progress: OnProgress | None,
        earlier: Comparison | None,
    ) -> None:
        self.config = config
        self.schedule = schedule
        self.cluster = cluster
        self.splits = self.train, self.test = splits
        self.folder = folder
        self.fingerprints = fingerprints
        # described now: a checkout may move on while this runs
        self.environment = {
            **describe_environment(config.hardware, command),
            **dataclasses.asdict(schedule),
            "backend": "dask" if cluster else "local",
        }
        self.on_progress = on_progress
        self.earlier = earlier
        self.base = base_augmentation(self.train, config.settings.augment)
        self.trainings = (config.plan is None) + len(config.arms) * config.runs
        self.done = 0

    def execute(self) -> Comparison:
        """Do what is not done yet; ``results.json`` is written last."""
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
            plan = make_plan(found, self.train, config.pairs, config.policy, config.keep)
            probe = {
                "held_out_images": found.confusions.total,
                "accuracy": found.confusions.accuracy,
                "seconds": round(found.seconds, 3),
                "made_with": [describe_run(self.environment)],
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
        state = None if self.cluster else self.folder.state(*run).resolve()
        self._train(
            functools.partial(_train_probe, config, state),
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

        def received(run: Run, values: FinishedRun) -> None:
            finished(run, keep_run(self.folder.path, self.splits, values))

        for run in runs:
            if kept := self.folder.load_run(*run):
                finished(run, kept)
        missing = [run for run in runs if run not in figures]
        path = self.folder.path.resolve()
        train: Callable[..., Any]
        done: Callable[[Run, Any], None]
        if self.cluster is None:
            inputs = RunInputs(self.config, self.base, plan, path, self.environment)
            train, done = functools.partial(train_and_keep, inputs), finished
        else:  # the workers may not have this folder
            inputs = RunInputs(self.config, self.base, plan, None, None)
            train, done = functools.partial(train_run, inputs), received
        self._train(
            train,
            missing,
            self.schedule,
            OnRun(
                progress=lambda run, training: self._tell(
                    "train", **run._asdict(), training=training
                ),
                finished=done,
                again=lambda run: self._tell("again", **run._asdict()),
            ),
        )
        runs.sort(key=lambda run: (self.config.arms.index(run.arm), run.seed))
        return [figures[run] for run in runs]

    def _train(
        self, train: Callable[..., Any], runs: Sequence[Run], schedule: Schedule, on_run: OnRun
    ) -> None:
        if self.cluster:
            # this process owns the folder, so nobody else uses this name meanwhile
            name = f"fmnist-aug {socket.gethostname()}:{self.folder.path.resolve()}"
            self.cluster.train_runs(train, self.splits, runs, schedule, on_run, name)
        else:
            train_runs(functools.partial(train, self.splits), runs, schedule, on_run)

    def _looks(self) -> list[int]:
        """How many runs of each arm there were when results were written to which runs were added.

        Each look at the results is a chance to find something by chance.
        """
        if self.earlier is None:
            return []
        looks = list(self.earlier.results.get("looks", ()))
        return looks + [self.earlier.runs] * (self.earlier.runs < self.config.runs)

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
        made_with = [part for run in runs for part in run.get("made_with") or [{}]]
        made_with += probe.get("made_with", [])
        if {} in made_with:  # of an earlier version; whether it was like this one nobody knows
            made_with.append(describe_run(self.environment))
        of_runs = values_of_runs(made_with)
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
                {key: value for key, value in run.items() if key not in _OF_ALL} for run in runs
            ],
            "arms": {
                arm: arm_figures([run for run in runs if run["arm"] == arm]) for arm in config.arms
            },
            "contrasts": contrasts,
            "minimum_detectable_difference": (
                None if not detectable or None in detectable else max(detectable)
            ),
            "plan": plan.to_dict(),
            "probe": {
                key: value for key, value in probe.items() if key not in ("seconds", "made_with")
            },
            "config": config.to_dict(),
            "looks": self._looks(),
            "environment": {
                **self.environment,
                # not of this process, which may have found all runs done
                **{name: values[0] for name, values in of_runs.items() if len(values) == 1},
                "probe_seconds": probe["seconds"],
                "differing": {name: values for name, values in of_runs.items() if len(values) > 1},
            },
        }


def _train_probe(
    config: ComparisonConfig,
    state_path: Path | None,
    splits: Splits,
    _: Run,
    on_progress: Callable[[TrainProgress], None],
) -> Probe:
    train, _test = splits  # never seen by anything that makes the plan
    return run_probe(train, config, state_path=state_path, on_progress=on_progress)


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
    samples = []
    if any(run["arm"] != "baseline" for run in results["runs"]):
        samples = augmented_samples(train, plan, classes, augment=augment)
    return write_report(path, results, test, logits, samples)
