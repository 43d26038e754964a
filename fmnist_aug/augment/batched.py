"""The policies on whole batches of tensors, on any device, without touching global random state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fmnist_aug.augment.policies import (
    Affine,
    BrightnessContrast,
    Erase,
    Flip,
    Operation,
    Policy,
    Sharpen,
)
from fmnist_aug.augment.random_numbers import (
    draw_keys,
    integers_between,
    uniform,
    uniform_between,
)


def augment_batch(
    images: Tensor,
    policy: Policy,
    indices: Tensor,
    *,
    seed: int = 0,
    epochs: Tensor | int = 0,
    copies: Tensor | None = None,
) -> Tensor:
    """Augment a batch; what happens to an image depends on (seed, epoch, index, copy) alone.

    Args:
        images: float (N, C, H, W), values 0–255. Not changed.
        policy: what to do.
        indices: int64 (N,), each image's index in its data set.
        seed: another seed gives other augmentations.
        epochs: int64 (N,) or one number for all.
        copies: int64 (N,), 0 for regular draws, 1, 2, … for extra ones; 0 for all by default.

    Returns:
        float (N, C, H, W), values 0–255, whole numbers as in uint8 images.
    """
    if not policy.operations or not len(images):
        return images
    copies = torch.zeros_like(indices) if copies is None else copies
    keys = draw_keys(seed, epochs, indices, copies)
    for position, operation in enumerate(policy.operations):
        purpose = 16 * position
        chosen: Tensor | None = None  # all
        if isinstance(operation, Flip) and operation.p == 0.5:
            # the same coin for an image in all epochs and copies, turned over at each next draw
            coin = draw_keys(seed, 0, indices, torch.zeros_like(indices))
            chosen = (uniform(coin, purpose) < 0.5) ^ ((copies + epochs) % 2 == 1)
        elif operation.p < 1:
            chosen = uniform(keys, purpose) < operation.p
        changed = _apply(images, operation, keys, purpose + 1)
        if chosen is not None:
            changed = torch.where(chosen[:, None, None, None], changed, images)
        images = changed
    return images


def _apply(images: Tensor, operation: Operation, keys: Tensor, purpose: int) -> Tensor:
    if isinstance(operation, Flip):
        return images.flip(3)
    if isinstance(operation, Affine):
        return _affine(images, operation, keys, purpose)
    if isinstance(operation, BrightnessContrast):
        return _brightness_contrast(images, operation, keys, purpose)
    if isinstance(operation, Sharpen):
        return _sharpen(images, operation, keys, purpose)
    return _erase(images, operation, keys, purpose)


def _affine(images: Tensor, operation: Affine, keys: Tensor, purpose: int) -> Tensor:
    height, width = images.shape[2:]
    limits = operation.shift_pixels(width), operation.shift_pixels(height)
    move_x, move_y = (
        integers_between(keys, purpose + axis, -limit, limit) for axis, limit in enumerate(limits)
    )
    if not operation.rotate and operation.scale == (1.0, 1.0):
        return _shift(images, move_x, move_y, *limits)
    angle = uniform_between(keys, purpose + 2, -operation.rotate, operation.rotate)
    angle = angle * (math.pi / 180)
    scale = uniform_between(keys, purpose + 3, *operation.scale)
    # where each output pixel comes from: undo the shift, then the rotation, then the scale; each
    # coordinate is a part that depends on the column plus one that depends on the row
    x, y = (
        torch.arange(side, device=images.device, dtype=images.dtype)
        - (side - 1) / 2
        - move[:, None]
        for side, move in ((width, move_x), (height, move_y))
    )
    cosine, sine = (angle.cos() / scale)[:, None], (angle.sin() / scale)[:, None]
    to_x, to_y = (2 / max(side - 1, 1) for side in (width, height))
    grid = images.new_empty(len(images), height, width, 2)
    for axis, (by_column, by_row) in enumerate(
        ((cosine * to_x * x, -sine * to_x * y), (sine * to_y * x, cosine * to_y * y))
    ):
        torch.add(by_column[:, None, :], by_row[:, :, None], out=grid[..., axis])
    moved = F.grid_sample(images, grid, "bilinear", padding_mode="border", align_corners=True)
    return moved.round_()


def _shift(images: Tensor, move_x: Tensor, move_y: Tensor, limit_x: int, limit_y: int) -> Tensor:
    """Move by whole pixels: each row is copied as one piece out of the padded images."""
    number, channels, height, width = images.shape
    padded = F.pad(images, (limit_x, limit_x, limit_y, limit_y), mode="replicate").contiguous()
    line = width + 2 * limit_x
    plane = line * (height + 2 * limit_y)
    pieces = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    planes = torch.arange(number * channels, device=images.device).view(number, channels) * plane
    corners = planes + ((limit_y - move_y) * line + (limit_x - move_x))[:, None]
    rows = corners[:, :, None] + torch.arange(height, device=images.device) * line
    return pieces.index_select(0, rows.view(-1)).view(images.shape)


def _brightness_contrast(
    images: Tensor, operation: BrightnessContrast, keys: Tensor, purpose: int
) -> Tensor:
    factor = 1 + uniform_between(keys, purpose, *operation.contrast)
    offset = 255 * uniform_between(keys, purpose + 1, *operation.brightness)
    changed = images * factor[:, None, None, None]
    return changed.add_(offset[:, None, None, None]).round_().clamp_(0, 255)


def _sharpen(images: Tensor, operation: Sharpen, keys: Tensor, purpose: int) -> Tensor:
    amount = uniform_between(keys, purpose, *operation.amount)[:, None, None, None]
    means = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return (images + 9 * amount * (images - means)).round_().clamp_(0, 255)


def _erase(images: Tensor, operation: Erase, keys: Tensor, purpose: int) -> Tensor:
    spans = []
    for axis, side in enumerate(images.shape[2:]):
        smallest, largest = operation.size_pixels(side)
        size = integers_between(keys, purpose + 2 * axis, smallest, min(largest, side))
        start = integers_between(keys, purpose + 2 * axis + 1, 0, side - size)
        pixels = torch.arange(side, device=images.device)
        spans.append((pixels >= start[:, None]) & (pixels < (start + size)[:, None]))
    rows, columns = spans
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
