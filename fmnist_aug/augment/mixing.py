"""Mixing an image with one of another class: MixUp and CutMix with a partner from the plan.

Which partner, how much of it and which rectangle depends on (seed, epoch, index, copy) alone, as
for all augmentations. albumentations knows no labels, so one implementation serves whole batches
and, with batches of one, single images.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fmnist_aug.augment.policies import Mix
from fmnist_aug.augment.random_numbers import integers_between, uniform, uniform_between
from fmnist_aug.errors import DataError
from fmnist_aug.labels import check_known

_PURPOSE = 1 << 10
"""Beyond the purposes of a policy's operations, so that no random number is used twice."""


class Partners:
    """For each class the images that may be mixed into its own.

    ``within``: those of the classes with which it makes a confused pair; ``away``: those of the
    classes with which it makes none; ``any``: those of all other classes. A class in no pair, or
    without such partners, takes all other classes, so that the traces of mixing don't tell a
    planned class from the others.

    Args:
        labels: int64 (images,).
        num_classes: number of classes.
        pairs: of class indices, the plan's.
        where: ``within``, ``away`` or ``any``.
        device: on which partners are chosen.
        unseen: bool (images,), those that must not be mixed in; None for none.

    Raises:
        DataError: a class with images has no other to take partners of, or a label is none of the
            classes'.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        num_classes: int,
        pairs: Iterable[tuple[int, int]],
        where: str,
        device: torch.device | str = "cpu",
        unseen: NDArray[np.bool_] | None = None,
    ) -> None:
        check_known(labels, num_classes)
        usable = np.ones(len(labels), bool) if unseen is None else ~unseen
        paired = np.zeros((num_classes, num_classes), bool)
        for first, second in pairs:
            paired[first, second] = paired[second, first] = True
        others = ~np.eye(num_classes, dtype=bool)
        allowed = {"within": paired, "away": others & ~paired, "any": others}[where]
        has_images = np.bincount(labels[usable], minlength=num_classes) > 0
        bound = np.asarray(paired.any(axis=1) & (allowed & has_images).any(axis=1))
        allowed = np.where(bound[:, None], allowed, others)
        pools = [np.flatnonzero(usable & allowed[label][labels]) for label in range(num_classes)]
        sizes = np.array([len(pool) for pool in pools])
        if (sizes[np.unique(labels)] == 0).any():
            raise DataError("only images of several classes can be mixed, and there is but one")
        self.pool = torch.from_numpy(np.concatenate(pools)).to(device)
        self.starts = torch.from_numpy(np.cumsum(sizes) - sizes).to(device)
        self.sizes = torch.from_numpy(sizes).to(device)
        self.labels = torch.from_numpy(labels).to(device)

    def choose(self, keys: Tensor, indices: Tensor) -> Tensor:
        """A partner for each draw, int64 (N,): indices of images.

        Args:
            keys: int64 (N,), from `draw_keys`.
            indices: int64 (N,), each draw's image.
        """
        label = self.labels[indices]
        return self.pool[
            self.starts[label] + integers_between(keys, _PURPOSE, 0, self.sizes[label] - 1)
        ]


def mix_images(
    images: Tensor, partners: Tensor, operation: Mix, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Mix partners into images, by half MixUp (arXiv 1710.09412), by half CutMix (1905.04899).

    Args:
        images: float (N, C, H, W), values 0–255.
        partners: likewise.
        operation: how much of the partner.
        keys: int64 (N,), from `draw_keys`.

    Returns:
        float (N, C, H, W), values 0–255, whole numbers, and float (N,), the share of the partner
        in each image; with CutMix the share of the pixels that are the partner's.
    """
    height, width = images.shape[2:]
    share = uniform_between(keys, _PURPOSE + 1, *operation.share)
    blended = images + (partners - images) * share[:, None, None, None]
    spans, area = [], torch.ones_like(share)
    for axis, side in enumerate((height, width)):
        size = (share.sqrt() * side).round().long()
        start = integers_between(keys, _PURPOSE + 2 + axis, 0, side - size)
        pixels = torch.arange(side, device=images.device)
        spans.append((pixels >= start[:, None]) & (pixels < (start + size)[:, None]))
        area = area * size / side
    rows, columns = spans
    pasted = torch.where((rows[:, :, None] & columns[:, None, :])[:, None], partners, images)
    cut = uniform(keys, _PURPOSE + 4) < 0.5
    mixed = torch.where(cut[:, None, None, None], pasted, blended.round())
    share = torch.where(cut, area, share)
    if operation.p < 1:
        chosen = uniform(keys, _PURPOSE + 5) < operation.p
        mixed = torch.where(chosen[:, None, None, None], mixed, images)
        share = share * chosen
    return mixed, share


def soft_labels(labels: Tensor, partner_labels: Tensor, share: Tensor, num_classes: int) -> Tensor:
    """Probabilities float32 (N, classes): 1 − share for the image's class, share for the partner's.

    Args:
        labels: int64 (N,).
        partner_labels: int64 (N,).
        share: float (N,), 0 for images that were not mixed.
        num_classes: number of classes.
    """
    own, other = (F.one_hot(values, num_classes).float() for values in (labels, partner_labels))
    return own + (other - own) * share[:, None]
