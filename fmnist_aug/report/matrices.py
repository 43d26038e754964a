"""Confusion matrices as tables for the page, whose cells open the images behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.report.canvas import DARK, LIGHT, Theme, text_colour
from fmnist_aug.report.mistakes import Mistakes
from fmnist_aug.report.summary import (
    Results,
    arm_names,
    class_names,
    judged_pair,
    runs_of,
    summed_confusion,
)
from fmnist_aug.report.wording import number, plural
from fmnist_aug.text import clean

MOST_SHOWN = 20
"""Tables of more classes show those that most confusions are of."""
LEVELS = 8
"""Shades of the scale of confusions; half as many for each side of a difference."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        true: the row's class.
        predicted: the column's class.
        text: its number, as it is printed.
        shade: the name of its colour in the style sheet.
        words: what it says, for those who can't see its place; empty where it opens nothing.
    """

    true: int
    predicted: int
    text: str
    shade: str
    words: str = ""


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix or the difference of two: rows = true, columns = predicted.

    Attributes:
        title: whose it is.
        note: how its numbers are to be read.
        arm: place of the arm in `Mistakes.arms`; None if its images are not at hand.
        against: the same of the arm that is subtracted; None if none is.
        columns: the names of the shown classes.
        rows: for each shown class its name and its cells.
    """

    title: str
    note: str
    arm: int | None
    against: int | None
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def confusion_matrices(results: Results, mistakes: Mistakes) -> list[Matrix]:
    """The matrix of each arm, then the difference of the two that are judged, if there are two.

    Counts are sums over the runs whose mistakes are at hand; colours are shares of the row's
    images on one scale for all arms, so that equal colours mean the same.

    Args:
        results: the dictionary that results.json holds.
        mistakes: found in the same comparison's predictions.
    """
    arms, known = arm_names(results), mistakes.arms
    counts = {
        arm: mistakes.confusion(arm) if arm in known else summed_confusion(results, arm)
        for arm in arms
    }
    runs = {arm: len(mistakes.of(arm)) or len(runs_of(results, arm)) for arm in arms}
    shown = _shown_classes(list(counts.values()))
    names = [class_names(results)[label] for label in shown]
    shares = {
        arm: _wrong(count) / np.maximum(count.sum(1), 1)[:, None] for arm, count in counts.items()
    }
    largest = max(float(share.max(initial=0)) for share in shares.values()) or 1.0
    found = []
    for arm in arms:
        opens = arm in known
        cells = [
            [
                _count_cell(results, counts[arm], shares[arm] / largest, true, predicted, opens)
                for predicted in shown
            ]
            for true in shown
        ]
        found.append(
            Matrix(
                clean(arm),
                f"Sum of {plural(runs[arm], 'run')}.",
                known.index(arm) if opens else None,
                None,
                tuple(names),
                tuple(zip(names, map(tuple, cells), strict=True)),
            )
        )
    pair = judged_pair(results)
    if pair is not None:
        found.append(_difference(results, counts, runs, known, pair, shown))
    return found


def _difference(
    results: Results,
    counts: dict[str, NDArray[np.int64]],
    runs: dict[str, int],
    known: Sequence[str],
    pair: tuple[str, str],
    shown: Sequence[int],
) -> Matrix:
    a, b = pair
    if runs[a] == runs[b]:
        change, digits = (counts[a] - counts[b]).astype(np.float64), 0
        note = f"Sum of {plural(runs[a], 'run')} each"
    else:
        change, digits = counts[a] / runs[a] - counts[b] / runs[b], 1
        note = "Images a run"
    opens = a in known and b in known
    gain = np.where(np.eye(len(change), dtype=bool), change, -change)
    gain /= float(np.abs(gain[np.ix_(shown, shown)]).max(initial=0)) or 1.0
    names = class_names(results)
    rows = []
    for true in shown:
        cells = []
        for predicted in shown:
            value = change[true, predicted]
            text = number(value, digits)
            text = text if text.startswith("−") or not round(value, digits) else f"+{text}"
            level = math.ceil(abs(gain[true, predicted]) * LEVELS / 2)
            shade = f"{'better' if gain[true, predicted] > 0 else 'worse'}-{level}"
            behind = (
                opens
                and true != predicted
                and counts[a][true, predicted] + counts[b][true, predicted]
            )
            words = f"{names[true]} taken for {names[predicted]}: {text}" if behind else ""
            cells.append(Cell(true, predicted, text, shade if level else "none", words))
        rows.append((names[true], tuple(cells)))
    return Matrix(
        f"{clean(a)} − {clean(b)}",
        f"{note}; blue is better.",
        known.index(a) if opens else None,
        known.index(b) if opens else None,
        tuple(names[label] for label in shown),
        tuple(rows),
    )


def _count_cell(
    results: Results,
    counts: NDArray[np.int64],
    intensity: NDArray[np.float64],
    true: int,
    predicted: int,
    opens: bool,
) -> Cell:
    count = int(counts[true, predicted])
    if true == predicted:
        return Cell(true, predicted, f"{count:,}", "right")
    if not count:
        return Cell(true, predicted, "0", "none")
    names = class_names(results)
    words = f"{names[true]} taken for {names[predicted]}: {count:,}"
    level = max(1, math.ceil(intensity[true, predicted] * LEVELS))
    return Cell(true, predicted, f"{count:,}", f"wrong-{level}", words if opens else "")


def _shown_classes(counts: Sequence[NDArray[np.int64]]) -> list[int]:
    total = _wrong(np.asarray(sum(counts)))
    size = len(total)
    if size <= MOST_SHOWN:
        return list(range(size))
    errors = total.sum(axis=0) + total.sum(axis=1)
    return sorted(np.argsort(-errors, kind="stable")[:MOST_SHOWN].tolist())


def _wrong(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts without the diagonal."""
    return np.where(np.eye(len(counts), dtype=bool), 0, counts)


def matrix_style() -> str:
    """The colours of the cells as style rules, for a light and a dark page.

    Words are black or white, whichever is easier to read on the shade (at least 4.5 : 1, WCAG AA).
    """
    dark = "\n".join(_rules(DARK))
    return "\n".join(
        [*_rules(LIGHT), f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"]
    )


def _rules(theme: Theme) -> list[str]:
    colours = {"right": theme.right}
    for level in range(1, LEVELS + 1):
        colours[f"wrong-{level}"] = mix(theme.surface, theme.strong, level / LEVELS)
    for level in range(1, LEVELS // 2 + 1):
        for side in ("better", "worse"):
            end = theme.better if side == "better" else theme.worse
            colours[f"{side}-{level}"] = mix(theme.surface, end, level / (LEVELS // 2))
    return [
        f".cell-{name} {{ background: {colour}; color: {readable(colour)}; }}"
        for name, colour in colours.items()
    ]


def mix(low: str, high: str, share: float) -> str:
    """A colour between two hex colours.

    >>> mix("#000000", "#ffffff", 0.2)
    '#333333'
    """
    pairs = zip(bytes.fromhex(low[1:]), bytes.fromhex(high[1:]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def readable(background: str) -> str:
    """Black or white, whichever has more contrast on a hex colour (WCAG 2, relative luminance).

    >>> readable("#ffffff"), readable("#a83200")
    ('#000000', '#ffffff')
    """
    return text_colour(tuple(value / 255 for value in bytes.fromhex(background[1:])))
