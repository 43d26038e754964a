"""Is one arm better than another? Paired by image and by seed, and honest about few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmnist_aug.errors import UsageError

Verdict = Literal["better", "worse", "no evidence"]
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Spread:
    """Why a difference between two arms would come out otherwise another time.

    Attributes:
        run_part: variance of the difference that comes from how the runs turned out.
        run_freedom: degrees of freedom of ``run_part``.
        image_part: variance that comes from which images happen to be in the test set.
        runs: of each arm.
        images: in the test set.
    """

    run_part: float
    run_freedom: float
    image_part: float
    runs: float
    images: int

    @property
    def standard_error(self) -> float:
        """Of the difference."""
        return math.sqrt(self.run_part + self.image_part)

    @property
    def degrees_of_freedom(self) -> float:
        """Of the t distribution of the difference (Satterthwaite)."""
        total = self.run_part + self.image_part
        if not total:
            return self.images - 1.0
        parts = self.run_part**2 / self.run_freedom + self.image_part**2 / (self.images - 1)
        return total**2 / parts

    def with_runs(self, runs: float) -> Spread:
        """As it would be, as far as these runs can tell, with so many of each arm (or ``inf``).

        Raises:
            UsageError: fewer than two, which tell nothing of how much runs differ.
        """
        if not runs >= 2:
            raise UsageError(f"two runs or more are needed, not {runs}")
        freedom = self.run_freedom * (runs - 1) / (self.runs - 1)
        return replace(
            self, run_part=self.run_part * self.runs / runs, run_freedom=freedom, runs=runs
        )


@dataclass(frozen=True)
class Contrast:
    """The difference between two arms and how far it can be believed.

    Attributes:
        difference: mean accuracy of a minus that of b, as a fraction (0.01 = 1 point).
        ci95: 95 % confidence interval of the difference; unbounded for one run (−1, 1).
        p_value: two-sided, of the hypothesis that the arms are equally good.
        verdict: whether a is better or worse than b, or there is no evidence for either.
        spread: what the uncertainty consists of; None for one run.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float
    verdict: Verdict
    spread: Spread | None

    @property
    def standard_error(self) -> float | None:
        """Of the difference; None for one run."""
        return None if self.spread is None else self.spread.standard_error

    @property
    def degrees_of_freedom(self) -> float | None:
        """Of the t distribution that was used; None for one run."""
        return None if self.spread is None else self.spread.degrees_of_freedom

    @property
    def minimum_detectable_difference(self) -> float | None:
        """The true difference that would be found with 80 % probability; None for one run.

        With few degrees of freedom it is found a little less often: with 2 in 77 %.
        """
        return self.detectable(LEVEL)

    def interval(self, level: float) -> tuple[float, float]:
        """Confidence interval of the difference at another level than 95 %.

        Args:
            level: between 0 and 1; 1 − 0.05 / K for one of K intervals that shall all be right
                with 95 % probability (Bonferroni).
        """
        from scipy.stats import t

        if self.standard_error is None:
            return -1.0, 1.0
        half = float(t.ppf((1 + level) / 2, self.degrees_of_freedom)) * self.standard_error
        return max(self.difference - half, -1.0), min(self.difference + half, 1.0)

    def detectable(self, level: float, runs: float | None = None) -> float | None:
        """`minimum_detectable_difference` at another level than 95 %, or with more runs.

        Args:
            level: between 0 and 1, as for `interval`.
            runs: of each arm, 2 or more, or ``inf``; as many as there are by default. For others
                it is as uncertain as the spread that so few runs show.

        Raises:
            UsageError: fewer than two runs.
        """
        from scipy.stats import t

        if self.spread is None:
            return None
        spread = self.spread if runs is None else self.spread.with_runs(runs)
        freedom = spread.degrees_of_freedom
        sides = t.ppf((1 + level) / 2, freedom) + t.ppf(POWER, freedom)
        return min(float(sides) * spread.standard_error, 1.0)  # more there can't be


