"""The pictures of a comparison, each as PNG; matplotlib is imported when one is drawn."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.report.canvas import LIGHT, MARKERS, Theme, blend, draw, text_colour
from fmnist_aug.report.summary import (
    KNOWN_ARMS,
    Results,
    arm_names,
    class_names,
    focus_classes,
    judged_pair,
    mean_recall,
    runs_of,
    seeds,
    summed_confusion,
)
from fmnist_aug.report.wording import number, percent, plural, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NUMBERED = 20
"""Matrices of more classes are drawn without numbers in their cells."""
MOST_TICKS = 17
"""Classes that such a matrix names, at even distances."""
MOST_ROWS = 30
"""Figures with a row a class show this many at the most, those with the largest change."""
NAME_LENGTH = 18
WIDTH = 4.2
"""Inches of a chart: narrow enough that its words can be read on a phone."""
DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (9, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (1, 3)),
)
"""Arms differ by these too, not by colour alone."""
LEGEND_COLUMNS = 3
SETTLED = 0.1
"""Learning curves are scaled to what comes after this share of a training, which starts steeply."""


def draw_figures(
    results: Results, theme: Theme = LIGHT, *, matrices: bool = True
) -> dict[str, bytes]:
    """All figures that these results allow, as file name without ending → PNG.

    Args:
        results: the dictionary that results.json holds.
        theme: the colours.
        matrices: whether to draw the confusion matrices as well.
    """
    drawn: dict[str, bytes | None] = {
        "accuracy": accuracy_figure(results, theme),
        "learning-curves": curves_figure(results, theme),
        "recall-change": recall_change_figure(results, theme),
    }
    if matrices:
        for arm in arm_names(results):
            drawn[f"confusion-{file_name(arm)}"] = confusion_figure(results, arm, theme)
        drawn["confusion-difference"] = difference_figure(results, theme)
    return {name: png for name, png in drawn.items() if png is not None}


def file_name(arm: str) -> str:
    """An arm's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-") or "arm"


def confusion_figure(results: Results, arm: str, theme: Theme = LIGHT) -> bytes:
    """The confusion matrix of ``arm`` summed over its runs: rows = true, columns = predicted.

    Colour is a confusion's share of its row's images, so that rare classes show as well; the
    diagonal, which would outshine all, has a colour of its own.
    """
    counts = summed_confusion(results, arm)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = np.where(np.eye(len(counts), dtype=bool), np.nan, shares)
    largest = max(float(np.nanmax(wrong, initial=0)), 1e-6)
    labels = [[f"{count:,}" if count else "" for count in row] for row in counts.tolist()]
    runs = plural(len(runs_of(results, arm)), "run")

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        colours = blend(theme.surface, theme.strong).with_extremes(bad=theme.right)
        _matrix(axes, results, wrong / largest, labels, colours, (0.0, 1.0), theme)
        _title(figure, f"{arm}: test images, sum of {runs}")

    return draw(theme, *_matrix_size(len(counts)), paint)


def difference_figure(results: Results, theme: Theme = LIGHT) -> bytes | None:
    """How confusions differ between two arms, in images a run: targeted − uniform if both ran.

    Numbers are the plain difference; colour says whether it is good (more on the diagonal, less
    off it) or bad. None with one arm only.
    """
    pair = judged_pair(results)
    if pair is None:
        return None
    change = np.subtract(*(summed_confusion(results, a) / len(runs_of(results, a)) for a in pair))
    gain = np.where(np.eye(len(change), dtype=bool), change, -change)
    largest = max(float(np.abs(gain).max(initial=0)), 1e-6)
    digits = 0 if largest >= 10 else 1
    labels = [
        ["" if round(value, digits) == 0 else _signed(value, digits) for value in row]
        for row in change.tolist()
    ]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        colours = blend(theme.worse, theme.better, middle=theme.surface)
        _matrix(axes, results, gain / largest, labels, colours, (-1.0, 1.0), theme)
        _title(figure, f"{pair[0]} − {pair[1]}: images a run\n(blue: better, orange: worse)")

    return draw(theme, *_matrix_size(len(change)), paint)


