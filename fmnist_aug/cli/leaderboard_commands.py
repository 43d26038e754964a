"""The command that puts our runs beside published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fmnist_aug.cli.options import DATASETS, output_options
from fmnist_aug.text import clean

if TYPE_CHECKING:
    from fmnist_aug.leaderboard import Entry


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@output_options
def leaderboard(folders: tuple[Path, ...], as_json: bool, quiet: bool, debug: bool) -> None:
    """Show the comparisons in FOLDERS beside published accuracies.

    Without FOLDERS: all finished comparisons in runs/. Ours are means after the last epoch; most of
    the others are the best epoch by the test set, as the columns tell.
    """
    import dataclasses

    from fmnist_aug.leaderboard import make_leaderboard

    found = make_leaderboard(
        folders or sorted(path.parent for path in Path("runs").glob("*/results.json"))
    )
    if as_json:
        value = {
            "entries": [dataclasses.asdict(entry) for entry in found.entries],
            "left_out": found.left_out,
        }
        click.echo(json.dumps(value, indent=2, allow_nan=False))
        return
    for dataset in DATASETS:
        _print_entries(dataset, [entry for entry in found.entries if entry.dataset == dataset])
    for folder, reason in found.left_out.items():
        click.echo(f"left out: {clean(folder)}: {reason}", err=True)


COMMANDS = (leaderboard,)


def _print_entries(dataset: str, entries: list[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=dataset, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("%", justify="right", no_wrap=True)
    table.add_column("network", overflow="fold", min_width=12)
    table.add_column("parameters", justify="right", no_wrap=True)
    for name in ("training", "runs; epoch"):
        table.add_column(name, overflow="fold")
    table.add_column("source", no_wrap=True)
    sources = dict.fromkeys(entry.source for entry in entries)
    numbers = {source: f"[{number}]" for number, source in enumerate(sources, 1)}
    for entry in entries:
        cells = (
            f"{100 * entry.accuracy:.2f}",
            entry.model,
            _joined(f"{entry.parameters / 1e6:.2f} M" if entry.parameters else ""),
            _joined(entry.training, entry.time),
            _joined(entry.runs, entry.epoch),
            numbers[entry.source],
        )
        table.add_row(*(Text(clean(cell)) for cell in cells), style="bold" if entry.ours else "")
    Console().print(table)
    for source, number in numbers.items():  # outside the table, so that no address is cut
        click.echo(f"{number} {clean(source)}")
    click.echo()


def _joined(*parts: str) -> str:
    """What the source says, or that it doesn't."""
    from fmnist_aug.leaderboard import NOT_SAID

    return "; ".join(part for part in parts if part not in ("", "–", NOT_SAID)) or NOT_SAID
