"""Progressive resizing: the first steps of a training see smaller images, which cost less.

Early on a network learns what small images show as well, and a convolution's work goes with the
number of pixels (Jeremy Howard's, from fast.ai's entry to DAWNBench in 2018).
"""

from __future__ import annotations

from collections.abc import Callable

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
