"""Searching for the plan that helps most on held-out training images."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.augment.policies import Policy
from fmnist_aug.comparison.probe import Probe
from fmnist_aug.data import ImageDataset, held_out_split, require_training_data
from fmnist_aug.errors import RunFolderError, UsageError
from fmnist_aug.plan import EXTRA_PER_IMAGE, KEEP, SHARE_FOR_OTHERS, ConfusionPlan
from fmnist_aug.statistics import mean_interval
from fmnist_aug.training import Hardware, TrainSettings, choose_hardware, train_model

REPEATS = 3
"""Trainings a trial, each on another split; a hopeless trial is stopped after fewer."""
SPACE: dict[str, tuple[Any, ...]] = {
    "policy": (
        "geometric",
        "photometric",
        "erasing",
        "buttons",
        "mix-within",
        "mix-away",
        "weaker",
    ),
    "strength": (0.25, 0.5, 1.0, 1.5, 2.0),
    "extra_per_image": (0.25, 0.5, 1.0, 1.5, 2.0),
    "share_for_others": (0.1, 0.3, 1.0),
    "keep": (0.4, 0.5, 0.75, 1.0),
    "start": (0.0, 0.25, 0.5),
    "stop": (0.75, 0.9, 1.0),
}
"""What is searched through: policy, strength, share of extra draws, and schedule."""
_UNSEARCHED = {
    "strength": 1.0,
    "extra_per_image": EXTRA_PER_IMAGE,
    "share_for_others": SHARE_FOR_OTHERS,
    "start": 0.0,
    "stop": 1.0,
}
_STUDY = "fmnist-aug plan"


@dataclass(frozen=True)
class SearchTrial:
    """One plan that was tried.

    Attributes:
        number: from 0 on, in the order of trying.
        accuracy: on held-out training images, mean of the trainings that were done.
        trainings: how many, each on another split.
        pruned: whether it was stopped early; then its accuracy is that of fewer splits than the
            others', and can't be compared with theirs.
        best: the best accuracy so far of a trial that was not.
    """

    number: int
    accuracy: float
    trainings: int
    pruned: bool
    best: float


def search_plan(
    train: ImageDataset,
    settings: TrainSettings,
    found: Probe,
    study_path: Path,
    *,
    pairs: str = "auto",
    keep: float = KEEP,
    trials: int = 40,
    budget_minutes: float | None = None,
    base: Policy | None = None,
    held_out: float = 0.1,
    repeats: int = REPEATS,
    seed: int = 0,
    hardware: Hardware | None = None,
    on_trial: Callable[[SearchTrial], None] | None = None,
) -> ConfusionPlan:
    """Try plans on splits of the training images; the best by held-out accuracy.

    Optuna's tree-structured Parzen estimator proposes, and a trial whose mean is below the median
    of the earlier ones is stopped. The first trial is the plan as it is without a search. Each is
    kept in the study's file, and its proposal depends on the seed and the finished trials alone: a
    search that was killed goes on to the plan that it would have found. A plan that is proposed
    again is not trained again.

    Args:
        train: training images; a test split is refused.
        settings: of each training.
        found: the confusions that the plans answer.
        study_path: SQLite file of the study.
        pairs: as for `ConfusionPlan.from_report`.
        keep: likewise, of the first trial.
        trials: how many in all, those in the file included.
        budget_minutes: begin no further trial after so many minutes of this call.
        base: augmentation of all draws.
        held_out: share of the images to test on, another split for each repeat.
        repeats: trainings a trial.
        seed: of splits, trainings and proposals.
        hardware: device and precision; by itself as `choose_hardware` decides.
        on_trial: called after each trial.

    Raises:
        UsageError: Optuna is missing, or a number that makes no sense.
        DataError: a test split, or a class with too few images to split.
        RunFolderError: the file belongs to another search, or can't be written.
    """
    require_training_data(train, "searching for a plan")
    if trials < 1 or repeats < 1 or not (budget_minutes is None or budget_minutes > 0):
        raise UsageError("a search needs at least one trial, one repeat and some time")
    optuna = _optuna()
    if not ConfusionPlan.from_report(found.confusions, pairs).pairs:
        raise UsageError("there are no confusions to target, so there is nothing to search for")
    hardware = hardware or choose_hardware()
    identity = {
        "fingerprint": train.fingerprint(),
        "settings": dataclasses.asdict(settings),
        "precision": hardware.precision,
        "confusions": found.confusions.to_dict(),
        "pairs": pairs,
        "base": repr(base),
        "held_out": held_out,
        "repeats": repeats,
        "seed": seed,
        "space": {name: list(values) for name, values in SPACE.items()},
    }
    storage = _open_storage(optuna, study_path)
    try:
        study = _open_study(optuna, storage, identity, study_path)
        splits = [held_out_split(train, held_out, seed + repeat) for repeat in range(repeats)]

        def objective(trial: Any) -> float:
            values = {name: trial.suggest_categorical(name, SPACE[name]) for name in SPACE}
            twin = next((one for one in _finished(optuna, study) if one.params == values), None)
            if twin is not None:  # the same trainings would end alike
                for repeat, mean in sorted(twin.intermediate_values.items()):
                    trial.report(mean, repeat)
                if twin.state == optuna.trial.TrialState.PRUNED:
                    raise optuna.TrialPruned
                return float(twin.value)
            plan = _make_plan(found, pairs, values)
            accuracies: list[float] = []
            for repeat, (fit, rest) in enumerate(splits):
                trained = train_model(
                    train.subset(fit),
                    settings,
                    base=base,
                    plan=plan,
                    seed=seed + repeat,
                    hardware=hardware,
                )
                held = train.subset(rest)
                correct = trained.classifier.predict(held.images) == held.labels
                accuracies.append(float(correct.mean()))
                trial.report(float(np.mean(accuracies)), repeat)
                if repeat + 1 < repeats and trial.should_prune():
                    raise optuna.TrialPruned
            return float(np.mean(accuracies))

        started = time.monotonic()
        while (done := len(_finished(optuna, study))) < trials:
            over = budget_minutes and time.monotonic() - started > 60 * budget_minutes
            if over and done:
                break
            # made anew from the number of the trial, so that going on equals never having stopped
            study.sampler = optuna.samplers.TPESampler(seed=1000 * seed + done)
            if not done:
                study.enqueue_trial({**_UNSEARCHED, "keep": keep, "policy": train.card.policy})
            study.optimize(objective, n_trials=1)
            if on_trial:
                on_trial(_describe(optuna, study, done))
        return _best_plan(optuna, study, found, pairs)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "searching for a plan needs Optuna; install it with: pip install 'fmnist-aug[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open_storage(optuna: Any, path: Path) -> Any:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
    except Exception as error:  # SQLAlchemy's many kinds
        reason = " ".join(str(error).split())[:200]
        raise RunFolderError(
            f"cannot use {path} as the study's file: {reason}; choose another --study"
        ) from error


def _open_study(optuna: Any, storage: Any, identity: dict[str, Any], path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            load_if_exists=True,
        )
    kept = study.user_attrs.get("identity")
    if kept is None:
        study.set_user_attr("identity", identity)
    elif kept != identity:
        name = next(key for key in identity if kept.get(key) != identity[key])
        raise RunFolderError(
            f"{path} holds another search (its {name} differs); choose another --study or remove it"
        )
    states = (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.WAITING)
    for trial in study.get_trials(states=states):  # of a process that was killed
        storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
    return study


def _finished(optuna: Any, study: Any) -> list[Any]:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return list(study.get_trials(deepcopy=False, states=states))


def _make_plan(found: Probe, pairs: str, values: dict[str, Any]) -> ConfusionPlan:
    plan = ConfusionPlan.from_report(
        found.confusions,
        pairs,
        policy=values["policy"],
        extra_per_image=values["extra_per_image"],
        share_for_others=values["share_for_others"],
        keep=values["keep"],
        source=found.source,
    )
    return dataclasses.replace(
        plan, strength=values["strength"], start=values["start"], stop=values["stop"]
    )


def _describe(optuna: Any, study: Any, number: int) -> SearchTrial:
    trial = _finished(optuna, study)[-1]
    pruned = trial.state == optuna.trial.TrialState.PRUNED
    trainings = len(trial.intermediate_values)
    return SearchTrial(number, float(trial.value), trainings, pruned, float(study.best_value))


def _best_plan(optuna: Any, study: Any, found: Probe, pairs: str) -> ConfusionPlan:
    trials = _finished(optuna, study)
    complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    plan = _make_plan(found, pairs, best.params)
    return dataclasses.replace(
        plan,
        reason=f"{plan.reason}; policy, strength, share and schedule are the best of "
        f"{len(trials)} trials, with {best.value:.2%} right on held-out training images (without a "
        f"search: {trials[0].value:.2%}{_gain(best, trials[0])})",
    )


def _accuracies(trial: Any) -> NDArray[np.float64]:
    """The accuracy on each split, from the means so far that were reported."""
    means = [mean for _, mean in sorted(trial.intermediate_values.items())]
    return np.diff(np.arange(1, len(means) + 1) * means, prepend=0.0)


def _gain(best: Any, first: Any) -> str:
    """How far the difference between two trials can be believed, in words."""
    values, others = (_accuracies(trial) for trial in (best, first))
    interval = mean_interval((values - others).tolist())
    if best.number == first.number or interval is None:
        return ""
    low, high = (100 * limit for limit in interval)
    return (
        f"; the difference is {low:+.2f} to {high:+.2f} points with 95 % confidence, from "
        f"{len(values)} splits and without regard to the best having been picked"
    )
