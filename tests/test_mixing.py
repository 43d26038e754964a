import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fmnist_aug import AugmentationSampler, AugmentedDataset, ConfusionPlan, ConfusionReport
from fmnist_aug.augment import get_policy
from fmnist_aug.augment.mixing import Partners, mix_images
from fmnist_aug.augment.policies import Mix
from fmnist_aug.augment.random_numbers import draw_keys
from fmnist_aug.data import load_dataset, stratified_slice
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.sampler import AugmentedIndex
from fmnist_aug.training import Hardware, TrainSettings, train_model
from fmnist_aug.training.batches import Batches
from fmnist_aug.training.engine import _header

SETTINGS = TrainSettings(model="fast-cnn", epochs=2, batch_size=50, optimizer="muon")


@pytest.fixture(scope="module")
def garments():
    return stratified_slice(load_dataset("fashion-mnist", "train"), 400)


def make_plan(garments, policy):
    counts = np.diag([90] * 10)
    counts[0, 6] = counts[6, 0] = counts[2, 6] = 10
    report = ConfusionReport(tuple(map(tuple, counts.tolist())), garments.class_names)
    return ConfusionPlan.from_report(report, "0:6,2:6", policy=policy, keep=1.0)


def keys_of(indices, copies=1, epoch=0):
    return draw_keys(0, epoch, indices, torch.full_like(indices, copies))


@pytest.mark.parametrize(
    ("where", "label", "expected"),
    [
        ("within", 6, {0, 2}),
        ("within", 0, {6}),
        ("within", 3, {*range(10)} - {3}),
        ("away", 0, {*range(10)} - {0, 6}),
        ("away", 6, {1, 3, 4, 5, 7, 8, 9}),
        ("away", 3, {*range(10)} - {3}),
        ("any", 6, {*range(10)} - {6}),
    ],
)
def test_partners_are_of_the_classes_that_the_plan_says(garments, where, label, expected):
    partners = Partners(garments.labels, 10, [(0, 6), (2, 6)], where)
    own = torch.from_numpy(np.flatnonzero(garments.labels == label))
    found = torch.cat([partners.choose(keys_of(own, copy), own) for copy in range(1, 30)])
    assert set(garments.labels[found.numpy()].tolist()) == expected


def test_classes_without_images_are_nobodys_partner():
    labels = np.array([0, 0, 2, 2])
    partners = Partners(labels, 3, [(0, 1)], "within")
    indices = torch.arange(4)
    assert labels[partners.choose(keys_of(indices), indices)].tolist() == [2, 2, 0, 0]


def test_the_share_is_that_of_the_partners_pixels():
    black, white = torch.zeros(2000, 1, 28, 28), torch.full((2000, 1, 28, 28), 255.0)
    mixed, share = mix_images(black, white, Mix("within"), keys_of(torch.arange(2000)))
    assert torch.equal(mixed, mixed.round())
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)) / 255, share, atol=0.002)
    assert share.min() >= 0
    assert share.max() <= 0.52
    assert abs(float(share.mean()) - 0.25) < 0.02
    two_values = ((mixed == 0) | (mixed == 255)).all(dim=(1, 2, 3)).float().mean()
    assert 0.45 < two_values < 0.6, "half of them are CutMix"


@pytest.mark.parametrize("policy", ["mix-within", "mix-away", "erasing-mix"])
def test_batches_and_single_images_are_mixed_alike(garments, policy):
    plan = make_plan(garments, policy)
    sampler = AugmentationSampler(garments, plan, seed=1)
    base = get_policy("none")
    header = _header(garments, SETTINGS, base)
    batches = Batches(
        garments, sampler, 100, base, get_policy(policy), 1, header, torch.device("cpu")
    )
    data = AugmentedDataset(garments, plan, seed=1)
    shares = {"batch": [], "image": []}
    for inputs, targets, indices in batches.stream(0, 24):
        assert targets.shape == (100, 10)
        assert torch.allclose(targets.sum(dim=1), torch.ones(100))
        labels = torch.from_numpy(garments.labels)[indices]
        shares["batch"].append(1 - targets[torch.arange(100), labels])
        assert inputs.shape == (100, 1, 28, 28)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        for index in sampler:
            _, target = data[index]
            shares["image"].append(1 - target[garments.labels[index]])
    batched, single = torch.cat(shares["batch"]), torch.stack(shares["image"])
    for found in (batched, single):
        assert 0.03 < (found > 0).float().mean() < 0.4, "regular draws are not mixed"
    means = [float(found[found > 0].mean()) for found in (batched, single)]
    assert abs(means[0] - means[1]) < 0.03
    spreads = [float(found[found > 0].std()) for found in (batched, single)]
    assert abs(spreads[0] - spreads[1]) < 0.03


