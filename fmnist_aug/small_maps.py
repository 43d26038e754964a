"""3×3 convolutions of small maps, whose weights' gradient is one matrix product.

torch computes that gradient tap by tap, and on maps of a few pixels there is little to do for each
tap: most of the time goes into rearranging. Here the nine neighbours of every pixel are laid side
by side (cheap, for there are few), and one product over all pixels of the batch does the rest.
``examples/benchmark.py --only convolution`` measures where that is faster.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug.computing import computed_type, has_vector_bf16

MOST_PIXELS = 9
"""Of a map, for which it pays …"""
FEWEST_CHANNELS = 48
"""… with at least so many on the side that is read."""


class SmallMapConv2d(nn.Conv2d):
    """A 3×3 convolution without bias that keeps the size; its training is faster on small maps.

    Its parameters and its ``state_dict`` are those of ``nn.Conv2d``, and so are its values; the
    gradients differ in the last digits.

    Args:
        in_channels: of the images.
        out_channels: number of filters.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, out_channels, H, W) of float images (N, in_channels, H, W)."""
        if not self.pays(images):
            return super().forward(images)
        # what autocast would do, which a function with a gradient of its own has to do by itself
        return small_map_conv2d(images.bfloat16(), self.weight.bfloat16())

    def pays(self, images: Tensor) -> bool:
        """Whether the gradient of these images' convolution is faster as one product.

        Measured in bf16 on CPUs with AVX512-BF16, so it is used nowhere else.
        """
        return (
            computed_type(images, self.weight) == torch.bfloat16
            and torch.is_grad_enabled()
            and images.shape[2] * images.shape[3] <= MOST_PIXELS
            and self.in_channels >= FEWEST_CHANNELS
            and has_vector_bf16()
        )


def small_map_conv2d(images: Tensor, weight: Tensor) -> Tensor:
    """``conv2d`` with padding 1, and its gradients.

    Args:
        images: float (N, C, H, W); channels-last costs no copy.
        weight: (K, C, 3, 3) of the same type.

    Returns:
        (N, K, H, W). It can be differentiated twice, and by ``torch.func``.
    """
    result: Tensor = _SmallMapConv2d.apply(images, weight)
    return result


class _SmallMapConv2d(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(images, weight, padding=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = torch.ops.aten.convolution_backward(
                gradient,
                images,
                weight,
                None,
                [1, 1],
                [1, 1],
                [1, 1],
                False,
                [0, 0],
                1,
                [True, False, False],
            )[0]
        if ctx.needs_input_grad[1]:
            filters, channels = weight.shape[:2]
            by_pixel = gradient.movedim(1, -1).reshape(-1, filters)
            product = by_pixel.T @ _neighbours(images)
            of_weight = product.view(filters, 3, 3, channels).movedim(-1, 1)
        return of_images, of_weight


def _neighbours(images: Tensor) -> Tensor:
    """The 3 × 3 pixels around each pixel, (N · H · W, 9 C); zeros beyond the border."""
    channels = images.shape[1]
    padded = F.pad(images.movedim(1, -1), (0, 0, 1, 1, 1, 1))
    around = padded.unfold(1, 3, 1).unfold(2, 3, 1).movedim(3, -1)
    return around.reshape(-1, 9 * channels)
