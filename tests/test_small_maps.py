"""Convolutions of small maps equal the plain ones, gradients and all."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug import load_dataset
from fmnist_aug.models import FastCNN
from fmnist_aug.small_maps import FEWEST_CHANNELS, SmallMapConv2d, small_map_conv2d

SHAPES = [(3, 2, 3, 3, 3), (2, 3, 1, 1, 1), (1, 1, 1, 2, 2), (5, 4, 2, 1, 7), (1, 2, 2, 5, 2)]


def drawn(number: int, channels: int, filters: int, height: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((number, channels, height, width), (filters, channels, 3, 3))
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def plain(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, padding=1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution(shape, memory_format):
    images, weight = (
        each.detach().contiguous(memory_format=memory_format).requires_grad_()
        for each in drawn(*shape)
    )
    expected, result = (each(images, weight) for each in (plain, small_map_conv2d))
    torch.testing.assert_close(result, expected)
    gradient = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(result, (images, weight), gradient),
        torch.autograd.grad(expected, (images, weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradients_are_those_of_its_values(shape):
    assert torch.autograd.gradcheck(small_map_conv2d, drawn(*shape))
    assert torch.autograd.gradgradcheck(small_map_conv2d, drawn(*shape))


def test_only_the_gradient_that_is_wanted_is_computed():
    images, weight = drawn(2, 3, 4, 2, 2)
    for wanted in ((True, False), (False, True)):
        for each, needs in zip((images, weight), wanted, strict=True):
            each.grad = None
            each.requires_grad_(needs)
        small_map_conv2d(images, weight).sum().backward()
        assert (images.grad is not None, weight.grad is not None) == wanted


def test_functional_gradients_of_each_image():
    images, weight = (each.detach() for each in drawn(3, 2, 4, 3, 2))

    def loss(convolve, weight, image):
        return convolve(image[None], weight).square().sum()

    one, other = (
        torch.func.vmap(torch.func.grad(loss, 1), (None, None, 0))(convolve, weight, images)
        for convolve in (small_map_conv2d, plain)
    )
    torch.testing.assert_close(one, other)


@pytest.fixture
def bf16(monkeypatch):
    """A CPU on which it pays, whatever this one is."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def pays(layer: SmallMapConv2d, images: Tensor) -> bool:
    with torch.autocast("cpu", torch.bfloat16):
        return layer.pays(images)


def test_it_is_used_where_it_was_measured_to_pay(bf16, monkeypatch):
    layer = SmallMapConv2d(FEWEST_CHANNELS, 8)
    images = torch.zeros(2, FEWEST_CHANNELS, 3, 3)
    assert pays(layer, images)
    assert not layer.pays(images)  # fp32
    assert not layer.pays(images.bfloat16())  # its weights are of another type
    assert layer.bfloat16().pays(images.bfloat16())
    layer.float()
    assert not pays(layer.double(), images.double())  # autocast leaves these as they are
    layer.float()
    assert not pays(layer, images[:0])
    assert not pays(layer, images[0])
    assert not pays(layer, images.repeat(1, 1, 1, 2))
    assert not pays(SmallMapConv2d(FEWEST_CHANNELS - 1, 8), images[:, 1:])
    with torch.no_grad():
        assert not pays(layer, images)
    for capabilities in ({}, {"avx512_bf16": True, "amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert not pays(layer, images)


def test_a_network_learns_the_same_with_it(bf16):
    train = load_dataset("fashion-mnist", "train")
    images = torch.from_numpy(train.images[:32]).permute(0, 3, 1, 2).float() / 255
    images = F.interpolate(images, size=(14, 14))
    labels = torch.from_numpy(train.labels[:32]).long()
    torch.manual_seed(0)
    ours = FastCNN().to(memory_format=torch.channels_last)
    theirs = copy.deepcopy(ours)
    replaced = 0
    for module in theirs.modules():
        if isinstance(module, SmallMapConv2d):
            module.__class__ = nn.Conv2d
            replaced += 1
    assert replaced == 8
    exact = copy.deepcopy(theirs)
    losses = []
    for model in (ours, theirs, exact):
        with torch.autocast("cpu", torch.bfloat16, enabled=model is not exact):
            logits = model(images)
        losses.append(F.cross_entropy(logits.float(), labels))
        losses[-1].backward()
    assert torch.equal(*losses[:2])
    gradients = (
        [parameter.grad for parameter in model.parameters()] for model in (ours, theirs, exact)
    )
    for one, other, true in zip(*gradients, strict=True):
        assert one.dtype == torch.float32
        # single values may be rounded to almost nothing, and that differs between processors
        assert (one - other).norm() <= 0.02 * other.norm()
        assert (one - true).norm() <= 1.01 * (other - true).norm()
