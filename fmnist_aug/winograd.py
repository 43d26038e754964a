"""3×3 convolutions with fewer multiplications, for CPUs without fast low precision.

Winograd's minimal filtering F(4×4, 3×3): an output tile of 4 × 4 takes 36 multiplications per pair
of channels instead of 144 (Lavin and Gray, arXiv 1509.09308, whose matrices these are). Tiles are
transformed, multiplied as 36 matrix products over the channels, and transformed back; so are their
gradients. The transformations cost memory traffic, so it pays only with many channels:
``examples/benchmark.py --only convolution`` measures where.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

FEWEST_CHANNELS = 128
"""Of both sides of a convolution; with fewer the transformations cost more than they save."""
_BUFFER_SIZE = 1 << 20
"""Values of the largest buffer: what a core's share of the cache holds decides it."""

_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_KERNEL = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_OUTPUT = torch.tensor(
    [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
)
_CONSTANT = 7
"""Place among the 36 (1 along both axes) whose value is added to all outputs of a tile."""


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution that keeps the size; by Winograd's algorithm where that is faster.

    Its parameters and its ``state_dict`` are those of ``nn.Conv2d``; its results differ from it in
    the last digits (about 1e-5 of the largest value). By Winograd's algorithm there are gradients
    of first order only, and none of ``torch.func``; in double precision it is a plain convolution.

    Args:
        in_channels: of the images.
        out_channels: number of filters.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, out_channels, H, W) of float images (N, in_channels, H, W)."""
        if not self.pays(images):
            return super().forward(images)
        assert self.bias is not None
        return winograd_conv2d(images, self.weight, self.bias)

    def pays(self, images: Tensor) -> bool:
        """Whether these images are convolved faster by Winograd's algorithm.

        Measured on CPUs with AVX2 and nothing wider, so it is used on no others.
        """
        return (
            not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
            and images.device.type == "cpu"
            and images.ndim == 4
            and len(images) > 0
            and images.dtype == self.weight.dtype == torch.float32
            and min(self.in_channels, self.out_channels) >= FEWEST_CHANNELS
            and torch.backends.cpu.get_cpu_capability() == "AVX2"
            and not torch.is_autocast_enabled("cpu")
        )


def winograd_conv2d(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv2d`` with padding 1 by F(4×4, 3×3).

    Args:
        images: (N, C, H, W) on the CPU, float32 or float64; channels-last costs no copy.
        weight: (K, C, 3, 3).
        bias: (K,).

    Returns:
        (N, K, H, W), channels-last. Gradients of first order only.
    """
    if torch.is_grad_enabled():
        result: Tensor = _WinogradConv2d.apply(images, weight, bias)
        return result
    return _convolve(images, _transform_kernels(weight), bias)


class _Buffers(dict[str, Tensor]):
    """Flat memory by name, made at the first use, which is the largest, and used again."""

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        size = math.prod(shape)
        if name not in self:
            self[name] = like.new_empty(size)
        return self[name][:size].view(shape)


class _WinogradConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        kernels = _transform_kernels(weight)
        kept: list[Tensor] = []
        result = _convolve(images, kernels, bias, kept)
        ctx.save_for_backward(kernels, *kept)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _gradients(gradient, *ctx.saved_tensors)


def _transform_kernels(weight: Tensor) -> Tensor:
    """(36, C, K) of (K, C, 3, 3); here as everywhere columns come before rows."""
    filters, channels = weight.shape[:2]
    both = torch.kron(_KERNEL, _KERNEL).to(weight.dtype)
    return (both @ weight.permute(3, 2, 1, 0).reshape(9, -1)).view(36, channels, filters)


