"""What a classifier mixes up: counts, rates and the most confused pairs with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmnist_aug.errors import DataError, UsageError

MOST_NAMED = 3
"""Pairs that a report is printed with."""
MAX_CLASSES = 10_000
"""The most that labels alone can say there are: their table of confusions takes a gigabyte."""
MAX_COUNT = 1 << 40
"""Images in a cell of the matrix; sums of counts then stay far from the limits of int64."""


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes and how often one was taken for the other.

    Attributes:
        first: index of the one class; ``first < second``.
        second: index of the other class.
        first_as_second: images of ``first`` that were predicted as ``second``.
        second_as_first: images of ``second`` that were predicted as ``first``.
        rate: confused images as a share of all images of the two classes.
        ci95: 95 % Wilson score interval of ``rate`` (Wilson, JASA 22, 1927).
        share: confused images as a share of all errors of the classifier.
        share_ci95: 95 % Wilson score interval of ``share``.
    """

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    rate: float
    ci95: tuple[float, float]
    share: float
    share_ci95: tuple[float, float]

    @property
    def count(self) -> int:
        """Confused images in both directions."""
        return self.first_as_second + self.second_as_first


@dataclass(frozen=True)
class ConfusionReport:
    """A confusion matrix with names: rows = true classes, columns = predicted classes.

    Attributes:
        counts: ``counts[true][predicted]``, the number of images.
        class_names: one name a class.
    """

    counts: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        size = len(self.class_names)
        if len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise DataError(f"{size} class names need a {size} × {size} matrix of counts")
        for count in (count for row in self.counts for count in row):
            if not isinstance(count, int | np.integer) or not 0 <= count <= MAX_COUNT:
                raise DataError(f"counts must be whole numbers from 0 to {MAX_COUNT}: {count!r}")
        # lists and arrays, such as scikit-learn's confusion matrix, make the same report
        counts = tuple(tuple(int(count) for count in row) for row in self.counts)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "class_names", tuple(str(name) for name in self.class_names))

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        class_names: Sequence[str] | None = None,
    ) -> ConfusionReport:
        """Count the confusions between true and predicted labels.

        Use predictions for images that the classifier was *not* trained on, and that are not
        your test set if you mean to change anything because of them.

        Args:
            y_true: true labels (N,): class indices, or names if ``class_names`` has them; numbers
                in ``class_names``, such as a classifier's ``classes_``, are names.
            y_pred: predicted labels (N,) of the same kind, or scores (N, K) with one column a
                class, of which the largest is taken: logits, or cleanlab's out-of-sample
                ``pred_probs``.
            class_names: one name a class; by default the indices up to the largest label.

        Raises:
            DataError: shapes or kinds of labels don't fit, or a label is not among the classes.

        >>> report = ConfusionReport.from_predictions([0, 0, 1, 1], [0, 1, 1, 1], ["cat", "dog"])
        >>> report.counts
        ((1, 1), (0, 2))
        """
        true, predicted = _as_array(y_true, "y_true"), _as_array(y_pred, "y_pred")
        if class_names is not None:
            class_names = list(class_names)  # may be an array, such as a classifier's classes_
        if predicted.ndim == 2:
            if class_names is None:
                class_names = [str(label) for label in range(predicted.shape[1])]
            elif len(class_names) != predicted.shape[1]:
                raise DataError(
                    f"y_pred has {predicted.shape[1]} columns but there are {len(class_names)} "
                    "class names"
                )
            if predicted.dtype.kind == "f" and np.isnan(predicted).any():
                raise DataError("y_pred holds NaN, of which no largest score can be told")
            predicted = predicted.argmax(axis=1)
            if _are_numbers(class_names):
                predicted = np.asarray(class_names)[predicted]
        if true.ndim != 1 or predicted.shape != true.shape:
            raise DataError(
                f"y_true {true.shape} and y_pred {predicted.shape} must hold one label an image; "
                "of one-hot labels take argmax(axis=1) first"
            )
        if not len(true) and class_names is None:
            raise DataError("y_true and y_pred hold no labels")
        kinds = {true.dtype.kind, predicted.dtype.kind}
        if class_names is None and len(kinds) > 1 and kinds & set("US"):
            raise DataError(
                f"y_true holds {true.dtype} and y_pred {predicted.dtype}; give names in both, "
                "numbers in both, or class_names"
            )
        if class_names is None and true.dtype.kind in "US":
            class_names = sorted({*true.tolist(), *predicted.tolist()})
        true, predicted = (_as_indices(values, class_names) for values in (true, predicted))
        if class_names is None:
            largest = max(true.max(initial=-1), predicted.max(initial=-1))
            if largest >= MAX_CLASSES:
                raise DataError(
                    f"the largest label is {largest}, which would make {largest + 1:,} classes; "
                    "labels are the classes' numbers, 0, 1, 2 …: give other identifiers as text"
                )
            class_names = [str(label) for label in range(largest + 1)]
        size = len(class_names)
        for values, name in ((true, "y_true"), (predicted, "y_pred")):
            if len(values) and (values.min() < 0 or values.max() >= size):
                raise DataError(
                    f"{name} holds label {values.min() if values.min() < 0 else values.max()}, "
                    f"but the {size} classes are numbered 0 … {size - 1}"
                )
        matrix = np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)
        return cls(
            tuple(tuple(row) for row in matrix.tolist()), tuple(str(name) for name in class_names)
        )

    @property
    def matrix(self) -> NDArray[np.int64]:
        """The counts as int64 (K, K), rows = true, columns = predicted."""
        return np.array(self.counts, np.int64).reshape(len(self.class_names), -1)

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each true class, int64 (K,)."""
        return np.asarray(self.matrix.sum(axis=1))

    @property
    def total(self) -> int:
        """All images."""
        return int(self.matrix.sum())

    @property
    def errors(self) -> int:
        """Images that were predicted wrongly."""
        return int(self.matrix.sum() - np.trace(self.matrix))

    @property
    def accuracy(self) -> float:
        """Share of the images predicted rightly; 0 without images."""
        return float(np.trace(self.matrix) / self.total) if self.total else 0.0

    @property
    def recall(self) -> tuple[float | None, ...]:
        """For each class the share of its images predicted rightly; None without images."""
        return tuple(
            int(row[label]) / int(row.sum()) if row.sum() else None
            for label, row in enumerate(self.matrix)
        )

    def pair(self, first: int, second: int) -> ConfusedPair:
        """The confusions between two classes, in either order of naming.

        Raises:
            UsageError: no such class, or twice the same.
        """
        size = len(self.class_names)
        if not (0 <= first < size and 0 <= second < size) or first == second:
            raise UsageError(
                f"a pair is of two of the {size} classes 0 … {size - 1}, not {first} and {second}"
            )
        return self._pairs([(min(first, second), max(first, second))])[0]

    def _pairs(self, places: Iterable[tuple[int, int]]) -> list[ConfusedPair]:
        # made once for all: with many classes that is what takes time
        matrix, support = self.matrix, self.support
        errors = int(matrix.sum() - np.trace(matrix))
        pairs = []
        for first, second in places:
            forth, back = int(matrix[first, second]), int(matrix[second, first])
            images = int(support[first] + support[second])
            pairs.append(
                ConfusedPair(
                    first,
                    second,
                    forth,
                    back,
                    rate=(forth + back) / images if images else 0.0,
                    ci95=wilson_interval(forth + back, images),
                    share=(forth + back) / errors if errors else 0.0,
                    share_ci95=wilson_interval(forth + back, errors),
                )
            )
        return pairs

    def __str__(self) -> str:
        """Errors and most confused pairs in a sentence.

        >>> print(ConfusionReport.from_predictions([0, 0, 1, 1], [1, 0, 1, 1], ["cat", "dog"]))
        1 of 4 images mislabelled; most confused: cat – dog (1)
        """
        names = self.class_names
        pairs = ", ".join(
            f"{names[pair.first]} – {names[pair.second]} ({pair.count})"
            for pair in self.most_confused(MOST_NAMED)
        )
        text = f"{self.errors:,} of {int(self.support.sum()):,} images mislabelled"
        return f"{text}; most confused: {pairs}" if pairs else text

    def most_confused(self, k: int | None = None) -> list[ConfusedPair]:
        """The pairs of classes with any confusion, most confused images first.

        Ties are ordered by class index, so the list is the same on every machine.

        Args:
            k: how many pairs at the most; all by default.
        """
        matrix = self.matrix
        both = np.triu(matrix + matrix.T, 1)
        firsts, seconds = both.nonzero()  # by class index
        order = np.argsort(-both[firsts, seconds], kind="stable")[:k]
        return self._pairs(zip(firsts[order].tolist(), seconds[order].tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "class_names": list(self.class_names),
            "counts": [list(row) for row in self.counts],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> ConfusionReport:
        """The inverse of `to_dict`."""
        return cls(tuple(tuple(row) for row in value["counts"]), tuple(value["class_names"]))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    # written out, since scipy.stats takes as much memory as all the images
    z2 = NormalDist().inv_cdf(0.975) ** 2
    centre = (2 * successes + z2) / (2 * (trials + z2))
    spread = 4 * successes * (trials - successes) / trials + z2
    half = (z2 * spread) ** 0.5 / (2 * (trials + z2))
    # not left to rounding
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return float(low), float(high)


def class_index(name: int | str, class_names: Sequence[str]) -> int:
    """Index of a class given by name or by number; of text, names first.

    Raises:
        UsageError: no such class.
    """
    # a number is an index, even if a class has it as its name
    if isinstance(name, str) and name in class_names:
        return list(class_names).index(name)
    name = str(name)
    if name.isascii() and name.isdigit() and int(name) < len(class_names):
        return int(name)
    raise UsageError(
        f"unknown class {name!r}; the classes are "
        + ", ".join(f"{index} ({known})" for index, known in enumerate(class_names[:20]))
    )


def _as_array(values: Any, name: str) -> NDArray[Any]:
    if hasattr(values, "detach"):
        # torch lets no array be made of a tensor that wants gradients or lies on a GPU, nor of bf16
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:  # such as batches of unlike lengths
        raise DataError(f"{name} is no array of labels or scores: {error}") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    # pandas hands out its strings as objects
    names = array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat)
    return array.astype(str) if names else array


def _as_indices(values: NDArray[Any], class_names: Sequence[str] | None) -> NDArray[np.int64]:
    if values.dtype.kind in "US":
        return _look_up(values, class_names or ())
    whole = values.dtype.kind == "f" and bool(
        (np.isfinite(values) & (values == np.floor(values))).all()
    )
    if values.size and values.dtype.kind not in "iub" and not whole:
        raise DataError(f"labels must be whole numbers or names, not {values.dtype}")
    indices = values.astype(np.int64)
    return _look_up(indices, class_names) if class_names and _are_numbers(class_names) else indices


def _are_numbers(class_names: Sequence[Any]) -> bool:
    return all(isinstance(name, int | np.integer) for name in class_names)


def _look_up(values: NDArray[Any], class_names: Sequence[Any]) -> NDArray[np.int64]:
    lookup = {name: index for index, name in enumerate(class_names)}
    unknown = sorted(set(values.tolist()) - set(lookup))
    if unknown:
        raise DataError(f"label {unknown[0]!r} is not among the class names")
    return np.array([lookup[value] for value in values.tolist()], np.int64)
