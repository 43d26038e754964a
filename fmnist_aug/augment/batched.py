"""The policies on whole batches of tensors, on any device, without touching global random state.

Images stay uint8 as long as they are only moved about: a quarter of the memory traffic of float32.
Nothing depends on how many images are changed, since counting them would make a GPU wait.
"""

from __future__ import annotations

import math
from operator import index
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fmnist_aug.augment.policies import (
    Affine,
    BrightnessContrast,
    Erase,
    Flip,
    Policy,
    Sharpen,
)
from fmnist_aug.augment.random_numbers import (
    Numbers,
    arange,
    as_tensor,
    between,
    coins,
    draw_keys,
    integers,
    uniforms,
)
from fmnist_aug.errors import DataError

_NUMBERS = {Flip: 0, Affine: 4, BrightnessContrast: 2, Sharpen: 1, Erase: 4}
"""How many random numbers an image takes, besides the one that says whether it is changed."""


def augment_batch(
    images: Tensor,
    policy: Policy,
    indices: Tensor,
    *,
    seed: int = 0,
    epochs: Tensor | int = 0,
    copies: Tensor | int = 0,
    inplace: bool = False,
) -> Tensor:
    """Augment a batch; what happens to an image depends on (seed, epoch, index, copy) alone.

    Args:
        images: uint8 or float32 (N, C, H, W), values 0–255.
        policy: what to do; what it mixes in is left to `mix_images`.
        indices: int64 (N,), each image's index in its data set.
        seed: another seed gives other augmentations.
        epochs: int64 (N,) or one number for all.
        copies: int64 (N,) or one number for all; 0 for regular draws, 1, 2, … for extra ones.
        inplace: the images may be overwritten, which saves a copy.

    Returns:
        (N, C, H, W), values 0–255: uint8 if uint8 images were only moved, mirrored or erased;
        else float32, computed values being whole numbers as in uint8 images.

    Raises:
        DataError: images of another shape or type, or another number of indices.
    """
    seed = index(seed)  # numpy's whole numbers would wrap around
    epochs, copies = (
        value if isinstance(value, Tensor) else index(value) for value in (epochs, copies)
    )
    if images.dim() != 4 or indices.shape != images.shape[:1]:
        raise DataError(
            "images (N, C, H, W) and indices (N,) are needed, not "
            f"{tuple(images.shape)} and {tuple(indices.shape)}"
        )
    if images.dtype not in (torch.uint8, torch.float32):
        raise DataError(f"the images must be uint8 or float32, values 0–255, not {images.dtype}")
    if not policy.operations or not len(images):
        return images
    images = images.contiguous()
    alternates = [isinstance(item, Flip) and item.p == 0.5 for item in policy.operations]
    keys = indices if all(alternates) else draw_keys(seed, epochs, indices, copies)
    for position, operation in enumerate(policy.operations):
        owned = inplace or position > 0  # what an operation returns is a batch of its own
        if alternates[position]:
            # the same coin for an image in all epochs and copies, turned over at each next draw
            coin: Any = coins(seed, indices, 16 * position)
            turned: Any = (copies + epochs) % 2 == 1
            if isinstance(coin, np.ndarray) and isinstance(turned, Tensor):
                turned = turned.numpy()
            images = _mirror(images, coin ^ turned, owned)
            continue
        count = _NUMBERS[type(operation)]
        chosen: Any = None  # all
        if operation.p < 1:  # one call for all numbers: for so few the call is what takes time
            whether, *numbers = uniforms(keys, 16 * position, 1 + count)
            chosen = whether < operation.p
        else:
            numbers = list(uniforms(keys, 16 * position + 1, count))
        if isinstance(operation, Erase):
            images = _erase(images, operation, numbers, chosen)
        elif isinstance(operation, Flip):
            images = images.flip(3) if chosen is None else _mirror(images, chosen, owned)
        else:
            changed = _apply(images, operation, numbers)
            images = changed if chosen is None else _select(chosen, changed, images)
    return images


