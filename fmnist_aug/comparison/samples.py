"""Samples of what the augmentations do, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist_aug.augment.batched import augment_batch
from fmnist_aug.augment.policies import Policy, plan_policy
from fmnist_aug.comparison.arms import base_augmentation
from fmnist_aug.data import ImageDataset
from fmnist_aug.plan import ConfusionPlan


def augmented_samples(
    train: ImageDataset,
    plan: ConfusionPlan,
    classes: Sequence[int],
    *,
    images_per_class: int = 2,
    copies: int = 7,
) -> list[tuple[str, NDArray[np.uint8]]]:
    """For some training images: the original, then what the extra draws make of it.

    Returns:
        A caption and uint8 (1 + copies, H, W, C) for each image.
    """
    base = base_augmentation(train)
    targeted = plan_policy(plan)
    return [
        (
            f"{train.class_names[label]}: the original, then {base.name} + {targeted.name}",
            _augment(train.images[index], int(index), base, targeted, copies),
        )
        for label in classes
        for index in np.flatnonzero(train.labels == label)[:images_per_class]
    ]


def _augment(
    image: NDArray[np.uint8], index: int, base: Policy, targeted: Policy, copies: int
) -> NDArray[np.uint8]:
    batch = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))
    batch = batch.expand(copies, *batch.shape)
    indices = torch.full((copies,), index)
    numbers = torch.arange(1, copies + 1)
    batch = augment_batch(batch, base, indices, copies=numbers)
    batch = augment_batch(batch, targeted, indices, seed=1, copies=numbers)
    augmented = batch.numpy().transpose(0, 2, 3, 1).astype(np.uint8)
    return np.concatenate([image[None], augmented])