def _tiles(side: int) -> int:
    return -(-side // 4)


def _at_once(rows: int, columns: int, channels: int) -> int:
    return max(1, _BUFFER_SIZE // (36 * rows * columns * channels))


def _convolve(
    images: Tensor, kernels: Tensor, bias: Tensor, kept: list[Tensor] | None = None
) -> Tensor:
    """The convolution; ``kept`` gets the transformed tiles of each part of the batch."""
    number, channels, height, width = images.shape
    filters = len(bias)
    rows, columns = _tiles(height), _tiles(width)
    padded_width = 4 * columns + 2
    both = torch.kron(_OUTPUT, _OUTPUT).to(images.dtype)
    single = _INPUT.to(images.dtype)
    result = torch.empty(
        number, filters, height, width, dtype=images.dtype, memory_format=torch.channels_last
    )
    buffers = _Buffers()
    part = min(number, _at_once(rows, columns, max(channels, filters)))
    padded = images.new_zeros(part, 4 * rows + 2, padded_width, channels)
    for source, target in zip(
        torch.split(images.permute(0, 2, 3, 1), part),
        torch.split(result.permute(0, 2, 3, 1), part),
        strict=True,
    ):
        n = len(source)
        padded[:n, 1 : height + 1, 1 : width + 1] = source
        high = buffers.take("high", images, 6, n, rows, padded_width, channels)
        high.copy_(padded[:n].unfold(1, 6, 4).permute(4, 0, 1, 2, 3))
        low = buffers.take("low", images, *high.shape)
        torch.mm(single, high.view(6, -1), out=low.view(6, -1))
        wide = buffers.take("wide", images, 6, 6, n, rows, columns, channels)
        wide.copy_(low.unfold(3, 6, 4).permute(5, 0, 1, 2, 3, 4))
        # kept for the gradients, or overwritten by the next part
        tiles = buffers.take("tiles", wide, *wide.shape) if kept is None else torch.empty_like(wide)
        torch.mm(single, wide.view(6, -1), out=tiles.view(6, -1))
        tiles = tiles.view(36, -1, channels)
        if kept is not None:
            kept.append(tiles)
        products = buffers.take("products", images, 36, tiles.shape[1], filters)
        torch.bmm(tiles, kernels, out=products)
        products[_CONSTANT] += bias
        outputs = buffers.take("outputs", images, 4, 4, n, rows, columns, filters)
        torch.mm(both, products.view(36, -1), out=outputs.view(16, -1))
        _crop_copy(outputs.permute(2, 3, 1, 4, 0, 5), target)
    return result


def _gradients(gradient: Tensor, kernels: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the images, the weights and the biases: each step of `_convolve`, transposed."""
    number, filters, height, width = gradient.shape
    channels = kernels.shape[1]
    rows, columns = _tiles(height), _tiles(width)
    padded_width = 4 * columns + 2
    both = torch.kron(_OUTPUT, _OUTPUT).T.contiguous().to(gradient.dtype)
    single = _INPUT.T.contiguous().to(gradient.dtype)
    of_images = gradient.new_empty(number, height, width, channels)
    of_kernels = torch.zeros_like(kernels)
    of_biases = gradient.new_zeros(filters)
    buffers = _Buffers()
    part = min(number, _at_once(rows, columns, max(channels, filters)))
    whole = gradient.new_zeros(part, 4 * rows, 4 * columns, filters)
    for source, target, tiles in zip(
        torch.split(gradient.permute(0, 2, 3, 1), part),
        torch.split(of_images, part),
        kept,
        strict=True,
    ):
        n = len(source)
        if (height, width) != whole.shape[1:3]:
            whole[:n, :height, :width] = source
            source = whole[:n]
        outputs = buffers.take("outputs", gradient, 4, 4, n, rows, columns, filters)
        outputs.permute(2, 3, 1, 4, 0, 5).copy_(_in_tiles(source))
        products = buffers.take("products", gradient, 36, tiles.shape[1], filters)
        torch.mm(both, outputs.view(16, -1), out=products.view(36, -1))
        of_biases += products[_CONSTANT].sum(0)
        of_kernels.baddbmm_(tiles.transpose(1, 2), products)
        wide = buffers.take("wide", gradient, 6, 6, n, rows, columns, channels)
        torch.bmm(products, kernels.transpose(1, 2), out=wide.view(36, -1, channels))
        narrow = buffers.take("narrow", gradient, *wide.shape)
        torch.mm(single, wide.view(6, -1), out=narrow.view(6, -1))
        high = buffers.take("high", gradient, 6, n, rows, padded_width, channels)
        _overlap_add(narrow.permute(1, 2, 3, 4, 0, 5), high)
        low = buffers.take("low", gradient, *high.shape)
        torch.mm(single, high.view(6, -1), out=low.view(6, -1))
        padded = buffers.take("padded", gradient, n, 4 * rows + 2, padded_width * channels)
        _overlap_add(low.view(6, n, rows, -1).permute(1, 2, 0, 3), padded)
        padded = padded.view(n, -1, padded_width, channels)
        target.copy_(padded[:, 1 : height + 1, 1 : width + 1])
    both = torch.kron(_KERNEL, _KERNEL).T.to(gradient.dtype)
    of_weights = (both @ of_kernels.view(36, -1)).view(3, 3, channels, filters)
    return of_images.permute(0, 3, 1, 2), of_weights.permute(3, 2, 1, 0), of_biases


def _in_tiles(images: Tensor) -> Tensor:
    """(N, rows, 4, columns, 4, C) of (N, 4 rows, 4 columns, C)."""
    return torch.unflatten(torch.unflatten(images, 1, (-1, 4)), 3, (-1, 4))


def _crop_copy(tiles: Tensor, target: Tensor) -> None:
    """Copy tiles (N, rows, 4, columns, 4, C) to images, which may end within the last ones."""
    number, height, width, filters = target.shape
    if height % 4 or width % 4:
        joined = tiles.reshape(number, 4 * tiles.shape[1], 4 * tiles.shape[3], filters)
        target.copy_(joined[:, :height, :width])
    else:
        _in_tiles(target).copy_(tiles)


def _overlap_add(tiles: Tensor, target: Tensor) -> None:
    """Add up tiles (..., n, 6, C) that lie 4 apart: (..., 4 n + 2, C)."""
    target[..., -2:, :] = 0
    torch.unflatten(target[..., :-2, :], -2, (-1, 4)).copy_(tiles[..., :4, :])
    # the first two of each tile but the first, and the two after the last
    target[..., 4:, :].unfold(-2, 2, 4).add_(tiles[..., 4:, :].transpose(-1, -2))
