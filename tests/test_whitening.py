"""The first filters of a training: whitening ones, if the settings say so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmnist_aug import load_dataset
from fmnist_aug.classifier import Normalisation
from fmnist_aug.data import ImageDataset
from fmnist_aug.models import create_model
from fmnist_aug.training import TrainSettings, engine, train_model, whitening
from fmnist_aug.training.whitening import first_convolution, whiten

CPU = torch.device("cpu")


def normalisation(images: np.ndarray) -> Normalisation:
    channels = images.reshape(-1, images.shape[3])
    return Normalisation(tuple(channels.mean(0)), tuple(channels.std(0) + 1e-6), CPU)


@pytest.fixture(scope="module")
def slice_of_fashion() -> ImageDataset:
    return load_dataset("fashion-mnist", "train").subset(np.arange(400))


def whitened(images: np.ndarray, filters: int) -> torch.nn.Conv2d:
    convolution = torch.nn.Conv2d(images.shape[3], filters, 3, bias=False)
    whiten(convolution, images, normalisation(images))
    return convolution


@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_filters_give_is_uncorrelated(slice_of_fashion, channels):
    images = slice_of_fashion.images[:200]
    if channels == 3:  # colours that are alike, as in pictures
        noise = np.random.default_rng(0).integers(0, 20, (*images.shape[:3], 3))
        images = (images // 2 + noise).astype(np.uint8)
    convolution = whitened(images, 2 * 9 * channels)
    inputs = normalisation(images)(torch.from_numpy(images).permute(0, 3, 1, 2))
    outputs = convolution(inputs).detach()[:, : 9 * channels].movedim(1, 0).flatten(1)
    moments = outputs @ outputs.T / outputs.shape[1]
    variances = moments.diagonal()
    off = moments - torch.diag(variances)
    assert off.abs().max() < 1e-3
    # 1 but for what keeps tiny eigenvalues from being blown up, which comes last
    assert variances[0] == pytest.approx(1, abs=0.01)
    assert (variances.diff() < 1e-3).all()


def test_half_of_the_filters_are_the_negatives_of_the_others(slice_of_fashion):
    weight = whitened(slice_of_fashion.images, 12).weight
    assert torch.equal(weight[:6], -weight[6:])
    wide = whitened(slice_of_fashion.images, 18).weight
    assert torch.equal(weight[:6], wide[:6])  # the largest come first


def test_more_filters_than_there_are_directions_stay_random(slice_of_fashion):
    convolution = torch.nn.Conv2d(1, 25, 3)
    before = convolution.weight.detach().clone(), convolution.bias.detach().clone()
    whiten(convolution, slice_of_fashion.images, normalisation(slice_of_fashion.images))
    same = (convolution.weight == before[0]).flatten(1).all(dim=1)
    assert same.nonzero()[:, 0].tolist() == [9, 10, 11, 21, 22, 23, 24]
    assert torch.equal(convolution.bias, before[1])


@pytest.mark.parametrize(("flat", "directions"), [([7, 7, 7], 0), ([0, 255, 0], 1)])
def test_directions_in_which_nothing_varies_stay_random(flat, directions):
    images = np.ones((3, 8, 8, 1), np.uint8) * np.array(flat, np.uint8)[:, None, None, None]
    convolution = torch.nn.Conv2d(1, 16, 3)
    before = convolution.weight.detach().clone()
    whiten(convolution, images, normalisation(images))
    changed = (convolution.weight != before).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == [0, 8][: 2 * directions]
    assert torch.isfinite(convolution.weight).all()


def test_only_a_million_pixels_are_looked_at(slice_of_fashion, monkeypatch):
    seen = []
    unfold = F.unfold
    monkeypatch.setattr(
        whitening.F, "unfold", lambda images, size: seen.append(images) or unfold(images, size)
    )
    images = slice_of_fashion.images
    monkeypatch.setattr(whitening, "_PIXELS", 10 * 28 * 28 + 5)
    monkeypatch.setattr(whitening, "_PIXELS_AT_ONCE", 4 * 28 * 28)
    whitened(images, 4)
    assert [len(part) for part in seen] == [4, 4, 2]
    for part, place, number in ((0, 0, 0), (-1, -1, len(images) - 1)):
        expected = normalisation(images)(torch.from_numpy(images[[number]]).permute(0, 3, 1, 2))
        assert torch.equal(seen[part][[place]].float(), expected)


@pytest.mark.parametrize("model", ["fast-cnn", "baseline-cnn-200k", "wide-resnet-16-8"])
def test_the_first_convolution_is_the_one_that_sees_the_images(model):
    convolution = first_convolution(create_model(model, 10, 3, (12, 12)))
    assert convolution.in_channels == 3


def test_a_training_begins_with_it_if_the_settings_say_so(slice_of_fashion, monkeypatch):
    begun = []
    begin = engine.make_optimizers
    monkeypatch.setattr(
        engine,
        "make_optimizers",
        lambda model, settings: (
            begun.append(first_convolution(model).weight.detach().clone()) or begin(model, settings)
        ),
    )
    settings = TrainSettings(model="fast-cnn", epochs=0.1, batch_size=32)
    for chosen in (True, False):
        train_model(slice_of_fashion, dataclasses.replace(settings, whitening=chosen))
    assert torch.equal(begun[0][:8], -begun[0][8:])
    assert not torch.equal(begun[1][:8], -begun[1][8:])
    images = slice_of_fashion.images
    assert torch.allclose(begun[0], whitened(images, 16).weight, atol=1e-4)
