"""Which test images to show, and images as small PNGs."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.dataset import ImageDataset
from fmnist_aug.errors import DataError
from fmnist_aug.report.canvas import LIGHT, Theme, draw
from fmnist_aug.report.wording import shorten
from fmnist_aug.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

MOST_IMAGES = 24
"""Mislabelled images shown for an arm at the most."""
MOST_SAMPLES = 80
"""Pictures in the gallery of augmented samples at the most, originals included."""
MOST_PIXELS = 56
"""Larger images are shrunk to this many pixels on their longer side, so the page stays small."""
PIXEL_STEPS = (MOST_PIXELS, 40, 28, 20)
"""Smaller sizes, tried in turn where so many images would make the page too large."""


@dataclass(frozen=True)
class Mislabelled:
    """A test image that an arm got wrong.

    Attributes:
        index: its place in the test set.
        true: its class.
        predicted: the class it was most often taken for.
        probability: what the runs that took it for ``predicted`` gave that class, on average.
        wrong_runs: in how many runs it was mislabelled.
        runs: in how many runs it was classified.
    """

    index: int
    true: int
    predicted: int
    probability: float
    wrong_runs: int
    runs: int


def mislabelled_images(
    labels: NDArray[np.int64],
    logits: Sequence[NDArray[np.floating]],
    classes: Sequence[int] = (),
    most: int = MOST_IMAGES,
) -> list[Mislabelled]:
    """The images that one arm mislabelled, most often mislabelled first, then most surely.

    Args:
        labels: true labels int64 (N,).
        logits: for each run of the arm float (N, K).
        classes: take images of these true classes only; of all classes if empty.
        most: how many at the most.

    Raises:
        DataError: a run's logits don't fit the labels.

    >>> labels, logits = np.array([0, 1]), np.array([[0.0, 9.0], [0.0, 9.0]])
    >>> [(image.index, image.predicted) for image in mislabelled_images(labels, [logits])]
    [(0, 1)]
    """
    for scores in logits:
        check_logits(labels, scores)
    if not len(logits):
        return []
    predicted = np.stack([scores.argmax(axis=1) for scores in logits])
    wrong = predicted != labels
    if len(classes):
        wrong &= np.isin(labels, classes)
    images = [
        _describe(int(index), labels, logits, predicted[:, index], wrong[:, index])
        for index in np.flatnonzero(wrong.any(axis=0))
    ]
    images.sort(key=lambda image: (-image.wrong_runs, -image.probability, image.index))
    return images[:most]


def check_logits(
    labels: NDArray[np.int64], scores: NDArray[np.floating], classes: int | None = None
) -> None:
    """Refuse logits that are not (N, K) for the N labels and, if it is given, K ``classes``.

    Raises:
        DataError: they are not.
    """
    shape = (len(labels), classes or scores.shape[-1])
    if scores.shape != shape:
        raise DataError(
            f"logits {scores.shape} don't fit the {len(labels)} test images; the predictions "
            "belong to another data set, so run the comparison again in a fresh folder"
        )


def _describe(
    index: int,
    labels: NDArray[np.int64],
    logits: Sequence[NDArray[np.floating]],
    predicted: NDArray[np.int64],
    wrong: NDArray[np.bool_],
) -> Mislabelled:
    label = int(np.bincount(predicted[wrong]).argmax())
    given = [
        probabilities(scores[index])[label]
        for scores, choice in zip(logits, predicted, strict=True)
        if choice == label
    ]
    return Mislabelled(
        index=index,
        true=int(labels[index]),
        predicted=label,
        probability=float(np.mean(given)),
        wrong_runs=int(wrong.sum()),
        runs=len(logits),
    )


def always_wrong(
    labels: NDArray[np.int64], logits: Mapping[tuple[str, int], NDArray[np.floating]]
) -> int:
    """How many images every run of every arm got wrong; no arm's doing, or a doubtful label."""
    if not logits:
        return 0
    wrong = np.stack([scores.argmax(axis=1) != labels for scores in logits.values()])
    return int(wrong.all(axis=0).sum())


def image_png(image: NDArray[np.uint8], pixels: int = MOST_PIXELS) -> bytes:
    """One image uint8 (H, W, C) as PNG, its longer side ``pixels`` at the most."""
    return _encode(_shrunk(image, pixels))


def strip_png(images: NDArray[np.uint8]) -> bytes:
    """Images uint8 (rows, H, W, C) side by side, the first set apart, on a clear ground."""
    from PIL import Image

    shrunk = [_shrunk(image) for image in images]
    width, height = shrunk[0].size
    gap = max(1, width // 14)
    strip = Image.new("RGBA", (len(shrunk) * (width + gap) + 2 * gap, height), (0, 0, 0, 0))
    for position, image in enumerate(shrunk):
        left = position * (width + gap) + (3 * gap if position else 0)
        strip.paste(image.convert("RGBA"), (left, 0))
    return _encode(strip)


def contact_sheet(
    test: ImageDataset, images: Sequence[Mislabelled], title: str, theme: Theme = LIGHT
) -> bytes:
    """A sheet of mislabelled images with true and predicted class below each, as PNG.

    Args:
        test: the test set that ``images`` point into.
        images: at least one.
        title: stands above the sheet.
        theme: the colours.
    """
    columns = min(8, len(images))
    rows = math.ceil(len(images) / columns)
    names = [shorten(clean(name), 13) for name in test.class_names]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for position, image in enumerate(images):
            row, column = divmod(position, columns)
            pixels = np.asarray(_shrunk(test.images[image.index]).convert("RGB"))
            height, width = pixels.shape[:2]
            half = 0.42 * np.array([width, height]) / max(width, height)
            top, left = 1.35 * row + 0.42, column + 0.5
            axes.imshow(
                pixels,
                extent=(left - half[0], left + half[0], top + half[1], top - half[1]),
                interpolation="nearest",
            )
            text = f"{names[image.true]}\n→ {names[image.predicted]} {image.probability:.0%}"
            axes.text(left, 1.35 * row + 0.9, text, ha="center", va="top", fontsize=5.6)
        axes.set_xlim(0, max(columns, 4))
        axes.set_ylim(1.35 * rows, -0.05)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(title)

    width = max(columns, 4)
    return draw(theme, 0.85 * width, 0.85 * 1.35 * rows + 0.4, paint)


def limit_samples(
    samples: Sequence[tuple[str, NDArray[np.uint8]]],
) -> list[tuple[str, NDArray[np.uint8]]]:
    """As many (caption, stack uint8 (rows, H, W, C)) as `MOST_SAMPLES` pictures allow.

    Raises:
        DataError: a stack is not uint8 (rows, H, W, 1 or 3).
    """
    kept, pictures = [], 0
    for caption, stack in samples:
        if stack.dtype != np.uint8 or stack.ndim != 4 or stack.shape[3] not in (1, 3):
            raise DataError(
                f"augmented samples must be uint8 (rows, H, W, 1 or 3), not {stack.dtype} "
                f"{stack.shape}"
            )
        stack = stack[: MOST_SAMPLES - pictures]
        if len(stack):
            kept.append((clean(caption), stack))
            pictures += len(stack)
    return kept


def probabilities(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The softmax of logits (…, K) over their last axis.

    >>> probabilities(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    exponents = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def _shrunk(image: NDArray[np.uint8], pixels: int = MOST_PIXELS) -> Image:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))
    picture.thumbnail((pixels, pixels))
    return picture


def _encode(image: Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