def _mirror(images: Tensor, chosen: NDArray[np.bool_] | Tensor, inplace: bool) -> Tensor:
    """Mirror the images that are chosen, bool (N,)."""
    if isinstance(chosen, Tensor):  # to count them would make a GPU wait
        return _select(chosen, images.flip(3), images)
    mirrored = images.numpy()
    if not inplace:
        mirrored = mirrored.copy()
    places = chosen.nonzero()[0]
    # rows must consist of bytes that lie in order
    if mirrored.dtype == np.uint8 and mirrored.flags.c_contiguous:
        # all of an image's bytes in reverse, then its rows, an item each, in reverse again: faster
        # than to reverse the bytes of each row
        flat, row = mirrored.reshape(len(mirrored), -1), f"V{mirrored.shape[3]}"
        reverse = torch.from_numpy(flat.take(places, 0)).flip(1).numpy()
        flat.view(row)[places] = reverse.view(row)[:, ::-1]
    else:
        mirrored[places] = torch.from_numpy(mirrored.take(places, 0)).flip(3).numpy()
    return torch.from_numpy(mirrored)


def _select(chosen: Numbers, changed: Tensor, images: Tensor) -> Tensor:
    """The changed ones of the images that are chosen, bool (N,), and the others as they are."""
    if changed.dtype != torch.uint8:
        return torch.where(as_tensor(chosen)[:, None, None, None], changed, images)
    # all bits or none; several times as fast as torch.where
    bits = as_tensor(-chosen.view(torch.uint8 if isinstance(chosen, Tensor) else np.uint8))
    return (images ^ changed).bitwise_and_(bits[:, None, None, None]).bitwise_xor_(images)


def _apply(
    images: Tensor,
    operation: Affine | BrightnessContrast | Sharpen,
    numbers: list[Numbers],
) -> Tensor:
    """All images changed; ``numbers`` are uniform in [0, 1), float32 (N,) each."""
    if isinstance(operation, Affine):
        return _affine(images, operation, numbers)
    if isinstance(operation, BrightnessContrast):
        return _brightness_contrast(images, operation, numbers)
    return _sharpen(images, operation, numbers)


def _affine(images: Tensor, operation: Affine, numbers: list[Numbers]) -> Tensor:
    height, width = images.shape[2:]
    limits = operation.shift_pixels(width), operation.shift_pixels(height)
    move_x, move_y = (integers(numbers[axis], -limits[axis], limits[axis]) for axis in (0, 1))
    if not operation.rotate and operation.scale == (1.0, 1.0):
        return _shift(images, as_tensor(move_x), as_tensor(move_y), limits[0])
    angle = between(numbers[2], -operation.rotate, operation.rotate) * (math.pi / 180)
    scale = between(numbers[3], *operation.scale)
    # where each output pixel comes from: undo the shift, then the rotation, then the scale; as
    # complex numbers x + iy, a part that depends on the column plus one that depends on the row
    turn = torch.polar(as_tensor(2 / max(width - 1, 1) / scale), as_tensor(angle))
    columns, rows = (
        torch.arange(side, dtype=torch.float32, device=turn.device).sub_((side - 1) / 2)
        for side in (width, height)
    )
    moves = torch.complex(as_tensor(move_x).float(), as_tensor(move_y).float()).mul_(turn)
    by_column = turn[:, None] * columns
    by_row = (1j * turn)[:, None] * rows
    grid = torch.view_as_real(by_column[:, None, :] + by_row.sub_(moves[:, None])[:, :, None])
    if height != width:  # so far in halves of the width; a pass that most images are spared
        grid[..., 1] *= max(width - 1, 1) / max(height - 1, 1)
    moved = F.grid_sample(
        images.float(), grid, "bilinear", padding_mode="border", align_corners=True
    )
    return moved.round_()


