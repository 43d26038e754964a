import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist_aug.comparison import contrast
from fmnist_aug.errors import UsageError
from fmnist_aug.statistics import holm, mean_interval


def simulate(rng, difference, *, crossed=False, runs=3, images=2000):
    """Two arms whose runs vary by 0.15 points and whose images have their own difficulty."""
    easy = rng.beta(0.47, 0.03, images)  # 94 % right on average, two runs disagree on 4 %
    chance_a, chance_b = easy.copy(), easy.copy()
    if crossed:  # a tenth of the images is easier for one, a tenth for the other
        tenth = rng.permutation(images)
        for chance, sign in ((chance_a, 1), (chance_b, -1)):
            chance[tenth[: images // 10]] = 0.6 + 0.2 * sign
            chance[tenth[images // 10 : images // 5]] = 0.6 - 0.2 * sign
    # the difference is made where there is room for it
    room = 1 - chance_a
    chance_a = chance_a + difference * room / room.mean()
    return tuple(
        np.stack([rng.random(images) < chance + rng.normal(0, 0.0015) for _ in range(runs)])
        for chance in (chance_a, chance_b)
    )


@pytest.mark.parametrize("crossed", [False, True])
def test_equal_arms_are_hardly_ever_called_different(crossed):
    rng = np.random.default_rng(0)
    found = [contrast(*simulate(rng, 0.0, crossed=crossed)) for _ in range(400)]
    assert sum(item.verdict != "no evidence" for item in found) <= 0.07 * 400
    covered = sum(item.ci95[0] <= 0 <= item.ci95[1] for item in found)
    assert covered >= 0.93 * 400


@pytest.mark.parametrize("crossed", [False, True])
def test_a_difference_of_one_and_a_half_points_is_found(crossed):
    rng = np.random.default_rng(1)
    found = [contrast(*simulate(rng, 0.015, crossed=crossed, images=10_000)) for _ in range(100)]
    assert sum(item.verdict == "better" for item in found) >= 90


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


def test_equal_predictions_are_no_difference():
    same = np.random.default_rng(0).random((3, 50)) < 0.9
    found = contrast(same, same)
    assert (found.difference, found.p_value, found.verdict) == (0.0, 1.0, "no evidence")


@pytest.mark.parametrize("shapes", [((3, 5), (3, 6)), ((5,), (5,)), ((0, 5), (0, 5))])
def test_arrays_that_do_not_pair_are_refused(shapes):
    with pytest.raises(UsageError, match="one shape"):
        contrast(*(np.zeros(shape) for shape in shapes))


def test_holm_and_the_mean_interval_give_textbook_values():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert mean_interval([1.0]) is None
