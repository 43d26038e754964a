"""The networks: the original experiment's, and a small one that is quick without a GPU.

All take float (N, C, H, W) images that were normalised, and give logits (N, num_classes); the
softmax is in the loss and in ``predict_proba``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug.errors import UsageError

SMALLEST_SIDE = 8
"""Both networks halve the image up to three times, so smaller ones would vanish."""


class BaselineCNN(nn.Module):
    """The original experiment's network.

    Convolutions 3×3 with 128, 128 and 256 filters, one fully connected layer of 256, dropout
    50 %, batch normalisation after every activation, softmax over the classes.

    The original gives neither padding nor the place of the pooling, so we choose: the
    convolutions keep the size (padding 1), and 2×2 max-pooling follows the second and the third.
    On 28 × 28 grey images with 10 classes that makes 3,659,658 parameters, 88 % of them between
    the last feature map (256 × 7 × 7) and the fully connected layer. The original's count of
    23,123,131 comes out of no layout with these layers.

    Args:
        num_classes: number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: height and width in pixels, at least 8.

    >>> sum(parameter.numel() for parameter in BaselineCNN().parameters())
    3659658
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, image_size: tuple[int, int] = (28, 28)
    ) -> None:
        super().__init__()
        _check_size(image_size)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 128, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(128),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(128),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 256, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(256),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(256 * (image_size[0] // 4) * (image_size[1] // 4), 256),
            nn.ReLU(),
            nn.BatchNorm1d(256),
            nn.Dropout(0.5),
            nn.Linear(256, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class FastCNN(nn.Module):
    """A small residual network for machines without a GPU.

    Full resolution in the first two convolutions (it pays more than width), then three stages
    that halve the image; residual pairs at a quarter and an eighth of the side; the maximum over
    the last map, and logits scaled by 1/8 as in David Page's and Keller Jordan's fast networks.

    Args:
        num_classes: number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: height and width in pixels, at least 8; any size fits the same weights.
        width: filters of the second convolution; the later ones have two and four times as many.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        width: int = 24,
    ) -> None:
        super().__init__()
        _check_size(image_size)
        self.features = nn.Sequential(
            _ConvBlock(in_channels, 16),
            _ConvBlock(16, width, pool=True),
            _ConvBlock(width, 2 * width, pool=True),
            _Residual(2 * width),
            _ConvBlock(2 * width, 4 * width, pool=True),
            _Residual(4 * width),
        )
        self.head = nn.Linear(4 * width, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        logits: Tensor = self.head(self.features(images).amax(dim=(2, 3)))
        return logits / 8


class _ConvBlock(nn.Module):
    """Convolution, pooling before the rest (a quarter of the work for it), batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.pool = pool

    def forward(self, images: Tensor) -> Tensor:
        images = self.conv(images)
        if self.pool:
            images = F.max_pool2d(images, 2)
        return F.relu(self.norm(images), inplace=True)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _ConvBlock(channels, channels)
        self.second = _ConvBlock(channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        added: Tensor = self.second(self.first(images))
        return images + added


MODELS: dict[str, type[BaselineCNN] | type[FastCNN]] = {
    "baseline-cnn": BaselineCNN,
    "fast-cnn": FastCNN,
}


def create_model(
    name: str,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: tuple[int, int] = (28, 28),
) -> nn.Module:
    """Make a network by name, with random weights from torch's global generator.

    Args:
        name: ``baseline-cnn`` or ``fast-cnn``.
        num_classes: number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: height and width of the images in pixels.

    Raises:
        UsageError: an unknown name, or images smaller than 8 pixels a side.

    >>> import torch
    >>> create_model("fast-cnn", num_classes=3, in_channels=3)(torch.zeros(2, 3, 28, 28)).shape
    torch.Size([2, 3])
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    return MODELS[name](num_classes, in_channels, image_size)


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def _check_size(image_size: tuple[int, int]) -> None:
    if min(image_size) < SMALLEST_SIDE:
        raise UsageError(
            f"images of {image_size[0]} × {image_size[1]} pixels are too small for the network, "
            f"which needs at least {SMALLEST_SIDE} a side"
        )
