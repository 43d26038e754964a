"""Sheets of images as PNG: rows with a caption, each image with a word below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.confusion import ConfusionReport
from fmnist_aug.errors import DataError
from fmnist_aug.report.canvas import LIGHT, Theme, draw
from fmnist_aug.report.wording import shorten
from fmnist_aug.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fmnist_aug.data import Images

_INCHES = 0.62
"""Side of an image on paper."""
_CAPTION = 0.36
_NOTE = 0.22
_TITLE = 0.55
"""Room above a row, below an image and above all, as shares of an image's side."""


@dataclass(frozen=True, eq=False)
class SheetRow:
    """Some images side by side.

    Attributes:
        images: uint8 (N, H, W, C), at least one.
        caption: stands above them; empty for none.
        notes: a word below each image, or none at all.
        first_apart: whether the first image stands a little apart, as an original does.
    """

    images: NDArray[np.uint8]
    caption: str = ""
    notes: tuple[str, ...] = ()
    first_apart: bool = False

    @property
    def height(self) -> float:
        """In sides of an image."""
        return 1.06 + _CAPTION * bool(self.caption) + _NOTE * bool(self.notes)


def image_sheet(title: str, rows: Sequence[SheetRow], theme: Theme = LIGHT) -> bytes:
    """A PNG with the rows below each other.

    Args:
        title: stands above the sheet.
        rows: at least one.
        theme: the colours.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("there are no images to show")
    columns = max(len(row.images) + 0.3 * row.first_apart for row in rows)
    columns = max(columns, 9.0) + 0.1
    height = sum(row.height for row in rows)

    def paint(figure: Figure) -> None:
        # placed by hand: an automatic layout would shrink the images to make room for long words
        axes = figure.add_axes((0, 0, 1, height / (height + _TITLE)))
        axes.text(0.06, -0.12, shorten(clean(title), int(8 * columns)), weight="bold")
        top = 0.0
        for row in rows:
            _paint_row(axes, row, top, int(12 * columns), theme)
            top += row.height
        axes.set_xlim(0, columns)
        axes.set_ylim(height, 0)
        axes.set_axis_off()

    return draw(theme, _INCHES * columns, _INCHES * (height + _TITLE), paint)


def confusion_rows(
    report: ConfusionReport,
    images: Images,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    *,
    pairs: int = 3,
    columns: int = 10,
) -> list[SheetRow]:
    """The images behind the most confused pairs, each direction a row, surest mistakes first.

    Args:
        report: the confusions of these images.
        images: uint8 (N, H, W, C).
        labels: true labels int64 (N,).
        probabilities: float (N, classes), of which the largest is the prediction.
        pairs: how many pairs at the most.
        columns: how many images a row at the most.
    """
    predicted = probabilities.argmax(axis=1)
    rows = []
    for pair in report.most_confused(pairs):
        for true, taken_for in ((pair.first, pair.second), (pair.second, pair.first)):
            found = np.flatnonzero((labels == true) & (predicted == taken_for))
            found = found[np.argsort(-probabilities[found, taken_for], kind="stable")]
            shown = found[:columns]
            if not len(shown):
                continue
            names = report.class_names[true], report.class_names[taken_for]
            count = f"{len(found)} images"
            if len(shown) < len(found):
                count += f", the {len(shown)} surest mistakes"
            rows.append(
                SheetRow(
                    images[shown],
                    f"{names[0]} taken for {names[1]}: {count}",
                    tuple(f"{value:.0%}" for value in probabilities[shown, taken_for]),
                )
            )
    return rows


def _paint_row(axes: Axes, row: SheetRow, top: float, characters: int, theme: Theme) -> None:
    if row.caption:
        caption = shorten(clean(row.caption), characters)
        axes.text(0.06, top + 0.3, caption, ha="left", va="bottom", fontsize=7)
        top += _CAPTION
    for position, image in enumerate(row.images):
        left = position + 0.55 + (0.3 if row.first_apart and position else 0.0)
        half = 0.48 * np.array([image.shape[1], image.shape[0]]) / max(image.shape[:2])
        middle = top + 0.5
        axes.imshow(
            np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image,
            extent=(left - half[0], left + half[0], middle + half[1], middle - half[1]),
            interpolation="nearest",
            aspect="auto",
        )
        if row.notes:
            axes.text(
                left,
                top + 1.02,
                clean(row.notes[position]),
                ha="center",
                va="top",
                fontsize=5.5,
                color=theme.muted,
            )
