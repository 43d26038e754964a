"""The commands that measure confusions and plan by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmnist_aug.cli.common import config_from
from fmnist_aug.cli.options import data_options, output_options, plan_options, training_options
from fmnist_aug.text import clean, plain

if TYPE_CHECKING:
    from fmnist_aug.comparison.config import ComparisonConfig
    from fmnist_aug.comparison.probe import Probe
    from fmnist_aug.data import ImageDataset


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
    import dataclasses

    from fmnist_aug.files import check_writable

    if out is not None:
        check_writable(Path(out))
    config = config_from(**options)
    if options["epochs"] is not None:  # a comparison's probe takes no more than the preset's
        config = dataclasses.replace(config, probe_epochs=options["epochs"])
    found, train_set, _ = _probe(config, quiet, **options)
    _print_confusions(found, top, as_json)
    if out is not None and not _write_confused_images(Path(out), found, train_set):
        click.echo(f"no mistakes, so there are no images to write to {clean(out)}", err=as_json)
    elif out is not None and not as_json:
        click.echo(f"images: {clean(out)}")


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
    "--refresh",
    type=click.IntRange(1),
    metavar="PASSES",
    help="While training, choose the classes anew every so many passes over the training images, "
    "by images held back until then.",
)
@click.option(
    "--search",
    is_flag=True,
    help="Try policies, strengths, shares and schedules on held-out training images.",
)
@click.option("--trials", type=click.IntRange(1), help="Plans to try with --search.  [default: 40]")
@click.option(
    "--budget", type=float, metavar="MINUTES", help="With --search: begin no trial after so long."
)
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
    refresh: int | None,
    search: bool,
    trials: int | None,
    budget: float | None,
    study: str | None,
    pairs: str,
    policy: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Measure confusions on held-out training images and turn them into a plan.

    They are those of compare's probe, which --epochs can make shorter, but not longer.
    """
    import dataclasses

    from fmnist_aug.by_image import target_images
    from fmnist_aug.classifier import softmax
    from fmnist_aug.cli.searching import run_search
    from fmnist_aug.comparison import make_plan
    from fmnist_aug.comparison.plan_files import read_plan
    from fmnist_aug.files import check_writable, write_text
    from fmnist_aug.pairs import parse_pairs

    changed = any(value is not None for value in (policy, folds, refresh))
    if plan_file is not None and (changed or search or pairs.strip() != "auto"):
        raise click.UsageError("--show shows a plan as it is, and --out alone goes with it")
    if not search and any(value is not None for value in (trials, budget, study)):
        raise click.UsageError("--trials, --budget and --study are for --search")
    if plan_file is not None:
        made = read_plan(Path(plan_file))
    else:
        if pairs.strip() != "auto":
            parse_pairs(pairs)
        if out is not None:
            check_writable(Path(out))
        if search and changed:
            raise click.UsageError("--search takes neither --policy nor --folds nor --refresh")
        config = config_from(pairs=pairs, **options)
        found, train_set, config = _probe(config, quiet, folds=folds, **options)
        if search:
            made = run_search(config, found, train_set, study, trials or 40, budget, quiet)
        else:
            made = make_plan(found, train_set, pairs, policy, config.keep)
        if folds is not None:
            made = target_images(made, train_set.labels, softmax(found.logits))
        if refresh is not None:
            made = dataclasses.replace(made, refresh_every=refresh)
    if out is not None:
        write_text(Path(out), made.to_json() + "\n")
    click.echo(made.to_json() if as_json else plain(made.to_table()))


COMMANDS = (confusions, plan)


def _probe(
    config: ComparisonConfig, quiet: bool, *, folds: int | None = None, **options: Any
) -> tuple[Probe, ImageDataset, ComparisonConfig]:
    """What was confused, in which images, and the options with a precision that is settled."""
    from fmnist_aug.cli.progress import ProgressDisplay
    from fmnist_aug.comparison import (
        base_augmentation,
        load_split,
        measure_out_of_fold,
        run_probe,
        settle_precision,
    )
    from fmnist_aug.pairs import check_pairs

    train_set = load_split(config, "train", options["data_dir"], options["stream"])
    check_pairs(config.pairs, train_set.class_names)
    config, _ = settle_precision(config, train_set)
    with ProgressDisplay(quiet) as display:
        if folds is not None:
            found = measure_out_of_fold(
                train_set,
                config.settings,
                folds,
                base=base_augmentation(train_set, config.settings.augment),
                seed=config.seed,
                hardware=config.hardware,
                on_progress=lambda progress: display.training("fold", progress),
            )
            return found, train_set, config
        found = run_probe(
            train_set,
            config,
            on_progress=lambda progress: display.training("probe", progress),
        )
    return found, train_set, config


def _print_confusions(found: Probe, top: int, as_json: bool) -> None:
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


def _write_confused_images(path: Path, found: Probe, train_set: ImageDataset) -> bool:
    """Write the sheet if there is anything to show on it; say whether there was."""
    from fmnist_aug.classifier import softmax
    from fmnist_aug.files import write_bytes
    from fmnist_aug.report.sheets import confusion_rows, image_sheet

    held_out = train_set.subset(found.held_out)
    rows = confusion_rows(found.confusions, held_out.images, held_out.labels, softmax(found.logits))
    if not rows:
        return False
    title = f"{train_set.card.title}: the most confused of {len(held_out)} held-out images"
    write_bytes(path, image_sheet(title, rows))
    return True
