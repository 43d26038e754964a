"""The tables of a comparison: built once as plain text, shown on a terminal and on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmnist_aug.report.summary import (
    Results,
    arm_names,
    class_names,
    class_verdicts,
    contrasts,
    focus_classes,
    focus_names,
    focus_sentence,
    focus_total,
    headline,
    judged_pair,
    mean_recall,
    runs_of,
    seeds,
)
from fmnist_aug.report.wording import (
    ARTEFACT_WARNING,
    NOTHING,
    interval,
    number,
    p_value,
    percent,
    points,
)
from fmnist_aug.text import clean

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "TextTable",
    "accuracy_table",
    "arms_table",
    "contrasts_table",
    "focus_table",
    "headline",
    "recall_table",
    "render_tables",
]

_BETWEEN = 3
"""Characters between the columns of a table on a terminal, with those at its edges."""


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are ready to print.

    Attributes:
        title: what the table shows.
        columns: the heads.
        rows: one tuple a row, as long as ``columns``.
        labels: how many columns on the left hold words; the others hold numbers.
        strong: indices of the rows that matter most.
        note: how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    strong: frozenset[int] = frozenset()
    note: str = ""


def accuracy_table(results: Results) -> TextTable:
    """Test accuracy of each run in per cent, and the averages: the original's own table."""
    arms = arm_names(results)
    found = {(run["arm"], run["seed"]): run["test_accuracy"] for run in results["runs"]}
    rows = [
        (str(position), *(percent(found.get((arm, seed))) for arm in arms))
        for position, seed in enumerate(seeds(results), start=1)
    ]
    rows.append(("Average", *(percent(results["arms"][arm]["mean"]) for arm in arms)))
    return TextTable(
        f"Test accuracy ({clean(results['dataset'])}, %)",
        ("Test", *arms),
        tuple(rows),
        strong=frozenset({len(rows) - 1}),
    )


def arms_table(results: Results) -> TextTable:
    """Mean, spread and interval of each arm's test accuracy."""
    rows = []
    for arm in arm_names(results):
        entry = results["arms"][arm]
        runs = runs_of(results, arm)
        seconds = sum(run["train_seconds"] for run in runs) / len(runs)
        rows.append(
            (
                arm,
                str(len(runs)),
                percent(entry["mean"]),
                percent(entry["std"]),
                interval(entry["ci95"]),
                number(seconds, 1 if seconds < 100 else 0),
            )
        )
    return TextTable(
        "Arms",
        ("arm", "runs", "mean %", "std (points)", "95 % interval %", "seconds a run"),
        tuple(rows),
        note=ARTEFACT_WARNING if "augment-only" in arm_names(results) else "",
    )


def focus_table(results: Results) -> TextTable:
    """The mislabels that the focus classes are part of, for each arm and run; none, no rows."""
    rows: list[tuple[str, ...]] = []
    strong: set[int] = set()
    for arm in arm_names(results) if focus_classes(results) else ():
        runs = runs_of(results, arm)
        for run in runs:
            focus = run["focus"]
            rows.append(
                (
                    arm,
                    str(seeds(results).index(run["seed"]) + 1),
                    number(focus["missed"]),
                    number(focus["swapped"]),
                    number(focus["claimed"]),
                    number(focus["missed"] + focus["claimed"]),
                    percent(focus.get("share_of_errors"), 1),
                )
            )
        means = (
            sum(run["focus"][key] for run in runs) / len(runs)
            for key in ("missed", "swapped", "claimed")
        )
        strong.add(len(rows))
        rows.append(
            (
                arm,
                "Average",
                *(number(mean, 1) for mean in means),
                number(focus_total(results, arm), 1),
                percent(results["arms"][arm].get("focus_share_of_errors"), 1),
            )
        )
    names = focus_names(results) or "no class"
    either = " or ".join(names.rsplit(" and ", 1))
    return TextTable(
        f"Mislabels of {names}",
        ("arm", "run", "missed", "of those swapped", "claimed", "together", "% of all mislabels"),
        tuple(rows),
        labels=2,
        strong=frozenset(strong),
        note=(
            f"missed: an image of {either} was called something else; swapped: it was called "
            "another class in focus; claimed: an image of another class was called "
            f"{either}."
        )
        if focus_classes(results)
        else "",
    )


