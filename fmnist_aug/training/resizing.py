"""Progressive resizing: the first steps of a training see smaller images, which cost less.

Early on a network learns what small images show as well, and a convolution's work goes with the
number of pixels (from fast.ai's entry to the DAWNBench competition of 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug.models import SMALLEST_SIDE

_SHARES = (0.5, 0.5**0.5)
"""Of the side, in the first and the second half of the steps on smaller images: a quarter and a
half of the pixels."""


@dataclass(frozen=True)
class Sizes:
    """The sizes at which the images of a training are seen.

    Attributes:
        image_size: height and width of the images as they are, in pixels.
        until: share of the steps that see smaller images.
        smallest: height and width that the network needs at least.
    """

    image_size: tuple[int, int]
    until: float
    smallest: int = SMALLEST_SIDE

    def at(self, done: float) -> tuple[int, int]:
        """Height and width when the share ``done`` of the steps was taken."""
        if done >= self.until:
            return self.image_size
        share = _SHARES[int(2 * done / self.until)]
        height, width = (max(self.smallest, round(side * share)) for side in self.image_size)
        return height, width

    def work_done(self, done: float) -> float:
        """Share of the work that lies behind it: of the pixels, not of the steps."""
        return self._pixels(done) / self._pixels(1.0)

    def _pixels(self, upto: float) -> float:
        return sum(
            math.prod(self.at(start)) * (min(upto, end) - start)
            for start, end in pairwise((0.0, self.until / 2, self.until, 1.0))
            if start < upto
        )


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
