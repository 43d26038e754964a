"""Measuring contenders in turns, and saying how far the figures spread."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fmnist_aug.training import TrainSettings


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line.

    Attributes:
        quick: a few steps only, to see that it runs.
        repeats: turns of each contender.
        threads: of this process.
        accuracy_file: where finished trainings to an accuracy are kept.
        methods: those of which the time to an accuracy is measured; all if empty.
        lengths: in epochs, instead of each method's own; those if empty.
        runs: trainings of each method and length.
    """

    quick: bool
    repeats: int
    threads: int
    accuracy_file: Path
    methods: tuple[str, ...] = ()
    lengths: tuple[float, ...] = ()
    runs: int = 5

    def shortened(self, settings: TrainSettings) -> TrainSettings:
        """The settings, with small batches if it is to be quick."""
        return dataclasses.replace(settings, batch_size=16) if self.quick else settings


def in_turns(contenders: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Call all of them once to warm up, then ``repeats`` times each, one after the other."""
    for contender in contenders.values():
        contender()
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            figures[name].append(contender())
    return figures


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles; the values themselves too."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive")
        if len(values) > 1
        else (values[0],) * 3
    )
    return {"median": middle, "quartiles": [low, high], "values": list(values)}


def compared(
    figures: Mapping[str, Sequence[float]], ours: str, unit: str, more_is_better: bool = True
) -> dict[str, Any]:
    """Figures of all contenders, and how many times as good ``ours`` was in the same turns."""
    return {
        "unit": unit,
        "figures": {name: spread(values) for name, values in figures.items()},
        "ratios": {
            f"{ours} : {name}": spread(
                [
                    mine / other if more_is_better else other / mine
                    for mine, other in zip(figures[ours], values, strict=True)
                ]
            )
            for name, values in figures.items()
            if name != ours
        },
    }


def print_section(name: str, section: Mapping[str, Any]) -> None:
    """Print a section's comparisons as one table, then its notes."""
    table = Table("", "contender", "median", "quartiles", "unit", title=name, title_justify="left")
    for title, comparison in section.get("comparisons", {}).items():
        rows = [
            *((key, value, comparison["unit"]) for key, value in comparison["figures"].items()),
            *((key, value, "×") for key, value in comparison.get("ratios", {}).items()),
        ]
        for number, (key, value, unit) in enumerate(rows):
            low, high = value["quartiles"]
            table.add_row(
                "" if number else title,
                key,
                f"{value['median']:,.4g}",
                f"{low:,.4g} … {high:,.4g}",
                unit,
                end_section=number == len(rows) - 1,
            )
    console = Console()
    console.print(table)
    for note in section.get("notes", ()):
        console.print(f"  {note}", markup=False, highlight=False)