def _shift(images: Tensor, move_x: Tensor, move_y: Tensor, limit: int) -> Tensor:
    """Move by whole pixels, up to ``limit`` sideways: rows are copied out of wider images."""
    number, channels, height, width = images.shape
    line = width + 2 * limit
    wide = images.new_empty(number, channels, height, line)
    wide[..., limit : limit + width] = images
    wide[..., :limit] = images[..., :1]
    wide[..., limit + width :] = images[..., -1:]
    pieces = wide.as_strided((wide.numel() - width + 1, width), (1, 1))
    planes = torch.arange(number * channels, device=images.device).view(number, channels, 1)
    rows = (torch.arange(height, device=images.device) - move_y[:, None]).clamp_(0, height - 1)
    starts = (planes * height + rows[:, None]) * line + (limit - move_x)[:, None, None]
    return pieces.index_select(0, starts.view(-1)).view(images.shape)


def _brightness_contrast(
    images: Tensor, operation: BrightnessContrast, numbers: list[Numbers]
) -> Tensor:
    factor = as_tensor(1 + between(numbers[0], *operation.contrast))[:, None, None, None]
    offset = as_tensor(255 * between(numbers[1], *operation.brightness))[:, None, None, None]
    # a new tensor also for float images, which must not change
    changed = images * factor if images.is_floating_point() else images.float().mul_(factor)
    return changed.add_(offset).round_().clamp_(0, 255)


def _sharpen(images: Tensor, operation: Sharpen, numbers: list[Numbers]) -> Tensor:
    amount = as_tensor(between(numbers[0], *operation.amount))[:, None, None, None]
    images = images.float()
    sums = _sums_of_three(_sums_of_three(images, 2), 3)
    difference = sums.sub_(images, alpha=9).mul_(-amount)
    return difference.add_(images).round_().clamp_(0, 255)


def _sums_of_three(images: Tensor, axis: int) -> Tensor:
    """Each value and its two neighbours along an axis, which is mirrored at its ends."""
    side = images.shape[axis]
    inner = min(1, side - 1)
    sums = images.clone()
    sums.narrow(axis, 1, side - 1).add_(images.narrow(axis, 0, side - 1))
    sums.narrow(axis, 0, side - 1).add_(images.narrow(axis, 1, side - 1))
    sums.narrow(axis, 0, 1).add_(images.narrow(axis, inner, 1))
    sums.narrow(axis, side - 1, 1).add_(images.narrow(axis, side - 1 - inner, 1))
    return sums


def _erase(
    images: Tensor, operation: Erase, numbers: list[Numbers], chosen: Numbers | None
) -> Tensor:
    """Black out a rectangle of the images that are chosen, bool (N,), or of all."""
    height, width = images.shape[2:]
    kept = []  # of each axis: bool (N, side), what lies before the rectangle or behind it
    for axis, side in enumerate((height, width)):
        smallest, largest = operation.size_pixels(side)
        size = integers(numbers[2 * axis], smallest, min(largest, side))
        start = integers(numbers[2 * axis + 1], 0, side - size)
        pixels = arange(side, size)
        kept.append((pixels < start[:, None]) | (pixels >= (start + size)[:, None]))
    if chosen is not None:
        kept[0] |= ~chosen[:, None]
    # pixels are kept by all their bits or none, and by fours where rows consist of whole words
    pixel = torch.uint8 if images.dtype == torch.uint8 else torch.int32
    steps = (width, images.storage_offset(), *images.stride()[:3])
    whole = all(images.element_size() * step % 4 == 0 for step in steps)
    word = torch.int32 if whole else pixel
    rows = as_tensor(kept[0]).to(word).neg_()[:, None, :, None]
    columns = as_tensor(kept[1]).to(pixel).neg_().view(word)[:, None, None, :]
    return (images.view(word) & (rows | columns)).view(images.dtype)
