"""First filters that tell apart what the training images' patches vary in.

Neighbouring pixels are nearly alike, so random filters all see much the same: how bright the patch
is. The eigenvectors of the patches' covariance, each divided by the root of its eigenvalue, give
outputs that are uncorrelated and equally large. With the negative of each the ReLU behind loses
nothing. From David Page's fast networks for CIFAR-10; Keller Jordan's airbench keeps such filters
fixed (https://github.com/KellerJordan/cifar10-airbench), here they only begin so.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug.classifier import Normalisation
from fmnist_aug.data import Images

_PIXELS = 1 << 20
"""Of the images whose patches are looked at: about 1300 images of 28 × 28."""
_PIXELS_AT_ONCE = 1 << 15
_SMALLEST = 0.01
"""Added to the eigenvalues, of normalised images, lest what hardly varies be blown up."""
_LEAST = 1e-6
"""Share of the largest eigenvalue below which nothing varies: flat images have such directions, and
filters for them would see the border alone."""


def first_convolution(model: nn.Module) -> nn.Conv2d:
    """The convolution that sees the images themselves."""
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


@torch.no_grad()
def whiten(convolution: nn.Conv2d, images: Images, normalise: Normalisation) -> None:
    """Let the filters of a first convolution begin as whitening ones, and their negatives.

    The largest eigenvalues come first. Filters beyond twice the number of directions in which the
    patches vary stay as they are, and so does the bias.

    Args:
        convolution: the first of a network; its kernel must fit into the images.
        images: uint8 (N, H, W, C) of the training; at most a million pixels of them are looked at,
            at equal distances.
        normalise: as in training, on the CPU.
    """
    weight = convolution.weight
    covariance = torch.zeros(weight[0].numel(), weight[0].numel(), dtype=torch.float64)
    height, width = images.shape[1:3]
    number = min(len(images), max(1, _PIXELS // (height * width)))
    chosen = torch.from_numpy(images[np.linspace(0, len(images) - 1, number).astype(np.int64)])
    # a few at a time: the patches of all take many times the images' memory
    at_once = max(1, _PIXELS_AT_ONCE // (height * width))
    for part in torch.split(chosen.permute(0, 3, 1, 2), at_once):
        patches = F.unfold(normalise(part).double(), weight.shape[2:])
        covariance += (patches @ patches.mT).sum(dim=0) / patches.shape[2] / number
    filters = _whitening(covariance)[: len(weight) // 2]
    for start, sign in ((0, 1), (len(weight) // 2, -1)):
        begun = weight[start : start + len(filters)]
        begun.copy_((sign * filters).view_as(begun))


def _whitening(covariance: Tensor) -> Tensor:
    """The filters, one a row, the direction of the largest variance first."""
    values, vectors = torch.linalg.eigh(covariance)
    varies = values > _LEAST * values[-1]
    values, vectors = values[varies], vectors[:, varies]
    filters: Tensor = (vectors / (values + _SMALLEST).sqrt()).T.flip(0)
    # an eigenvector's sign is nobody's choice, so it is chosen here: its largest entry is positive
    largest = filters.gather(1, filters.abs().argmax(dim=1, keepdim=True))
    return filters * largest.sign()