def contrast(correct_a: ArrayLike, correct_b: ArrayLike) -> Contrast:
    """Compare two arms on the same images with the same seeds.

    What varies is which images happened to be in the test set *and* how the runs turned out, so
    both count: the differences d[r, i] (run r, image i) are taken as a two-way random-effects
    table (as in Dietterich's "variation due to test set and training", Neural Computation 10,
    1998), and the variance of their mean is the sum of

    - the run part, (s²a + s²b − 2 c) / R, where s² is the variance of an arm's accuracies over its
      runs, with Welch's degrees of freedom (Biometrika 34, 1947), R − 1 to 2 (R − 1). Runs of one
      seed hardly resemble each other across arms, since any change sends training elsewhere
      (Summers & Dinneen, ICML 2021), so the covariance c of the pairs is credited only with the
      lower 95 % limit of its correlation by Fisher's z, which is 0 for less than four runs. The
      part is at least what images that fall either way by chance give, the residual;
    - the image part, var(image means) / N without the residual's share in it. One image that a
      and one that b alone gets right are added for it, so that few images that all agree are no
      certainty (after Agresti & Min, Statistics in Medicine 24, 2005).

    Satterthwaite (Biometrics Bulletin 2, 1946) gives the degrees of freedom of the sum.
    `examples/verdict_calibration.py` measures how often this errs and what it finds.

    Args:
        correct_a: bool (runs, images), whether arm a was right; row r has the seed of row r of b.
        correct_b: bool (runs, images), likewise for b.

    Raises:
        UsageError: the arrays are not of one shape (runs, images), are empty, or hold anything but
            true and false (1 and 0), as predicted labels would.

    >>> a = np.ones((3, 1000), bool); b = a.copy(); b[:, :300] = False
    >>> contrast(a, b).verdict
    'better'
    """
    a, b = _right_or_wrong(correct_a), _right_or_wrong(correct_b)
    if a.ndim != 2 or a.shape != b.shape or 0 in a.shape:
        raise UsageError(
            f"two arrays of one shape (runs, images) are needed, not {a.shape} and {b.shape}"
        )
    differences = a.astype(np.float64) - b
    mean = float(differences.mean())
    if 1 in a.shape:  # a single run or image says nothing about how much they vary
        return Contrast(mean, (-1.0, 1.0), 1.0, "no evidence", None)
    return _judge(mean, _spread(differences, a.mean(axis=1), b.mean(axis=1)))


def _right_or_wrong(values: ArrayLike) -> NDArray[np.bool_]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of unequal length
        raise UsageError(f"not an array of shape (runs, images): {error}") from error
    if array.dtype == np.bool_:
        return array
    neither = array[~np.isin(array, (0, 1))]
    if neither.size:
        raise UsageError(
            "whether each image was right is needed, true or false, such as predicted == labels, "
            f"not values such as {neither[0]!s}"
        )
    return array.astype(np.bool_)


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


def _spread(
    differences: NDArray[np.float64],
    accuracies_a: NDArray[np.float64],
    accuracies_b: NDArray[np.float64],
) -> Spread:
    runs, images = differences.shape
    run_means, image_means = differences.mean(axis=1), differences.mean(axis=0)
    residuals = differences - run_means[:, None]
    residuals -= image_means - differences.mean()
    residual = float(np.vdot(residuals, residuals)) / ((runs - 1) * (images - 1)) / images
    run_variance, run_freedom = _run_variance(accuracies_a, accuracies_b)
    run_part = max(run_variance, residual) / runs
    squares = float(((image_means - differences.mean()) ** 2).sum()) + 2  # the two added images
    image_part = max(squares / (images + 1) / (images + 2) - residual / runs, 0.0)
    return Spread(run_part, run_freedom, image_part, runs, images)


def _run_variance(
    accuracies_a: NDArray[np.float64], accuracies_b: NDArray[np.float64]
) -> tuple[float, float]:
    """Variance over runs of the difference of two arms' accuracies, and its degrees of freedom."""
    runs = len(accuracies_a)
    variances = np.array([float(values.var(ddof=1)) for values in (accuracies_a, accuracies_b)])
    total = float(variances.sum())
    if total <= 0:
        return 0.0, runs - 1.0
    freedom = (runs - 1) * total**2 / float((variances**2).sum())
    if runs < 4 or variances.min() <= 0:
        return total, freedom
    # a negative one is credited with nothing, and at −1 or 1 Fisher's z has no value
    correlation = float(np.corrcoef(accuracies_a, accuracies_b)[0, 1].clip(0, 1 - 1e-9))
    certain = math.tanh(math.atanh(correlation) - 1.96 / (runs - 3) ** 0.5)
    if certain <= 0:
        return total, freedom
    return total - 2 * certain * float(variances.prod()) ** 0.5, runs - 1.0


def _judge(mean: float, spread: Spread) -> Contrast:
    from scipy.stats import t

    error, freedom = spread.standard_error, spread.degrees_of_freedom
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
        spread=spread,
    )
