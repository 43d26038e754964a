"""Progressive resizing: the first steps of a training see smaller images, which cost less.

Early on a network learns what small images show as well, and a convolution's work goes with the
number of pixels (from fast.ai's entry to the DAWNBench competition of 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug.models import SMALLEST_SIDE

_SHARES = (0.5, 0.5**0.5)
"""Of the side, in the first and the second half of the steps on smaller images: a quarter and a
half of the pixels."""


def size_at(done: float, image_size: tuple[int, int], until: float) -> tuple[int, int]:
    """Height and width at which images are trained.

    Args:
        done: share of the training's steps that were taken.
        image_size: height and width of the images as they are.
        until: share of the steps that see smaller images.
    """
    if done >= until:
        return image_size
    share = _SHARES[int(2 * done / until)]
    height, width = (max(SMALLEST_SIDE, round(side * share)) for side in image_size)
    return height, width


def work_done(done: float, image_size: tuple[int, int], until: float) -> float:
    """Share of a training's work that lies behind it: of the pixels, not of the steps.

    Args:
        done: share of the training's steps that were taken.
        image_size: height and width of the images as they are.
        until: share of the steps that see smaller images.
    """

    def pixels(upto: float) -> float:
        return sum(
            math.prod(size_at(start, image_size, until)) * (min(upto, end) - start)
            for start, end in pairwise((0.0, until / 2, until, 1.0))
            if start < upto
        )

    return pixels(done) / pixels(1.0)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Float images (N, C, H, W) at another size, by bilinear interpolation without aliasing."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


class Resized(nn.Module):
    """A network that is shown images at another size: during its training, that of its last step.

    Args:
        model: the network.
        size: tells height and width.
    """

    def __init__(self, model: nn.Module, size: Callable[[], tuple[int, int]]) -> None:
        super().__init__()
        self.model = model
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        logits: Tensor = self.model(resize(images, self.size()))
        return logits
