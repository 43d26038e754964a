import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist_aug.comparison import contrast
from fmnist_aug.comparison.results import contrast_figures
from fmnist_aug.errors import UsageError
from fmnist_aug.statistics import holm, mean_interval

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from verdict_calibration import SCENARIOS, Scenario, calibrate, simulate


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("equal", images=2000),
        Scenario("different images", images=2000, crossed=True),
        Scenario("few runs", runs=2, images=1000, crossed=True),
        Scenario("many runs", runs=12, images=500),
        Scenario("few errors", images=300, accuracy=0.997),
        Scenario("shared seeds", runs=12, images=500, run_std=0.02, shared=True),
        Scenario("one arm varies", images=2000, run_std_a=0.01),
    ],
    ids=lambda scenario: scenario.name,
)
def test_equal_arms_are_hardly_ever_called_different(scenario):
    found = calibrate(scenario, 200)
    assert found.false <= 0.07
    assert found.covered >= 0.93


@pytest.mark.parametrize("crossed", [False, True])
def test_a_difference_of_one_and_a_half_points_is_found(crossed):
    found = calibrate(Scenario("three runs", crossed=crossed), 40)
    assert found.found >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_verdict_is_calibrated(scenario):
    found = calibrate(scenario, 400)
    assert found.false <= 0.07
    assert found.covered >= 0.93
    if scenario.runs >= 3 and scenario.images >= 10_000 and scenario.accuracy == 0.94:
        assert found.found >= 0.9


def test_pairs_of_seeds_that_vary_together_sharpen_the_interval_of_many_runs():
    rng = np.random.default_rng(0)
    a, b = simulate(Scenario("", runs=20, run_std=0.02, shared=True), 0.0, rng)
    paired, unpaired = contrast(a, b), contrast(a, b[rng.permutation(20)])
    assert paired.standard_error < 0.7 * unpaired.standard_error


def test_runs_that_vary_exactly_against_each_other_are_compared():
    # four runs of three images, of which as many are right as stands there
    a, b = (np.arange(3) < np.array(right)[:, None] for right in ([0, 1, 2, 3], [3, 2, 1, 0]))
    found = contrast(a, b)
    assert (found.difference, found.verdict) == (0.0, "no evidence")


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 40))
def test_contrasts_are_antisymmetric_and_consistent(seed, runs, images):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, runs, images)) < 0.7
    forth, back = contrast(a, b), contrast(b, a)
    assert forth.difference == -back.difference
    assert forth.difference == pytest.approx(a.mean() - b.mean())
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.ci95[0] <= forth.difference <= forth.ci95[1]
    assert 0 <= forth.p_value <= 1
    significant = forth.p_value < 0.05
    assert significant == (forth.verdict != "no evidence")
    if 0 < forth.p_value < 1:
        assert significant == (not forth.ci95[0] <= 0 <= forth.ci95[1])


def test_one_run_is_no_evidence():
    found = contrast(np.ones((1, 100)), np.zeros((1, 100)))
    assert (found.difference, found.verdict, found.ci95) == (1.0, "no evidence", (-1.0, 1.0))


def test_one_image_or_a_few_that_agree_are_no_evidence():
    for images in (1, 2):
        shape = 3, images
        assert contrast(np.ones(shape), np.zeros(shape)).verdict == "no evidence"
    assert contrast(np.ones((3, 10)), np.zeros((3, 10))).verdict == "better"


def test_intervals_at_other_levels_enclose_each_other():
    a, b = np.random.default_rng(0).random((2, 3, 500)) < 0.8
    found = contrast(a, b)
    assert found.interval(0.95) == pytest.approx(found.ci95)
    wide = found.interval(0.995)
    assert wide[0] < found.ci95[0] < found.ci95[1] < wide[1]
    assert contrast(a[:1], b[:1]).interval(0.5) == (-1.0, 1.0)
    assert found.detectable(0.95) == found.minimum_detectable_difference
    assert found.detectable(0.995) > found.minimum_detectable_difference
    assert contrast(a[:1], b[:1]).detectable(0.5) is None


