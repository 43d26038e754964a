"""The commands that train one model, and test what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmnist_aug.cli.common import call_each, config_from, print_values
from fmnist_aug.cli.options import (
    ARMS,
    data_options,
    output_options,
    reading_options,
    tracker_options,
    training_options,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@click.command()
@data_options
@training_options
@click.option(
    "--out",
    type=click.Path(),
    help="Checkpoint to write.  [default: <dataset>-<preset>.safetensors]",
)
@tracker_options
@output_options
def train(
    out: str | None,
    tensorboard: str | None,
    mlflow: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Train one model with the base augmentation of the data set, and test it.

    torchrun starts it on several processes: torchrun --nproc-per-node=2 -m fmnist_aug train
    """
    from fmnist_aug.cli.progress import ProgressDisplay
    from fmnist_aug.comparison import base_augmentation, load_splits, settle_precision
    from fmnist_aug.distributed import join_processes
    from fmnist_aug.files import check_writable, write_text
    from fmnist_aug.model_card import card_path, model_card
    from fmnist_aug.models import count_parameters
    from fmnist_aug.plan import ConfusionPlan
    from fmnist_aug.trackers import open_trackers
    from fmnist_aug.training import train_model

    config = config_from(**options, runs=1)
    train_set, test_set = load_splits(config, options["data_dir"], options["stream"])
    config, _ = settle_precision(config, train_set)
    default = f"{train_set.card.name}-{config.preset}.safetensors"
    path = Path(default if out is None else out)
    card = train_set.card
    for written in (path, card_path(path)):
        check_writable(written)
    run = f"train-{config.seed}"
    with (
        join_processes(config.hardware.device) as processes,
        # one process writes, prints and tracks for all
        open_trackers(
            tensorboard if not processes.rank else None,
            mlflow if not processes.rank else None,
            name="train",
            parameters=options,
        ) as trackers,
        ProgressDisplay(quiet or processes.rank > 0) as display,
    ):
        trained = train_model(
            train_set,
            config.settings,
            base=base_augmentation(train_set, config.settings.augment),
            plan=ConfusionPlan.empty(train_set.class_names, keep=config.keep),
            seed=config.seed,
            hardware=config.hardware,
            on_progress=call_each(
                lambda progress: display.training("training", progress),
                lambda progress: trackers.training(run, progress),
            ),
            processes=processes,
        )
        if processes.rank:
            return
        trained.classifier.save(path)
        correct = trained.classifier.predict(test_set.images) == test_set.labels
        trackers.finished(run, float(correct.mean()))
    epochs = config.settings.epochs
    facts = {
        "test accuracy": f"{correct.mean():.2%} of {len(correct)} images",
        "training": f"preset {config.preset}, {epochs:g} epochs, seed {config.seed}",
    }
    write_text(card_path(path), model_card(trained.classifier, path.name, facts))
    print_values(
        {
            "test_accuracy": float(correct.mean()),
            "test_images": len(correct),
            "train_seconds": round(trained.seconds, 3),
            "checkpoint": str(path),
            "card": str(card_path(path)),
            "dataset": card.title,
            "fingerprint": train_set.fingerprint(),
            "model": config.settings.model,
            "parameters": count_parameters(trained.classifier.model),
            "steps": trained.steps,
            "images_seen": trained.images_seen,
            "processes": processes.count,
            "seed": config.seed,
            "device": config.hardware.device,
            "precision": config.hardware.precision,
        },
        as_json,
    )


@click.command()
@click.argument("checkpoint", type=click.Path(), required=False)
@reading_options
@click.option("--split", type=click.Choice(("test", "train")), default="test", help="Which images.")
@click.option(
    "--ensemble",
    type=click.Path(),
    metavar="FOLDER",
    help="Instead of a CHECKPOINT: average the probabilities of all of a comparison's.",
)
@click.option("--arm", type=click.Choice(ARMS), help="With --ensemble: of this arm only.")
@output_options
def evaluate(
    checkpoint: str | None,
    split: str,
    ensemble: str | None,
    arm: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **data: Any,
) -> None:
    """Test a CHECKPOINT, or an ensemble of them, on a split of a data set."""
    from fmnist_aug.classifier import load_classifier
    from fmnist_aug.comparison.ensemble import check_classes, predict_together
    from fmnist_aug.confusion import ConfusionReport
    from fmnist_aug.data import load_dataset

    predictions: ArrayLike
    if (checkpoint is None) == (ensemble is None):
        raise click.UsageError("name one CHECKPOINT, or a comparison's folder with --ensemble")
    if arm is not None and ensemble is None:
        raise click.UsageError("--arm is for --ensemble")
    dataset_name = data.pop("dataset")
    members: dict[str, Any] = {}
    if checkpoint is not None:
        # before the data, which takes longer to read
        classifier = load_classifier(checkpoint)
        dataset = load_dataset(dataset_name, "train" if split == "train" else "test", **data)
        check_classes(Path(checkpoint), classifier.header, dataset)
        predictions = classifier.predict_logits(dataset.images)
    else:
        dataset = load_dataset(dataset_name, "train" if split == "train" else "test", **data)
        together = predict_together(Path(str(ensemble)), dataset, arm)
        predictions = together.probabilities
        accuracies = [member.accuracy for member in together.members]
        members = {
            "members": {
                f"{member.arm}-{member.seed}": member.accuracy for member in together.members
            },
            "members_mean": sum(accuracies) / len(accuracies),
        }
    report = ConfusionReport.from_predictions(dataset.labels, predictions, dataset.class_names)
    print_values(
        {
            **members,
            "accuracy": report.accuracy,
            "errors": report.errors,
            "images": report.total,
            "per_class_recall": dict(zip(report.class_names, report.recall, strict=True)),
            "dataset": dataset.card.title,
            "split": split,
            "fingerprint": dataset.fingerprint(),
        },
        as_json,
    )


COMMANDS = (train, evaluate)
