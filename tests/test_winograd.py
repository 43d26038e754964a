"""Convolutions by Winograd's algorithm equal the plain ones."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fmnist_aug.winograd as winograd
from fmnist_aug import load_dataset
from fmnist_aug.computing import use_threads
from fmnist_aug.models import BaselineCNN
from fmnist_aug.training import train_model
from fmnist_aug.training.hardware import Hardware, cpu_has_bf16
from fmnist_aug.training.settings import get_preset
from fmnist_aug.winograd import FEWEST_CHANNELS, WinogradConv2d, winograd_conv2d

SHAPES = [(3, 2, 3, 7, 9), (2, 3, 1, 8, 8), (1, 1, 1, 1, 1), (5, 4, 2, 13, 4), (1, 2, 2, 28, 28)]


def drawn(
    number: int, channels: int, filters: int, height: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((number, channels, height, width), (filters, channels, 3, 3), (filters,))
    images, weight, bias = (
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    )
    return images, weight, bias


@pytest.fixture
def set_threads():
    with use_threads(torch.get_num_threads()):  # which are restored
        yield torch.set_num_threads


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution(shape):
    images, weight, bias = drawn(*shape, torch.float64)
    expected = F.conv2d(images, weight, bias, padding=1)
    torch.testing.assert_close(winograd_conv2d(images, weight, bias), expected)
    with torch.no_grad():
        torch.testing.assert_close(winograd_conv2d(images, weight, bias), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_in_inference_mode(monkeypatch, set_threads, threads):
    monkeypatch.setattr(winograd, "_BUFFER_VALUES", 1)  # a part for each image
    set_threads(threads)
    inputs = drawn(*SHAPES[4], torch.float64)
    images, weight, bias = (each.detach() for each in inputs)
    images = images.repeat(3, 1, 1, 1)
    with torch.inference_mode():
        result = winograd_conv2d(images, weight, bias)
        torch.testing.assert_close(result, F.conv2d(images, weight, bias, padding=1))


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_its_gradients_are_those_of_its_values(shape):
    assert torch.autograd.gradcheck(winograd_conv2d, drawn(*shape, torch.float64))


def test_functional_gradients():
    images, weight, bias = (each.detach() for each in drawn(*SHAPES[0], torch.float64))

    def loss(weight, convolve):
        return convolve(images, weight, bias).square().sum()

    one, other = (
        torch.func.grad(loss)(weight, convolve)
        for convolve in (winograd_conv2d, partial(F.conv2d, padding=1))
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_the_parts_of_a_batch_make_the_whole(monkeypatch, set_threads, at_once, threads):
    images, weight, bias = drawn(5, 3, 4, 10, 6, torch.float64)
    gradient = torch.randn(5, 4, 10, 6, dtype=torch.float64)
    values_of_an_image = 36 * 3 * 2 * 4  # 3 × 2 tiles of 36 values in 4 channels
    monkeypatch.setattr(winograd, "_BUFFER_VALUES", at_once * values_of_an_image)
    set_threads(threads)
    expected = F.conv2d(images, weight, bias, padding=1)
    result = winograd_conv2d(images, weight, bias)
    torch.testing.assert_close(result, expected)
    for one, other in zip(
        torch.autograd.grad(result, (images, weight, bias), gradient),
        torch.autograd.grad(expected, (images, weight, bias), gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_who_takes_which_part_makes_no_difference(monkeypatch, set_threads):
    monkeypatch.setattr(winograd, "_BUFFER_VALUES", 1)  # a part for each image
    set_threads(3)
    inputs = drawn(30, 3, 4, 9, 8, torch.float32)
    gradient = torch.randn(30, 4, 9, 8)

    def everything() -> list[Tensor]:
        result = winograd_conv2d(*inputs)
        return [result, *torch.autograd.grad(result, inputs, gradient)]

    first = everything()
    for _ in range(20):
        assert all(map(torch.equal, first, everything()))


def error(result: Tensor, exact: Tensor) -> float:
    return float((result.double() - exact).detach().norm() / exact.detach().norm())


@pytest.mark.parametrize("side", [14, 9])
def test_in_bf16_it_errs_by_about_two_percent(side):
    generator = torch.Generator().manual_seed(0)
    rounded = [
        torch.randn(shape, generator=generator).bfloat16()
        for shape in ((5, 32, side, side), (16, 32, 3, 3), (16,), (5, 16, side, side))
    ]
    exact = [values.double().requires_grad_() for values in rounded]
    inputs = [
        rounded[0].requires_grad_(),
        *(x.detach().float().requires_grad_() for x in exact[1:3]),
    ]
    expected = F.conv2d(*exact[:3], padding=1)
    result = winograd_conv2d(*inputs)
    assert result.dtype == torch.bfloat16
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert error(result, expected) < 0.025
    gradients = torch.autograd.grad(result, inputs, rounded[3])
    for one, other in zip(
        gradients, torch.autograd.grad(expected, exact[:3], exact[3]), strict=True
    ):
        assert error(one, other) < 0.03
    # what goes to the optimiser is not rounded to bf16
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, *2 * [torch.float32]]


def test_the_transformations_are_exact_in_bf16():
    for matrix in (winograd._INPUT, winograd._OUTPUT):
        both = torch.kron(matrix, matrix)
        assert torch.equal(both.bfloat16().double(), both)


@pytest.fixture
def avx2(monkeypatch, set_threads):
    """A CPU on which it pays in fp32, whatever this one is, and for how few images ever."""
    monkeypatch.setitem(winograd.FEWEST_TILES, torch.float32, 1)
    set_threads(2)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})


@pytest.fixture
def avx512_bf16(monkeypatch, set_threads):
    """A CPU on which it pays in bf16, whatever this one is, and for how few images ever."""
    monkeypatch.setitem(winograd.FEWEST_TILES, torch.bfloat16, 1)
    set_threads(2)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def test_the_original_network_learns_the_same_with_it(avx2, monkeypatch):
    train = load_dataset("fashion-mnist", "train")
    images = torch.from_numpy(train.images[:32]).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(train.labels[:32]).long()
    torch.manual_seed(0)
    model = BaselineCNN().to(memory_format=torch.channels_last).eval()

    def loss_and_gradients(images: Tensor) -> list[Tensor]:
        model.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return [loss.detach(), *(weight.grad.clone() for weight in model.parameters())]

    by_winograd = loss_and_gradients(images)
    assert all(map(torch.equal, by_winograd, loss_and_gradients(images)))
    monkeypatch.setattr(WinogradConv2d, "pays", lambda *_: False)
    model.double()
    for one, exact in zip(by_winograd, loss_and_gradients(images.double()), strict=True):
        # an activation at the kink may fall on its other side; plain convolutions err by 5e-4
        assert (one.double() - exact).norm() <= 1e-3 * exact.norm()


def with_work_enough(
    layer: WinogradConv2d, images: Tensor, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pays for enough tiles, of enough work each; images are (2, channels, 8, 8)."""
    monkeypatch.setitem(winograd.FEWEST_TILES, dtype, 5)
    assert not layer.pays(images)  # 4 tiles each, on 2 threads
    assert layer.pays(images.repeat(2, 1, 1, 1)[:3])
    # tiles of 4 × 4 pixels fill 14 × 14 pixels less well
    images = images.repeat(4, 1, 1, 1)
    assert not layer.pays(F.pad(images, (0, 6, 0, 6)))
    wider = WinogradConv2d(FEWEST_CHANNELS, 2 * FEWEST_CHANNELS)
    assert wider.pays(F.pad(images, (0, 6, 0, 6)))