def test_what_a_comparison_would_have_shown_is_what_its_verdicts_would_have():
    generator = np.random.default_rng(0)
    arms = ("baseline", "uniform", "targeted")
    correct = {arm: generator.random((3, 500)) < 0.8 for arm in arms}
    figures = contrast_figures(correct, np.arange(500) % 2, ["a", "b"])
    for entry in figures:
        by_itself = contrast(correct[entry["a"]], correct[entry["b"]])
        assert entry["minimum_detectable_difference"] == by_itself.detectable(1 - 0.05 / 3)
        assert entry["with_more_runs"] == {
            "runs": 6,
            "minimum_detectable_difference": by_itself.detectable(1 - 0.05 / 3, 6),
            "limit": by_itself.detectable(1 - 0.05 / 3, math.inf),
        }
    single = {arm: right[:1] for arm, right in correct.items()}
    for entry in contrast_figures(single, np.arange(500) % 2, ["a", "b"]):
        assert entry["with_more_runs"] is None
    del correct["uniform"]  # no other contrast is left, so nothing is adjusted
    (entry,) = contrast_figures(correct, np.arange(500) % 2, ["a", "b"])
    by_itself = contrast(correct["targeted"], correct["baseline"])
    assert entry["minimum_detectable_difference"] == by_itself.minimum_detectable_difference


@pytest.mark.parametrize(
    "scenario",
    [Scenario("", runs=6, images=2000), Scenario("", runs=6, images=2000, crossed=True)],
    ids=["varying runs", "varying images"],
)
def test_three_runs_foretell_what_six_would_detect(scenario):
    generator = np.random.default_rng(0)
    told, found, limits = [], [], []
    for _ in range(40):
        a, b = simulate(scenario, 0.0, generator)
        few, all_six = contrast(a[:3], b[:3]), contrast(a, b)
        told.append(few.detectable(0.95, 6))
        found.append(all_six.detectable(0.95))
        limits.append(few.detectable(0.95, math.inf))
        assert limits[-1] < told[-1] < few.detectable(0.95)
        assert few.detectable(0.95, 3) == few.detectable(0.95)
    assert np.mean(told) == pytest.approx(np.mean(found), rel=0.1)
    # more runs make up for runs that vary, not for images
    assert (np.mean(limits) > 0.5 * np.mean(found)) == scenario.crossed


def test_no_number_of_runs_is_foretold_from_one_or_for_one():
    a, b = np.random.default_rng(0).random((2, 3, 500)) < 0.8
    assert contrast(a[:1], b[:1]).detectable(0.95, 6) is None
    with pytest.raises(UsageError, match="two runs or more are needed, not 1"):
        contrast(a, b).detectable(0.95, 1)
    same = contrast(a, a)
    assert 0 < same.detectable(0.95, math.inf) <= same.detectable(0.95)


def test_equal_predictions_are_no_difference():
    same = np.random.default_rng(0).random((3, 50)) < 0.9
    found = contrast(same, same)
    assert (found.difference, found.p_value, found.verdict) == (0.0, 1.0, "no evidence")


@pytest.mark.parametrize("shapes", [((3, 5), (3, 6)), ((5,), (5,)), ((0, 5), (0, 5))])
def test_arrays_that_do_not_pair_are_refused(shapes):
    with pytest.raises(UsageError, match="one shape"):
        contrast(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    "values",
    [
        np.tile(np.arange(5), (3, 1)),  # labels
        np.full((3, 5), np.nan),
        np.full((3, 5), "True"),
        np.full((3, 5), None),
        [[True, False], [True]],
    ],
    ids=["labels", "nan", "words", "none", "ragged"],
)
def test_what_is_neither_right_nor_wrong_is_refused(values):
    right = np.ones((3, 5), bool)
    for pair in ((values, right), (right, values)):
        with pytest.raises(UsageError):
            contrast(*pair)
    assert contrast(right.astype(float), right.tolist()) == contrast(right, right)


def test_holm_and_the_mean_interval_give_textbook_values():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert mean_interval([1.0]) is None