def test_soft_labels_come_through_a_loader_and_repeat_with_workers(garments):
    plan = make_plan(garments, "mix-within")
    found = []
    for workers in (0, 2):
        sampler = AugmentationSampler(garments, plan, seed=1)
        data = AugmentedDataset(garments, plan, base="flip", seed=1)
        loader = DataLoader(data, batch_size=64, sampler=sampler, num_workers=workers)
        found.append([torch.cat(part) for part in zip(*loader, strict=True)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    images, labels = found[0]
    loss = torch.nn.functional.cross_entropy(images.flatten(1)[:, :10], labels)
    assert torch.isfinite(loss)


def test_mixing_without_a_plan_for_all_draws_or_of_unlike_sizes_is_refused(garments):
    with pytest.raises(UsageError, match="needs the plan"):
        AugmentedDataset(garments, "mix-within")
    with pytest.raises(UsageError, match="needs the plan"):
        AugmentedDataset(garments, base="mix-away")

    class Pictures:
        targets = (0, 1)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((8 + index, 8, 1), np.uint8), index

    names = ("a", "b")
    report = ConfusionReport(((1, 1), (1, 1)), names)
    plan = ConfusionPlan.from_report(report, "a:b", policy="mix-within")
    with pytest.raises(DataError, match="one size"):
        AugmentedDataset(Pictures(), plan)[AugmentedIndex(0, 0, 1)]
    with pytest.raises(DataError, match="labels go up to 9, but the plan knows 2 classes"):
        AugmentedDataset(garments, plan)


@pytest.mark.parametrize("policy", ["mix-within", "weaker"])
def test_training_with_such_policies_learns_and_repeats(garments, policy):
    plan = dataclasses.replace(make_plan(garments, policy), keep=0.5)
    settings = dataclasses.replace(SETTINGS, epochs=4)
    first, second = (
        train_model(
            garments, settings, base=get_policy("flip"), plan=plan, hardware=Hardware("cpu", "fp32")
        )
        for _ in range(2)
    )
    found = first.classifier.predict_logits(garments.images)
    assert (found == second.classifier.predict_logits(garments.images)).all()
    assert (found.argmax(axis=1) == garments.labels).mean() > 0.4


def test_weaker_extras_are_drawn_without_the_base_augmentation(garments):
    plan = make_plan(garments, "weaker")
    data = AugmentedDataset(garments, plan, base="geometric", transform=lambda image: image)
    assert (data[AugmentedIndex(3, 0, 1)][0] == garments.images[3]).all()
    assert not (data[AugmentedIndex(3, 0, 0)][0] == garments.images[3]).all()
    sampler = AugmentationSampler(garments, plan)
    header = _header(garments, SETTINGS, get_policy("geometric"))
    batches = Batches(
        garments,
        sampler,
        100,
        get_policy("geometric"),
        get_policy("weaker"),
        0,
        header,
        torch.device("cpu"),
    )
    indices, copies = torch.arange(100), torch.arange(100) % 2
    originals = batches._originals(indices)
    images = batches._augment(originals, indices, copies, torch.zeros_like(indices))
    same = (images == batches.images[:100]).all(dim=3).all(dim=2).all(dim=1)
    assert same[copies > 0].all()
    assert not same[copies == 0].any()
