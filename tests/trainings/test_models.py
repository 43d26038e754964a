"""The networks."""

import pytest
import torch
from torch import nn

from fmnist_aug import BaselineCNN, create_model
from fmnist_aug.errors import UsageError


def test_the_baseline_has_the_layers_of_the_original():
    block, pooling = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d], [nn.MaxPool2d]
    layers = [*block, *block, *pooling, *block, *pooling]
    assert all(map(isinstance, BaselineCNN().features, layers))
    model = BaselineCNN(num_classes=7, in_channels=3, image_size=(32, 20))
    assert model(torch.zeros(2, 3, 32, 20)).shape == (2, 7)


def test_the_baselines_gradients_stay_channels_last():
    # in another order max-pooling took nine milliseconds of a step longer
    last = torch.channels_last
    model = BaselineCNN().to(memory_format=last)
    found = []
    model.features.register_full_backward_hook(lambda *of: found.append(of[2][0]))
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    model(images.to(memory_format=last)).sum().backward()
    assert found[0].shape == (2, 256, 7, 7)
    assert found[0].is_contiguous(memory_format=last)


@pytest.mark.parametrize("name", ["baseline-cnn", "fast-cnn"])
def test_models_take_any_size_from_eight_pixels_on(name):
    for height, width in ((8, 8), (28, 28), (31, 45)):
        model = create_model(name, 4, 3, (height, width))
        assert model(torch.zeros(2, 3, height, width)).shape == (2, 4)
    with pytest.raises(UsageError, match="too small"):
        create_model(name, image_size=(7, 28))


def test_unknown_models_are_refused():
    with pytest.raises(UsageError, match="fast-cnn"):
        create_model("resnet")
    with pytest.raises(UsageError, match="num_classes"):
        create_model("fast-cnn", 0)
