"""The commands that train, measure and compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fmnist_aug.cli.options import (
    ARMS,
    BACKENDS,
    command_line,
    data_options,
    output_options,
    parse_jobs,
    plan_options,
    tracker_options,
    training_options,
)
from fmnist_aug.text import clean, plain

if TYPE_CHECKING:
    from fmnist_aug.comparison.probe import Probe
    from fmnist_aug.data import ImageDataset

Event = TypeVar("Event")


@click.command()
@data_options
@training_options
@plan_options
@click.option(
    "--plan",
    metavar="FILE|default",
    help="Use this plan, or the one that comes with the package.  [default: made from the "
    "confusions of a probe]",
)
@click.option("--runs", type=int, default=3, help="Trainings of each arm.")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    type=click.Choice(ARMS),
    help="These arms (repeatable).  [default: baseline, uniform, targeted]",
)
@click.option(
    "--out", type=click.Path(), help="Folder for the results.  [default: runs/<dataset>-<preset>]"
)
@click.option(
    "--jobs",
    metavar="auto|N",
    default="auto",
    callback=parse_jobs,
    help="Runs side by side; auto fills the cores, and does one at a time on a GPU. The numbers "
    "don't depend on it.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="local",
    help="Where the runs are trained: here, or on a Dask cluster.  [extra: fmnist-aug[dask]]",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Of the Dask cluster, such as tcp://HOST:8786."
)
@click.option(
    "--resume/--no-resume", default=True, help="Go on in a folder that has results, or start over."
)
@tracker_options
@output_options
def compare(
    out: str | None,
    tensorboard: str | None,
    mlflow: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Train baseline, uniform and targeted over several runs, and say what targeting did."""
    from fmnist_aug.cli.progress import ProgressDisplay
    from fmnist_aug.comparison import compare as run_comparison
    from fmnist_aug.trackers import open_trackers

    tracked = open_trackers(tensorboard, mlflow, name="compare", parameters=options)
    with tracked as trackers, ProgressDisplay(quiet) as display:
        found = run_comparison(
            options.pop("dataset"),
            out=out,
            command=command_line(),
            on_progress=_each(display.comparison, trackers.comparison),
            **options,
        )
    if as_json:
        click.echo(json.dumps(found.results, indent=2, allow_nan=False))
    else:
        _print_comparison(found.results, found.folder)


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
    from fmnist_aug.files import check_writable, write_text
    from fmnist_aug.model_card import card_path, model_card
    from fmnist_aug.models import count_parameters
    from fmnist_aug.plan import ConfusionPlan
    from fmnist_aug.trackers import open_trackers
    from fmnist_aug.training import train_model
    from fmnist_aug.training.distributed import join_processes

    config = _config(**options)
    train_set, test_set = load_splits(config, options["data_dir"], options["stream"])
    config, _ = settle_precision(config, train_set)
    path = Path(out or f"{train_set.card.name}-{config.preset}.safetensors")
    card = train_set.card
    check_writable(path)
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
            base=base_augmentation(train_set),
            plan=ConfusionPlan.empty(train_set.class_names, keep=config.keep),
            seed=config.seed,
            hardware=config.hardware,
            on_progress=_each(
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
    _print_values(
        {
            "test_accuracy": float(correct.mean()),
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
@click.argument("checkpoint", type=click.Path())
@data_options
@click.option("--split", type=click.Choice(("test", "train")), default="test", help="Which images.")
@output_options
def evaluate(
    checkpoint: str, split: str, as_json: bool, quiet: bool, debug: bool, **data: Any
) -> None:
    """Test a CHECKPOINT on a split of a data set."""
    from fmnist_aug.classifier import load_classifier
    from fmnist_aug.confusion import ConfusionReport
    from fmnist_aug.data import load_dataset
    from fmnist_aug.errors import DataError

    classifier = load_classifier(checkpoint)
    dataset = load_dataset(data.pop("dataset"), "train" if split == "train" else "test", **data)
    if dataset.class_names != classifier.class_names:
        raise DataError(
            f"{checkpoint} was trained on {classifier.header.card or 'another data set'}, whose "
            f"classes are not those of {dataset.card.title}; choose its own --dataset"
        )
    report = ConfusionReport.from_predictions(
        dataset.labels, classifier.predict_logits(dataset.images), dataset.class_names
    )
    _print_values(
        {
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


@click.command()
@data_options
@training_options
@click.option("--top", type=click.IntRange(1), default=10, help="How many pairs to show.")
@click.option(
    "--out", type=click.Path(), help="Also write a sheet of the confused images to this PNG."
)
@output_options
def confusions(
    top: int, out: str | None, as_json: bool, quiet: bool, debug: bool, **options: Any
) -> None:
    """Show the most confused pairs of classes, measured on held-out training images."""
    from fmnist_aug.files import check_writable

    if out is not None:
        check_writable(Path(out))
    found, train_set = _probe(quiet, **options)
    if out is not None:
        _write_confused_images(Path(out), found, train_set)
    pairs = found.confusions.most_confused(top)
    names = found.confusions.class_names
    if as_json:
        value = {
            "source": found.source,
            "accuracy": found.confusions.accuracy,
            "errors": found.confusions.errors,
            "pairs": [
                {
                    "classes": [names[pair.first], names[pair.second]],
                    "first_as_second": pair.first_as_second,
                    "second_as_first": pair.second_as_first,
                    "rate": pair.rate,
                    "ci95": list(pair.ci95),
                    "share": pair.share,
                }
                for pair in pairs
            ],
            **found.confusions.to_dict(),
        }
        click.echo(json.dumps(value, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("confused pair", "→", "←", "of both classes (95 %)", "of all errors")
    for pair in pairs:
        low, high = pair.ci95
        table.add_row(
            Text(f"{clean(names[pair.first])} → {clean(names[pair.second])}"),
            str(pair.first_as_second),
            str(pair.second_as_first),
            f"{pair.rate:.1%} ({low:.1%} … {high:.1%})",
            f"{pair.share:.1%}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{found.confusions.errors} errors; accuracy {found.confusions.accuracy:.2%}", markup=False
    )
    console.print(f"from {clean(found.source)}", markup=False)
    if out is not None:
        console.print(f"images: {clean(out)}", markup=False, highlight=False, soft_wrap=True)


@click.command()
@data_options
@training_options
@plan_options
@click.option("--out", type=click.Path(), help="Also write the plan to this JSON file.")
@click.option("--show", "plan_file", type=click.Path(), help="Show this plan; measure nothing.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="Aim the extra draws at single images: each is predicted by a network that was trained on "
    "the other folds, confused ones are drawn more often, and those whose label is probably wrong "
    "are left out.",
)
@click.option(
    "--search",
    is_flag=True,
    help="Try policies, strengths, shares and schedules on held-out training images.",
)
@click.option("--trials", type=click.IntRange(1), default=40, help="Plans to try with --search.")
@click.option("--budget", type=float, metavar="MINUTES", help="Begin no trial after so long.")
@click.option(
    "--study",
    type=click.Path(),
    help="File from which a search goes on.  [default: <dataset>-<preset>-search.db]",
)
@output_options
def plan(
    out: str | None,
    plan_file: str | None,
    folds: int | None,
    search: bool,
    trials: int,
    budget: float | None,
    study: str | None,
    pairs: str,
    policy: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Measure confusions on held-out training images and turn them into a plan."""
    from fmnist_aug.by_image import target_images
    from fmnist_aug.classifier import softmax
    from fmnist_aug.cli.searching import run_search
    from fmnist_aug.comparison import make_plan
    from fmnist_aug.files import check_writable, read_json, write_text
    from fmnist_aug.plan import ConfusionPlan, parse_pairs

    if plan_file is not None:
        made = ConfusionPlan.from_json(json.dumps(read_json(Path(plan_file))))
    else:
        if pairs.strip() != "auto":
            parse_pairs(pairs)
        if out is not None:
            check_writable(Path(out))
        if search and (policy is not None or folds is not None):
            raise click.UsageError("--search takes neither --policy nor --folds")
        found, train_set = _probe(quiet, pairs=pairs, folds=folds, **options)
        if search:
            config = _config(pairs=pairs, **options)
            made = run_search(config, found, train_set, study, trials, budget, quiet)
        else:
            made = make_plan(found, train_set, pairs, policy)
        if folds is not None:
            made = target_images(made, train_set.labels, softmax(found.logits))
    if out is not None:
        write_text(Path(out), made.to_json() + "\n")
    click.echo(made.to_json() if as_json else plain(made.to_table()))


@click.command()
@click.argument("folder", type=click.Path())
@click.option("--data-dir", type=click.Path(), help="As in the comparison, if it was used there.")
@output_options
def report(folder: str, data_dir: str | None, as_json: bool, quiet: bool, debug: bool) -> None:
    """Build the report of a finished comparison in FOLDER again, from its files."""
    from fmnist_aug.comparison.rebuild import rebuild_report

    results, path = rebuild_report(Path(folder), data_dir)
    if as_json:
        click.echo(json.dumps({"report": str(path)}))
    else:
        _print_comparison(results, Path(folder))


COMMANDS = (compare, train, evaluate, confusions, plan, report)


def _each(*callbacks: Callable[[Event], None]) -> Callable[[Event], None]:
    """One callback that calls several."""

    def call(event: Event) -> None:
        for callback in callbacks:
            callback(event)

    return call


def _config(**options: Any) -> Any:
    from fmnist_aug.comparison import resolve_config

    reading = ("data_dir", "stream")
    return resolve_config(**{key: value for key, value in options.items() if key not in reading})


def _probe(
    quiet: bool, pairs: str = "auto", folds: int | None = None, **options: Any
) -> tuple[Probe, ImageDataset]:
    from fmnist_aug.cli.progress import ProgressDisplay
    from fmnist_aug.comparison import (
        base_augmentation,
        load_split,
        measure_confusions,
        measure_out_of_fold,
        settle_precision,
    )
    from fmnist_aug.comparison.compare import check_pairs

    config = _config(pairs=pairs, **options)
    train_set = load_split(config, "train", options["data_dir"], options["stream"])
    check_pairs(config.pairs, train_set.class_names)
    config, _ = settle_precision(config, train_set)
    base = base_augmentation(train_set)
    with ProgressDisplay(quiet) as display:
        if folds is not None:
            found = measure_out_of_fold(
                train_set,
                config.settings,
                folds,
                base=base,
                seed=config.seed,
                hardware=config.hardware,
                on_progress=lambda progress: display.training("fold", progress),
            )
            return found, train_set
        found = measure_confusions(
            train_set,
            config.settings,
            epochs=config.probe_epochs,
            base=base,
            held_out=config.held_out,
            seed=config.seed,
            hardware=config.hardware,
            on_progress=lambda progress: display.training("probe", progress),
        )
    return found, train_set


def _write_confused_images(path: Path, found: Probe, train_set: ImageDataset) -> None:
    from fmnist_aug.classifier import softmax
    from fmnist_aug.files import write_bytes
    from fmnist_aug.report.sheets import confusion_rows, image_sheet

    held_out = train_set.subset(found.held_out)
    rows = confusion_rows(found.confusions, held_out.images, held_out.labels, softmax(found.logits))
    title = f"{train_set.card.title}: the most confused of {len(held_out)} held-out images"
    write_bytes(path, image_sheet(title, rows))


def _print_values(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values, indent=2, allow_nan=False))
        return
    for name, value in values.items():
        if isinstance(value, dict):
            click.echo(f"{name.replace('_', ' ')}:")
            for key, item in value.items():
                click.echo(f"  {clean(key)}: {_shown(item)}")
        else:
            click.echo(f"{name.replace('_', ' ')}: {clean(_shown(value))}")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_comparison(results: dict[str, Any], folder: Path) -> None:
    from rich.console import Console

    from fmnist_aug.report import render_tables

    console = Console()
    render_tables(results, console)
    console.print(f"data: SHA-256 {results['fingerprint'][:16]}…", markup=False, highlight=False)
    console.print(
        f"report: {clean(folder / 'report.html')}", markup=False, highlight=False, soft_wrap=True
    )