def accuracy_figure(results: Results, theme: Theme = LIGHT) -> bytes:
    """Test accuracy of each run (dots, one line a seed), with each arm's mean and 95 % interval."""
    arms = arm_names(results)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        found = {(run["arm"], run["seed"]): 100 * run["test_accuracy"] for run in results["runs"]}
        for seed in seeds(results):
            pairs = [
                (found[arm, seed], row) for row, arm in enumerate(arms) if (arm, seed) in found
            ]
            axes.plot(*zip(*pairs, strict=True), color=theme.grid, linewidth=1.2, zorder=1)
        for row, arm in enumerate(arms):
            colour, marker, _ = _style(arm, row, theme)
            entry = results["arms"][arm]
            mean = 100 * entry["mean"]
            if entry["ci95"]:
                low, high = (100 * bound for bound in entry["ci95"])
                axes.plot([low, high], [row, row], color=colour, linewidth=7, alpha=0.28, zorder=2)
            axes.plot([mean, mean], [row - 0.26, row + 0.26], color=colour, linewidth=2.4, zorder=4)
            values = [found[arm, run["seed"]] for run in runs_of(results, arm)]
            axes.scatter(
                values,
                [row] * len(values),
                color=colour,
                marker=marker,
                edgecolor=theme.surface,
                linewidth=0.8,
                s=46,
                zorder=5,
            )
            axes.annotate(
                f"{percent(entry['mean'])} %",
                (mean, row - 0.3),
                ha="center",
                va="bottom",
                fontsize=9,
                fontweight="bold",
                color=colour,
            )
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(len(arms) - 0.5, -0.75)
        axes.margins(x=0.12)
        axes.grid(axis="x")
        axes.set_xlabel("test accuracy (%)\ndots: runs, bar: 95 % interval of the mean")

    return draw(theme, WIDTH, 0.9 + 0.62 * len(arms), paint)


def curves_figure(results: Results, theme: Theme = LIGHT) -> bytes | None:
    """Accuracy and loss on the training images over the epochs, one line a run.

    None if no run holds a curve, as in results that are older than curves.
    """
    arms = [arm for arm in arm_names(results) if any(r.get("curve") for r in runs_of(results, arm))]
    if not arms:
        return None

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        for position, arm in enumerate(arms):
            colour, _, dashes = _style(arm, position, theme)
            label: str | None = arm
            for run in runs_of(results, arm):
                if not run.get("curve"):
                    continue
                epochs, accuracies, losses = np.array(run["curve"], np.float64).T
                style = {"color": colour, "linewidth": 1.3, "alpha": 0.9, "linestyle": dashes}
                above.plot(epochs, 100 * accuracies, label=label, **style)
                below.plot(epochs, losses, **style)
                label = None  # one entry an arm in the legend
        above.set_ylim(bottom=_settled(results, 1)[0])
        below.set_ylim(top=_settled(results, 2)[1])
        above.set_ylabel("training accuracy (%)")
        below.set_ylabel("training loss")
        below.set_xlabel("epoch")
        for axes in (above, below):
            axes.grid(axis="y")
        _legend(figure, above, handle_length=3.0)

    return draw(theme, WIDTH, 4.0, paint)


def recall_change_figure(results: Results, theme: Theme = LIGHT) -> bytes | None:
    """Change of each class's recall against the baseline, in points; None with one arm only.

    Without a baseline the first arm takes its place.
    """
    arms = arm_names(results)
    if len(arms) < 2:
        return None
    reference, others = arms[0], arms[1:]
    start = mean_recall(results, reference)
    changes = {arm: 100 * (mean_recall(results, arm) - start) for arm in others}
    largest = np.abs(np.nan_to_num(np.stack(list(changes.values())))).max(axis=0)
    shown = sorted(np.argsort(-largest, kind="stable")[:MOST_ROWS].tolist())
    names = class_names(results)
    gap, row_height = min(0.3, 0.8 / len(others)), max(0.3, 0.12 * len(others))

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=theme.muted, linewidth=1)
        for position, arm in enumerate(others):
            colour, marker, _ = _style(arm, position + 1, theme)
            offset = gap * (position - (len(others) - 1) / 2)
            rows = np.arange(len(shown)) + offset
            values = changes[arm][shown]
            axes.hlines(rows, 0, np.nan_to_num(values), color=colour, linewidth=2, alpha=0.55)
            axes.scatter(values, rows, color=colour, marker=marker, s=30, zorder=3, label=arm)
        ticks = [shorten(names[label], NAME_LENGTH) for label in shown]
        axes.set_yticks(range(len(shown)), ticks)
        focus = focus_classes(results)
        for label, tick in zip(shown, axes.get_yticklabels(), strict=True):
            tick.set_fontweight("bold" if label in focus else "normal")
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.margins(x=0.08)
        axes.grid(axis="x")
        part = f"\nthe {len(shown)} largest of {len(names)}" if len(shown) < len(names) else ""
        axes.set_xlabel(f"change of recall against {reference} (points){part}")
        _legend(figure, axes, handle_length=1.0)

    return draw(theme, WIDTH, 1.2 + row_height * len(shown), paint)


