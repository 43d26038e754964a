import dataclasses

import numpy as np
import pytest

from fmnist_aug import AugmentationSampler, ConfusionPlan, ConfusionReport
from fmnist_aug.augment import get_policy
from fmnist_aug.comparison import ARMS, arm_treatment, resolve_config
from fmnist_aug.comparison.arms import CONTRASTS, DEFAULT_ARMS
from fmnist_aug.errors import UsageError
from fmnist_aug.plan import MAX_EXTRA_DRAWS

COUNTS = [100, 80, 120, 60, 100, 0, 90, 100, 100, 100]


def make_plan(**changes):
    counts = np.diag([90] * 10)
    counts[0, 6], counts[6, 0], counts[2, 6] = 12, 8, 10
    names = [f"class {label}" for label in range(10)]
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), tuple(names))
    plan = ConfusionPlan.from_report(report, "0:6,2:6", policy="erasing")
    return dataclasses.replace(plan, **changes)


def treatment(arm, seed=0, **changes):
    return arm_treatment(arm, make_plan(**changes), get_policy("flip"), COUNTS, seed)


def total(plan):
    return sum(draws * count for draws, count in zip(plan.extra_draws, COUNTS, strict=True))


def test_every_contrast_is_of_known_arms_and_the_default_arms_are_the_three_of_old():
    assert {arm for pair in CONTRASTS for arm in pair} == set(ARMS)
    assert set(DEFAULT_ARMS) == {"baseline", "uniform", "targeted"}
    with pytest.raises(UsageError, match="unknown arm"):
        treatment("nope")


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in ("baseline", "augment-only")])
def test_arms_with_extra_draws_have_as_many(arm):
    base, plan = treatment(arm)
    assert base == get_policy("flip")
    assert total(plan) == pytest.approx(total(make_plan()), abs=5)  # whole draws a class


def test_sampler_only_draws_as_targeted_but_augments_as_the_base():
    _, plan = treatment("sampler-only")
    assert plan == dataclasses.replace(make_plan(), policy="none")


def test_hard_only_draws_as_uniform_and_skips_easy_draws_as_targeted():
    _, plan = treatment("hard-only", image_weights="1" * 850, excluded=(3,), refresh_every=2)
    assert plan == dataclasses.replace(treatment("uniform")[1], keep=make_plan().keep)
    assert plan.keep < 1 == treatment("uniform")[1].keep


def test_hard_only_is_refused_where_it_would_be_uniform_again():
    with pytest.raises(UsageError, match="preset strong-cpu trains on all draws"):
        resolve_config(preset="strong-cpu", arms=["uniform", "hard-only"])
    with pytest.raises(UsageError, match="plan trains on all draws"):
        resolve_config(preset="fast", arms=["hard-only"], plan=make_plan(keep=1.0))
    assert resolve_config(preset="strong", arms=["hard-only"], plan=make_plan()).plan


def test_random_classes_are_others_chosen_by_the_seed_that_keep_the_plans_shape():
    planned = make_plan()
    seen = set()
    for seed in range(30):
        _, plan = treatment("random-classes", seed, image_weights="1" * 850, excluded=(3,))
        assert plan == treatment("random-classes", seed)[1]
        assert len(plan.classes) == len(planned.classes)
        assert not set(plan.classes) & set(planned.classes)
        assert 5 not in plan.classes, "it has no images"
        extras = sorted(plan.extra_draws[label] * COUNTS[label] for label in plan.classes)
        expected = sorted(planned.extra_draws[label] * COUNTS[label] for label in planned.classes)
        assert extras == pytest.approx(expected)
        assert (plan.image_weights, plan.excluded) == ("", ())
        seen.add(plan.classes)
    assert len(seen) > 5


def test_random_classes_take_planned_ones_only_where_others_are_too_few():
    report = ConfusionReport(((5, 3, 0), (2, 6, 0), (0, 0, 9)), ("a", "b", "c"))
    plan = ConfusionPlan.from_report(report, "a:b")
    for seed in range(5):
        _, moved = arm_treatment("random-classes", plan, get_policy("none"), [8, 8, 9], seed)
        assert 2 in moved.classes
        assert len(moved.classes) == 2
    nothing = ConfusionPlan.empty(("a", "b"))
    assert arm_treatment("random-classes", nothing, get_policy("none"), [3, 3])[1] == nothing


def test_random_classes_of_very_few_images_take_what_they_can_and_the_others_the_rest():
    report = ConfusionReport.from_predictions([0] * 9 + [1] * 9, [0] * 8 + [1] * 10, list("abcd"))
    plan = ConfusionPlan.from_report(report, "a:b")
    assert plan.extra_draws == (0.5, 0.5, 0.0, 0.0)
    for seed in range(5):
        _, moved = arm_treatment(
            "random-classes", plan, get_policy("none"), [6000, 6000, 2, 2], seed
        )
        assert moved.classes == (2, 3)
        assert moved.extra_draws == pytest.approx((1 / 6, 1 / 6, MAX_EXTRA_DRAWS, MAX_EXTRA_DRAWS))
        # not even the others can take it all here
        _, moved = arm_treatment(
            "random-classes", plan, get_policy("none"), [60_000, 2, 2, 0], seed
        )
        assert MAX_EXTRA_DRAWS in moved.extra_draws


def test_augment_only_changes_regular_draws_of_the_planned_classes_only():
    _, plan = treatment("augment-only")
    labels = np.repeat(np.arange(10), COUNTS)
    sampler = AugmentationSampler(labels, plan)
    indices, copies = sampler.epoch_draws(0)
    assert len(sampler) == len(labels)
    assert sorted(indices.tolist()) == list(range(len(labels))), "each image once, nothing on top"
    share = np.bincount(labels[indices], weights=copies, minlength=10) / np.maximum(COUNTS, 1)
    for label in range(10):
        draws = make_plan().extra_draws[label] if label in plan.classes else 0.0
        assert share[label] == pytest.approx(draws / (1 + draws), abs=0.01)
    other = sampler.epoch_draws(1)
    assert set(indices[copies > 0]) != set(other[0][other[1] > 0])