def contrasts_table(results: Results) -> TextTable:
    """Differences in test accuracy between arms, with what they allow to say."""
    note = "detectable: the smallest difference that this many runs would probably have shown."
    if len(contrasts(results)) > 1:
        note += (
            " Interval and p are of each difference alone; the verdicts allow for looking at all "
            "of them (Holm's method)."
        )
    rows = tuple(
        (
            f"{clean(contrast.a)} − {clean(contrast.b)}",
            points(contrast.difference),
            interval(contrast.ci95, signed=True),
            p_value(contrast.p_value),
            contrast.verdict,
            percent(contrast.minimum_detectable_difference),
        )
        for contrast in contrasts(results)
    )
    return TextTable(
        "Contrasts (points of test accuracy)",
        ("a − b", "difference", "95 % interval", "p", "verdict", "detectable"),
        rows,
        note=note if rows else "One arm alone has nothing to be compared with.",
    )


def recall_table(results: Results) -> TextTable:
    """Recall of each class in per cent, averaged over an arm's runs; focus classes are strong.

    The verdicts on single classes are of p-values that were adjusted for looking at all of them.
    """
    arms = arm_names(results)
    recalls = {arm: mean_recall(results, arm) for arm in arms}
    pair = judged_pair(results)
    verdicts = class_verdicts(results, *pair) if pair else {}
    rows = []
    for label, name in enumerate(class_names(results)):
        cells = [name, *(percent(float(recalls[arm][label])) for arm in arms)]
        if pair:
            cells.append(points(float(recalls[pair[0]][label] - recalls[pair[1]][label])))
        if verdicts:
            cells.append(verdicts.get(label, NOTHING))
        rows.append(tuple(cells))
    columns = ["class", *arms, *([f"{pair[0]} − {pair[1]}"] if pair else [])]
    note = "Recall: the share of a class's test images that was recognised, mean of the runs."
    if verdicts:
        columns.append("verdict")
        note += " The verdicts allow for looking at every class (Holm's method)."
    return TextTable(
        "Recall of each class (%)",
        tuple(columns),
        tuple(rows),
        strong=frozenset(focus_classes(results)),
        note=note,
    )


def render_tables(results: Results, console: Console) -> None:
    """Print the answer and the four tables of a comparison to ``console``.

    Args:
        results: the dictionary that results.json holds.
        console: where to print; its width, colours and encoding are honoured.
    """
    from rich.text import Text

    console.print(Text(headline(results), style="bold"))
    for table in (
        accuracy_table(results),
        arms_table(results),
        focus_table(results),
        contrasts_table(results),
    ):
        if table.rows or table.note:
            console.print()
            _render(table, console)
    console.print()
    console.print(Text(focus_sentence(results)))


def _render(table: TextTable, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(
        title=Text(table.title, style="bold"),
        caption=Text(table.note) if table.note else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    widths = _widths(table, console.width)
    for position, (column, width) in enumerate(zip(table.columns, widths, strict=True)):
        label = position < table.labels
        shown.add_column(
            Text(column), justify="left" if label else "right", overflow="fold", width=width
        )
    for position, row in enumerate(table.rows):
        # Text, not str: a class name in square brackets is no markup
        shown.add_row(
            *(Text(cell) for cell in row), style="bold" if position in table.strong else None
        )
    console.print(shown)


def _widths(table: TextTable, width: int) -> list[int | None]:
    """Of each column, so that no word or number is broken; None, rich's own, if they don't fit.

    rich by itself breaks names where headings could be wrapped, and cuts the last column off if it
    is told how wide the names are at least.
    """
    from rich.cells import cell_len

    columns = list(zip(table.columns, *table.rows, strict=True))
    least = [
        max((cell_len(word) for cell in cells for word in cell.split()), default=0)
        for cells in columns
    ]
    most = [max(map(cell_len, cells)) for cells in columns]
    spare = width - sum(least) - _BETWEEN * len(columns) + 1
    if spare < 0:
        return [None] * len(columns)
    # the more columns have all that they want, the fewer lines are wrapped
    for place in sorted(range(len(columns)), key=lambda place: most[place] - least[place]):
        more = min(spare, most[place] - least[place])
        least[place] += more
        spare -= more
    return [*least]
