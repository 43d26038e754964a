"""The commands that compare, and show a comparison again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fmnist_aug.cli.common import call_each
from fmnist_aug.cli.options import (
    ARMS,
    BACKENDS,
    command_line,
    complete_dataset,
    data_options,
    output_options,
    parse_jobs,
    plan_options,
    tracker_options,
    training_options,
)
from fmnist_aug.text import clean


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
@click.option(
    "--extend", is_flag=True, help="Add arms or runs to the comparison in the folder of results."
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
            on_progress=call_each(display.comparison, trackers.comparison),
            **options,
        )
    if as_json:
        click.echo(json.dumps(found.results, indent=2, allow_nan=False))
    else:
        _print_comparison(found.results, found.folder)


@click.command()
@click.argument("folder", type=click.Path())
@click.option(
    "--dataset",
    metavar="NAME|PATH",
    shell_complete=complete_dataset,
    help="Where the data set is now.  [default: as in the comparison, seen from here]",
)
@click.option("--data-dir", type=click.Path(), help="As in the comparison, if it was used there.")
@output_options
def report(
    folder: str,
    dataset: str | None,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Build the report of a finished comparison in FOLDER again, from its files."""
    from fmnist_aug.comparison.rebuild import rebuild_report

    results, path = rebuild_report(Path(folder), data_dir, dataset)
    if as_json:
        click.echo(json.dumps({"report": str(path)}))
    else:
        _print_comparison(results, Path(folder))


COMMANDS = (compare, report)


def _print_comparison(results: dict[str, Any], folder: Path) -> None:
    from rich.console import Console

    from fmnist_aug.report import render_tables

    console = Console()
    render_tables(results, console)
    console.print(f"data: SHA-256 {results['fingerprint'][:16]}…", markup=False, highlight=False)
    console.print(
        f"report: {clean(folder / 'report.html')}", markup=False, highlight=False, soft_wrap=True
    )