def _legend(figure: Figure, axes: Axes, handle_length: float) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=min(len(labels), LEGEND_COLUMNS),
        fontsize=9 if len(labels) <= LEGEND_COLUMNS else 8,
        handlelength=handle_length,
        columnspacing=1.4,
    )


def _settled(results: Results, column: int) -> tuple[float | None, float | None]:
    """The range of all learning curves after their start; accuracy (column 1) in per cent."""
    curves = [np.array(run["curve"], np.float64) for run in results["runs"] if run.get("curve")]
    values = np.concatenate([c[c[:, 0] > SETTLED * c[-1, 0], column] for c in curves])
    values = values[np.isfinite(values)] * (100 if column == 1 else 1)
    if not len(values) or values.min() == values.max():
        return None, None
    margin = 0.06 * (values.max() - values.min())
    return float(values.min() - margin), float(values.max() + margin)


def _matrix(
    axes: Axes,
    results: Results,
    values: NDArray[np.float64],
    labels: list[list[str]],
    colours: Any,
    limits: tuple[float, float],
    theme: Theme,
) -> None:
    size = len(values)
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="equal")
    if size <= MOST_NUMBERED:
        longest = max(len(label) for row in labels for label in row)
        for row, column in np.ndindex(size, size):
            axes.text(
                column,
                row,
                labels[row][column],
                ha="center",
                va="center",
                fontsize=8 if longest < 5 else 6.6 if longest < 6 else 5.6,
                color=text_colour(image.to_rgba(values[row : row + 1, column : column + 1])[0, 0]),
            )
    names = [shorten(name, NAME_LENGTH) for name in class_names(results)]
    step = math.ceil(size / MOST_TICKS) if size > MOST_NUMBERED else 1
    ticks = range(0, size, step)
    axes.set_xticks(ticks, names[::step], rotation=90, fontsize=8)
    axes.set_yticks(ticks, names[::step], fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= MOST_NUMBERED:
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.tick_params(which="minor", length=0)
        axes.grid(which="minor", color=theme.grid, linewidth=0.6)
    axes.spines[:].set_visible(False)


def _title(figure: Figure, text: str) -> None:
    """A title from the figure's left edge on: a small matrix is narrower than its title."""
    import matplotlib

    settings = matplotlib.rcParams
    figure.suptitle(
        text,
        x=0.01,
        horizontalalignment="left",
        fontsize=settings["axes.titlesize"],
        fontweight=settings["axes.titleweight"],
    )


def _matrix_size(size: int) -> tuple[float, float]:
    side = 1.5 + 0.42 * min(max(size, 5), 15) if size <= MOST_NUMBERED else 1.25 * WIDTH
    return side, side


def _style(arm: str, position: int, theme: Theme) -> tuple[str, str, Any]:
    """Colour, marker and dashes of an arm: the same in every comparison that has it."""
    place = KNOWN_ARMS.index(arm) if arm in KNOWN_ARMS else position
    colour, marker = theme.arms[place % len(theme.arms)], MARKERS[place % len(MARKERS)]
    return colour, marker, DASHES[place % len(DASHES)]


def _signed(value: float, digits: int) -> str:
    text = number(value, digits)
    return text if text.startswith("−") else f"+{text}"
