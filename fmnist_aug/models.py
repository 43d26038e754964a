"""The networks: the original experiment's, small ones for CPUs, and wide residual ones for GPUs.

All take float (N, C, H, W) images that were normalised, and give logits (N, num_classes); the
softmax is in the loss and in ``predict_proba``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist_aug.computing import order_gradient
from fmnist_aug.errors import UsageError
from fmnist_aug.small_maps import SmallMapConv2d
from fmnist_aug.winograd import WinogradConv2d

SMALLEST_SIDE = 8
"""The networks halve the image up to three times, so smaller ones would vanish."""


class BaselineCNN(nn.Module):
    """The original experiment's network.

    Convolutions 3×3 with 128, 128 and 256 filters, one fully connected layer of 256, dropout
    50 %, batch normalisation after every activation, softmax over the classes.

    The original gives neither padding nor the place of the pooling, so we choose: the
    convolutions keep the size (padding 1), and 2×2 max-pooling follows the second and the third.
    On 28 × 28 grey images with 10 classes that makes 3,659,658 parameters, 88 % of them between
    the last feature map (256 × 7 × 7) and the fully connected layer. The original's count of
    23,123,131 comes out of no layout with these layers. Its author also tried smaller networks,
    smaller fully connected layers and larger pooling, which the last three arguments make.

    Args:
        num_classes: number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: height and width in pixels, at least 8, and at least ``pool`` squared.
        filters: of the three convolutions.
        hidden: size of the fully connected layer.
        pool: side of both max-poolings.

    >>> sum(parameter.numel() for parameter in BaselineCNN().parameters())
    3659658
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        filters: tuple[int, int, int] = (128, 128, 256),
        hidden: int = 256,
        pool: int = 2,
    ) -> None:
        super().__init__()
        _check_size(image_size, max(SMALLEST_SIDE, pool * pool))
        first, second, third = filters
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(first),
            WinogradConv2d(first, second),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(second),
            nn.MaxPool2d(pool),
            WinogradConv2d(second, third),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(third),
            nn.MaxPool2d(pool),
        )
        height, width = (side // pool // pool for side in image_size)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(third * height * width, hidden),
            nn.ReLU(),
            nn.BatchNorm1d(hidden),
            nn.Dropout(0.5),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        maps: Tensor = self.features(images)
        order_gradient(maps)
        logits: Tensor = self.classifier(maps)
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
        stem: filters of the first convolution.
        residuals: residual pairs at a half, a quarter and an eighth of the side.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        width: int = 24,
        stem: int = 16,
        residuals: tuple[int, int, int] = (0, 1, 1),
    ) -> None:
        super().__init__()
        _check_size(image_size)
        layers: list[nn.Module] = [_ConvBlock(in_channels, stem)]
        channels = stem
        for wider, pairs in zip((width, 2 * width, 4 * width), residuals, strict=True):
            layers.append(_ConvBlock(channels, wider, pool=True))
            layers.extend(_Residual(wider) for _ in range(pairs))
            channels = wider
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        logits: Tensor = self.head(self.features(images).amax(dim=(2, 3)))
        return logits / 8


class _ConvBlock(nn.Module):
    """Convolution, pooling before the rest (a quarter of the work for it), batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, pool: bool = False) -> None:
        super().__init__()
        self.conv = SmallMapConv2d(in_channels, out_channels)
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


class WideResNet(nn.Module):
    """A wide residual network (Zagoruyko and Komodakis, arXiv 1605.07146), for GPUs.

    Batch norm and ReLU before each convolution, three groups of residual blocks of two 3×3
    convolutions, the last two of which halve the image, and the average over the last map.

    Args:
        num_classes: number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: height and width in pixels, at least 8; any size fits the same weights.
        depth: convolutions along the network, 6 n + 4 for n blocks a group.
        width: the groups have 16, 32 and 64 times as many filters.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        depth: int = 16,
        width: int = 8,
    ) -> None:
        super().__init__()
        _check_size(image_size)
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise UsageError(f"the depth of a wide residual network must be 6 n + 4, not {depth}")
        layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)]
        channels = 16
        for wider, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for block in range(blocks):
                layers.append(_WideBlock(channels, wider, 1 if block else stride))
                channels = wider
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        logits: Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return logits


class _WideBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = (
            None
            if in_channels == out_channels and stride == 1
            else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        active = F.relu(self.first_norm(images))
        kept: Tensor = images if self.shortcut is None else self.shortcut(active)
        added: Tensor = self.second(F.relu(self.second_norm(self.first(active)), inplace=True))
        return kept + added


ANY_SIZE = (FastCNN, WideResNet)
"""Networks whose weights fit images of any size, since they pool the last map as a whole."""
MODELS: dict[str, Callable[..., nn.Module]] = {
    "baseline-cnn": BaselineCNN,
    "baseline-cnn-200k": partial(BaselineCNN, filters=(32, 32, 64), hidden=56),
    "baseline-cnn-fc128": partial(BaselineCNN, hidden=128),
    "baseline-cnn-fc64": partial(BaselineCNN, hidden=64),
    "baseline-cnn-pool3": partial(BaselineCNN, pool=3),
    "baseline-cnn-pool4": partial(BaselineCNN, pool=4),
    "fast-cnn": FastCNN,
    "fast-cnn-48": partial(FastCNN, width=48, stem=24),
    "deep-cnn-48": partial(FastCNN, width=48, stem=24, residuals=(1, 2, 2)),
    "deep-cnn-64": partial(FastCNN, width=64, stem=32, residuals=(1, 2, 2)),
    "deep-cnn-128": partial(FastCNN, width=128, stem=64, residuals=(1, 2, 2)),
    "wide-resnet-16-8": partial(WideResNet, depth=16, width=8),
    "wide-resnet-28-10": partial(WideResNet, depth=28, width=10),
}
"""What each name makes of (num_classes, in_channels, image_size)."""


def create_model(
    name: str,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: tuple[int, int] = (28, 28),
) -> nn.Module:
    """Make a network by name, with random weights from torch's global generator.

    Args:
        name: one of `MODELS`, such as ``fast-cnn``.
        num_classes: number of logits.
        in_channels: 1 for grey, 3 for colour.
        image_size: height and width of the images in pixels.

    Raises:
        UsageError: an unknown name, no classes, or images that are too small for it.

    >>> import torch
    >>> create_model("fast-cnn", num_classes=3, in_channels=3)(torch.zeros(2, 3, 28, 28)).shape
    torch.Size([2, 3])
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    if num_classes < 1:
        raise UsageError(f"num_classes must be at least 1, not {num_classes}")
    return MODELS[name](num_classes, in_channels, image_size)


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def _check_size(image_size: tuple[int, int], smallest: int = SMALLEST_SIDE) -> None:
    if min(image_size) < smallest:
        raise UsageError(
            f"images of {image_size[0]} × {image_size[1]} pixels are too small for the network, "
            f"which needs at least {smallest} a side"
        )
