"""Is one arm better than another? Paired by image and by seed, and honest about few runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmnist_aug.errors import UsageError

Verdict = Literal["better", "worse", "no evidence"]
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Contrast:
    """The difference between two arms and how far it can be believed.

    Attributes:
        difference: mean accuracy of a minus that of b, as a fraction (0.01 = 1 point).
        ci95: 95 % confidence interval of the difference; unbounded for one run (−1, 1).
        p_value: two-sided, of the hypothesis that the arms are equally good.
        verdict: whether a is better or worse than b, or there is no evidence for either.
        standard_error: of the difference.
        degrees_of_freedom: of the t distribution that was used.
        minimum_detectable_difference: the true difference that such a comparison would find
            with 80 % probability; None for one run.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float
    verdict: Verdict
    standard_error: float | None
    degrees_of_freedom: float | None
    minimum_detectable_difference: float | None


def contrast(correct_a: ArrayLike, correct_b: ArrayLike) -> Contrast:
    """Compare two arms on the same images with the same seeds.

    What varies is which images happened to be in the test set *and* which seeds were run, so
    both count: the differences d[r, i] (run r, image i) are taken as a two-way random-effects
    table, in which the variance of the grand mean is var(run means) / R + var(image means) / N −
    residual / (R N), since each of the first two holds the residual once (Satterthwaite,
    Biometrics Bulletin 2, 1946, for its degrees of freedom; the same model as Dietterich's
    "variation due to test set and training", Neural Computation 10, 1998). With R = 3 the run
    part has two degrees of freedom only, and the interval is as wide as that deserves.

    Args:
        correct_a: bool (runs, images), whether arm a was right; row r has the seed of row r of b.
        correct_b: bool (runs, images), likewise for b.

    Raises:
        UsageError: the arrays are not of one shape (runs, images), or are empty.

    >>> a = np.ones((3, 1000), bool); b = a.copy(); b[:, :300] = False
    >>> contrast(a, b).verdict
    'better'
    """
    a, b = (np.asarray(values, bool) for values in (correct_a, correct_b))
    if a.ndim != 2 or a.shape != b.shape or 0 in a.shape:
        raise UsageError(
            f"two arrays of one shape (runs, images) are needed, not {a.shape} and {b.shape}"
        )
    differences = a.astype(np.float64) - b
    mean = float(differences.mean())
    if len(a) == 1:  # a single run says nothing about how much runs vary
        return Contrast(mean, (-1.0, 1.0), 1.0, "no evidence", None, None, None)
    error, freedom = _standard_error(differences)
    return _judge(mean, error, freedom)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % t interval of the mean of a few runs' figures; None for fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    array = np.asarray(values, np.float64)
    half = float(t.ppf((1 + LEVEL) / 2, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5)
    return float(array.mean()) - half, float(array.mean()) + half


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Scand. J. Statist. 6, 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return [float(value) for value in adjusted]


def _standard_error(differences: NDArray[np.float64]) -> tuple[float, float]:
    runs, images = differences.shape
    run_means, image_means = differences.mean(axis=1), differences.mean(axis=0)
    run_part = float(run_means.var(ddof=1)) / runs
    image_part = float(image_means.var(ddof=1)) / images if images > 1 else 0.0
    residuals = differences - run_means[:, None] - image_means + differences.mean()
    freedom = max((runs - 1) * (images - 1), 1)
    residual_part = float((residuals**2).sum()) / freedom / (runs * images)
    # neither part can truly be below the residual's share; chance estimates of it can
    run_part = max(run_part, residual_part)
    image_excess = max(image_part - residual_part, 0.0)
    total = run_part + image_excess
    if total <= 0:
        return 0.0, runs - 1.0
    satterthwaite = total**2 / (run_part**2 / (runs - 1) + image_excess**2 / max(images - 1, 1))
    return total**0.5, satterthwaite


def _judge(mean: float, error: float, freedom: float) -> Contrast:
    from scipy.stats import t

    if error == 0:  # all runs agree on all images, or differ on all images alike
        p_value = 1.0 if mean == 0 else 0.0
    else:
        p_value = float(2 * t.sf(abs(mean) / error, freedom))
    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    verdict: Verdict = "no evidence"
    if p_value < 1 - LEVEL:
        verdict = "better" if mean > 0 else "worse"
    return Contrast(
        difference=mean,
        ci95=(max(mean - half, -1.0), min(mean + half, 1.0)),
        p_value=p_value,
        verdict=verdict,
        standard_error=error,
        degrees_of_freedom=freedom,
        minimum_detectable_difference=half + float(t.ppf(POWER, freedom)) * error,
    )