def test_it_is_used_where_it_was_measured_to_pay(avx2, monkeypatch):
    images = torch.zeros(1, FEWEST_CHANNELS, 8, 8)
    layer = WinogradConv2d(FEWEST_CHANNELS, FEWEST_CHANNELS)
    assert layer.pays(images)
    assert not WinogradConv2d(FEWEST_CHANNELS, 32).pays(images)
    assert not WinogradConv2d(32, FEWEST_CHANNELS).pays(images[:, :32])
    assert not layer.pays(images.double())
    assert layer(images[0]).shape == (FEWEST_CHANNELS, 8, 8)
    assert layer(images[:0]).shape == (0, FEWEST_CHANNELS, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert not layer.pays(images)
        assert layer(images).dtype == torch.bfloat16
    with torch.no_grad():
        assert layer.pays(images)
    with_work_enough(layer, images.repeat(2, 1, 1, 1), torch.float32, monkeypatch)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not layer.pays(images)


def test_in_bf16_it_is_used_for_training_only(avx512_bf16, monkeypatch):
    images = torch.randn(2, FEWEST_CHANNELS, 8, 8)
    layer = WinogradConv2d(FEWEST_CHANNELS, FEWEST_CHANNELS)
    assert not layer.pays(images)
    assert not layer.pays(images.bfloat16())  # its weights are of another type
    assert layer.bfloat16().pays(images.bfloat16())
    layer.float()
    exact = F.conv2d(images.double(), layer.weight.double(), layer.bias.double(), padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.pays(images)
        assert layer.pays(images.bfloat16())
        assert not layer.pays(images.double())
        result = layer(images)
        assert result.dtype == torch.bfloat16
        assert 0.005 < error(result, exact) < 0.03
        with torch.no_grad():
            assert not layer.pays(images)
            assert error(layer(images), exact) < 0.005
        with_work_enough(layer, images, torch.bfloat16, monkeypatch)
    with torch.autocast("cpu", torch.float16):
        assert not layer.pays(images)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": 1, "amx_bf16": 1})
    with torch.autocast("cpu", torch.bfloat16):
        assert not layer.pays(images)


@pytest.mark.skipif(not cpu_has_bf16(), reason="bf16 is emulated here, which takes minutes")
def test_the_original_network_learns_in_bf16_by_it(avx512_bf16):
    images = load_dataset("fashion-mnist", "train")
    train, held_out = (images.subset(np.arange(384) + start) for start in (0, 384))
    settings = replace(get_preset("original").settings, epochs=5, batch_size=48)
    trained = train_model(train, settings, hardware=Hardware("cpu", "bf16"))
    right = trained.classifier.predict(held_out.images) == held_out.labels
    assert right.mean() > 0.7


@pytest.mark.parametrize("cpu", ["avx2", "avx512_bf16"])
def test_exported_networks_hold_plain_convolutions(cpu, request):
    request.getfixturevalue(cpu)
    layer = WinogradConv2d(FEWEST_CHANNELS, FEWEST_CHANNELS).eval()
    images = torch.randn(1, FEWEST_CHANNELS, 8, 8)
    exported = torch.export.export(layer, (images,))
    assert torch.ops.aten.conv2d.default in {node.target for node in exported.graph.nodes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but still there
        traced = torch.jit.trace(layer, images, check_trace=False)
    assert "aten::_convolution" in str(traced.inlined_graph)


def test_its_parameters_are_those_of_a_plain_convolution():
    layer, plain = WinogradConv2d(5, 7), nn.Conv2d(5, 7, 3, padding=1)
    layer.load_state_dict(plain.state_dict())
    images = torch.randn(2, 5, 9, 9)
    assert torch.equal(layer(images), plain(images))
