"""Sharpness-aware minimisation."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from fmnist_aug import create_model
from fmnist_aug.errors import UsageError
from fmnist_aug.training import train_model
from fmnist_aug.training.sharpness import Uphill
from trainings.short import CPU, SHORT


def test_the_weights_go_uphill_by_the_radius_and_come_back():
    torch.manual_seed(0)
    model = create_model("baseline-cnn-200k")
    images, labels = torch.randn(20, 1, 28, 28), torch.arange(20) % 10
    model.classifier[4].p = 0.0  # the same loss each time
    before = {name: value.clone() for name, value in model.named_parameters()}
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters()}
    moved = [name for name, value in before.items() if value.ndim > 1]
    length = torch.stack([gradients[name].norm() for name in moved]).norm()
    nearby = F.cross_entropy(model(images), labels)
    statistics = [value.clone() for value in model.buffers() if value.ndim]
    with Uphill(model, 0.3).of(nearby):
        for name, value in model.named_parameters():
            wanted = before[name]
            if name in moved:
                wanted = wanted + gradients[name] * 0.3 / length
            assert torch.allclose(value, wanted, atol=1e-6), name
        assert F.cross_entropy(model(images), labels) > loss
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name
    after = [value for value in model.buffers() if value.ndim]
    assert all(map(torch.equal, statistics, after))
    model(images)
    assert not any(map(torch.equal, statistics, after))  # it goes on by itself


def test_without_any_slope_the_weights_stay():
    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    with Uphill(model, 1.0).of(model(torch.zeros(3, 2)).sum() * 0):
        assert torch.equal(model.weight, before)


def test_a_training_by_it_learns_but_otherwise(garments):
    sharp, plain = (
        train_model(garments, dataclasses.replace(SHORT, sam=radius), hardware=CPU)
        for radius in (0.1, 0.0)
    )
    assert (sharp.classifier.predict(garments.images) == garments.labels).mean() > 0.5
    assert not torch.equal(sharp.classifier.model.head.weight, plain.classifier.model.head.weight)


@pytest.mark.parametrize("radius", [-0.1, float("inf"), float("nan")])
def test_an_impossible_radius_is_refused(radius):
    with pytest.raises(UsageError, match="sam must be a number of at least 0"):
        dataclasses.replace(SHORT, sam=radius)
