import dataclasses

import numpy as np
import pytest

from fmnist_aug import ConfusionPlan, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.augment.mixing import Partners
from fmnist_aug.comparison.samples import augmented_samples, policy_samples
from fmnist_aug.errors import DataError


@pytest.fixture(scope="module")
def train():
    return load_dataset("fashion-mnist", "train").subset(np.arange(200))


def plan_with(train, policy):
    return ConfusionPlan(train.class_names, (), (0.5,) * 10, policy, "made for a test")


def test_each_augmentation_is_shown_alone_and_then_all_together(train):
    found = augmented_samples(train, plan_with(train, "buttons"), [0, 6], copies=4)
    captions = [caption for caption, _ in found]
    assert len(found) == 2 * 5
    assert captions[0].startswith("T-shirt/top, all draws: mirror")
    assert captions[1:3] == ["T-shirt/top, affine alone", "T-shirt/top, brightness contrast alone"]
    assert captions[3] == "T-shirt/top, sharpen alone"
    assert captions[4].startswith("T-shirt/top, extra draws: mirror")
    assert captions[5].startswith("Shirt, ")
    for _, stack in found:
        assert stack.shape == (5, 28, 28, 1)
        assert stack.dtype == np.uint8
    original = train.images[np.flatnonzero(train.labels == 0)[0]]
    mirrored = [original, original[:, ::-1]]
    for image in found[0][1]:
        assert any(np.array_equal(image, one) for one in mirrored)
    assert all(np.array_equal(stack[0], original) for _, stack in found[:5])
    assert not np.array_equal(found[2][1][1], original)


def test_a_policy_of_one_operation_is_not_shown_twice(train):
    found = augmented_samples(train, plan_with(train, "photometric"), [3])
    assert [caption.split(": ")[0] for caption, _ in found] == [
        "Dress, all draws",
        "Dress, extra draws",
    ]


def test_without_extra_draws_none_are_shown(train):
    plan = dataclasses.replace(plan_with(train, "buttons"), extra_draws=(0.0,) * 10)
    captions = [caption for caption, _ in augmented_samples(train, plan, [0, 6])]
    assert [caption.split(": ")[0] for caption in captions] == [
        "T-shirt/top, all draws",
        "Shirt, all draws",
    ]


def test_of_a_single_class_nothing_is_mixed():
    garments = load_dataset("fashion-mnist", "train")
    shirts = garments.subset(np.flatnonzero(garments.labels == 6)[:5])
    chosen = [get_policy(name) for name in ("mix-away", "photometric")]
    assert [policy.name for policy, _ in policy_samples(shirts, chosen, [6])] == ["photometric"]
    with pytest.raises(DataError, match="one class only"):
        policy_samples(shirts, chosen[:1], [6])
    with pytest.raises(DataError, match="several classes"):
        Partners(shirts.labels, 10, [], "any")
