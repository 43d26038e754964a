"""`plan --search`: a search for a plan, with a line for each trial."""

from __future__ import annotations

from pathlib import Path

from fmnist_aug.cli.progress import ProgressDisplay
from fmnist_aug.comparison import ComparisonConfig, base_augmentation
from fmnist_aug.comparison.probe import Probe
from fmnist_aug.comparison.search import SearchTrial, search_plan
from fmnist_aug.data import ImageDataset
from fmnist_aug.plan import ConfusionPlan


def run_search(
    config: ComparisonConfig,
    found: Probe,
    train: ImageDataset,
    study: str | None,
    trials: int,
    budget_minutes: float | None,
    quiet: bool,
) -> ConfusionPlan:
    """Search as the options say, with a precision that is settled, and tell of each trial."""
    path = Path(study or f"{train.card.name}-{config.preset}-search.db")
    with ProgressDisplay(quiet) as display:

        def tell(trial: SearchTrial) -> None:
            stopped = ", stopped early" if trial.pruned else ""
            display.say(
                f"[{trial.number + 1}/{trials}] held-out accuracy {trial.accuracy:.2%} (splits: "
                f"{trial.trainings}{stopped}); best {trial.best:.2%}"
            )

        return search_plan(
            train,
            config.settings,
            found,
            path,
            pairs=config.pairs,
            keep=config.keep,
            trials=trials,
            budget_minutes=budget_minutes,
            base=base_augmentation(train, config.settings.augment),
            held_out=config.held_out,
            seed=config.seed,
            hardware=config.hardware,
            on_trial=tell,
        )
