"""The policies on whole batches of tensors, on any device, without touching global random state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fmnist_aug.augment.policies import Affine, BrightnessContrast, Erase, Flip, Operation, Policy
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
        if isinstance(operation, Flip) and operation.p == 0.5:
            # the same coin for an image in all epochs and copies, turned over at each next draw
            coin = draw_keys(seed, 0, indices, torch.zeros_like(indices))
            chosen = (uniform(coin, purpose) < 0.5) ^ ((copies + epochs) % 2 == 1)
        else:
            chosen = uniform(keys, purpose) < operation.p
        changed = _apply(images, operation, keys, purpose + 1)
        images = torch.where(chosen[:, None, None, None], changed, images)
    return images


def _apply(images: Tensor, operation: Operation, keys: Tensor, purpose: int) -> Tensor:
    if isinstance(operation, Flip):
        return images.flip(3)
    if isinstance(operation, Affine):
        return _affine(images, operation, keys, purpose)
    if isinstance(operation, BrightnessContrast):
        return _brightness_contrast(images, operation, keys, purpose)
    return _erase(images, operation, keys, purpose)


def _affine(images: Tensor, operation: Affine, keys: Tensor, purpose: int) -> Tensor:
    height, width = images.shape[2:]
    limits = operation.shift_pixels(width), operation.shift_pixels(height)
    move_x, move_y = (
        integers_between(keys, purpose + axis, -limit, limit).to(images.dtype)
        for axis, limit in enumerate(limits)
    )
    angle = uniform_between(keys, purpose + 2, -operation.rotate, operation.rotate)
    angle = angle * (math.pi / 180)
    scale = uniform_between(keys, purpose + 3, *operation.scale)
    # where each output pixel comes from: undo the shift, then the rotation, then the scale
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2,
        torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2,
        indexing="ij",
    )
    x = x[None] - move_x[:, None, None]
    y = y[None] - move_y[:, None, None]
    cosine, sine = (angle.cos() / scale)[:, None, None], (angle.sin() / scale)[:, None, None]
    grid = torch.stack(
        (
            (cosine * x - sine * y) * (2 / max(width - 1, 1)),
            (sine * x + cosine * y) * (2 / max(height - 1, 1)),
        ),
        dim=3,
    )
    moved = F.grid_sample(images, grid, "bilinear", padding_mode="border", align_corners=True)
    return moved.round()


def _brightness_contrast(
    images: Tensor, operation: BrightnessContrast, keys: Tensor, purpose: int
) -> Tensor:
    factor = 1 + uniform_between(keys, purpose, *operation.contrast)
    offset = 255 * uniform_between(keys, purpose + 1, *operation.brightness)
    changed = images * factor[:, None, None, None] + offset[:, None, None, None]
    return changed.round().clamp(0, 255)


def _erase(images: Tensor, operation: Erase, keys: Tensor, purpose: int) -> Tensor:
    inside = None
    for axis, side in enumerate(images.shape[2:]):
        smallest, largest = operation.size_pixels(side)
        size = integers_between(keys, purpose + 2 * axis, smallest, min(largest, side))
        start = integers_between(keys, purpose + 2 * axis + 1, 0, side - size)
        pixels = torch.arange(side, device=images.device)[None]
        span = (pixels >= start[:, None]) & (pixels < (start + size)[:, None])
        inside = span if inside is None else inside[:, :, None] & span[:, None, :]
    assert inside is not None  # images have two axes
    return images.masked_fill(inside[:, None], 0.0)
