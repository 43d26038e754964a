"""What a training draws: extras as the plan's schedule says, mirrored in turns, mixed as asked."""

import dataclasses

import numpy as np
import pytest
import torch

from fmnist_aug import ConfusionPlan, load_dataset
from fmnist_aug.augment import get_policy
from fmnist_aug.comparison import arm_treatment
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.training.batches import Batches, make_draws
from fmnist_aug.training.engine import _header
from trainings.short import SHORT


def make_batches(garments, plan, base, sizes, batch_size=50, all_until=0):
    draws = make_draws(garments, plan, 0, sizes, [], lambda images: np.zeros(len(images)))
    return Batches(
        garments,
        draws,
        batch_size,
        get_policy(base),
        get_policy(plan.policy),
        0,
        _header(garments, SHORT, get_policy(base)),
        torch.device("cpu"),
        all_until=all_until,
    )


@pytest.mark.parametrize("epochs", [2.5, 4, 11])
def test_arms_get_the_same_share_of_extras_in_the_same_part_of_the_training(epochs):
    data = load_dataset("fashion-mnist", "train").subset(np.arange(6000))
    draws = tuple(0.5 if label in (0, 6) else 0.0 for label in range(10))
    plan = ConfusionPlan(data.class_names, (), draws, "photometric", "made for a test", keep=0.5)
    plan = dataclasses.replace(plan, start=0.5, stop=0.9)
    shares = []
    for arm in ("uniform", "targeted"):
        _, treated = arm_treatment(arm, plan, get_policy("flip"), np.bincount(data.labels).tolist())
        sizes = [round(50 / treated.keep)] * round(epochs * 6000 / 50)
        stream = make_batches(data, treated, "flip", sizes).draws(0, len(sizes))
        extra = np.array([int((numbers[1] > 0).sum()) for numbers, _ in stream])
        shares.append(extra.sum() / sum(sizes))
        first, *_, last = np.flatnonzero(extra) / len(sizes)
        assert (first, last) == pytest.approx((0.5, 0.9), abs=0.03)
    assert shares[0] == pytest.approx(shares[1], rel=0.05)
    # half as many again of two classes, in two fifths of the training
    extras = 0.4 * 0.5 * np.isin(data.labels, (0, 6)).mean()
    assert shares[0] == pytest.approx(extras / (1 + extras), rel=0.05)


def test_an_image_is_mirrored_in_turns_however_it_is_drawn_and_chosen(garments):
    draws = (1.0,) * 10
    plan = ConfusionPlan(garments.class_names, (), draws, "none", "made for a test", keep=0.5)
    batches = make_batches(garments, plan, "flip", [100] * 100)
    generator = torch.Generator().manual_seed(0)
    hard = torch.rand(len(garments), generator=generator)
    mirrored = batches.normalise(batches.images.flip(3))
    last: dict[int, bool] = {}
    turned = []
    for numbers, decoded in batches.draws(0, 100):
        images, _, indices = batches.make(numbers, decoded)
        for image, index in zip(images, indices.tolist(), strict=True):
            side = torch.equal(image, mirrored[index])
            if index in last:
                turned.append(side != last[index])
            last[index] = side
        noise = 0.3 * torch.rand(len(indices), generator=generator)
        batches.hard.record(indices, hard[indices] + noise)
    # but for those that are drawn twice in a batch
    assert np.mean(turned) > 0.9


def test_weaker_extras_are_not_mixed_though_the_regular_draws_are(garments):
    draws = (1.0,) * 10
    plan = ConfusionPlan(garments.class_names, (), draws, "weaker", "made for a test")
    batches = make_batches(garments, plan, "erasing-mix", [100] * 10, batch_size=100)
    copies, mixed = [], []
    for numbers, decoded in batches.draws(0, 10):
        _, targets, _ = batches.make(numbers, decoded)
        copies.append(numbers[1])
        mixed.append(targets.amax(dim=1) < 1)
    extra, soft = torch.cat(copies) > 0, torch.cat(mixed)
    assert not soft[extra].any()
    assert 0.35 < soft[~extra].float().mean() < 0.65


def test_a_mixture_tells_nothing_of_how_hard_an_image_is():
    hard = HardExamples(4, torch.device("cpu"))
    nothing = -torch.inf
    hard.record(torch.tensor([0, 1, 1, 2]), torch.tensor([0.5, 0.2, nothing, nothing]))
    assert hard.losses.tolist() == pytest.approx([0.5, 0.2, torch.inf, torch.inf])
    hard.record(torch.tensor([0, 1]), torch.tensor([nothing, 0.1]))
    assert hard.losses[:2].tolist() == pytest.approx([0.5, 0.1])
    assert hard.visits.tolist() == [2, 2, 1, 0]
