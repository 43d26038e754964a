"""Samples of what the augmentations do, for people to look at."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist_aug.augment.batched import augment_batch
from fmnist_aug.augment.mixing import Partners, mix_images
from fmnist_aug.augment.policies import Operation, Policy, get_policy, plan_policy
from fmnist_aug.augment.random_numbers import draw_keys
from fmnist_aug.comparison.arms import base_augmentation
from fmnist_aug.data import ImageDataset
from fmnist_aug.errors import DataError
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.text import class_title


def augmented_samples(
    train: ImageDataset,
    plan: ConfusionPlan,
    classes: Sequence[int],
    *,
    augment: str = "none",
    images_per_class: int = 1,
    copies: int = 7,
) -> list[tuple[str, NDArray[np.uint8]]]:
    """For some training images: the original, then what each augmentation makes of it.

    Shown are the base augmentation (all draws of uniform and targeted) and, if the plan draws any
    image more often, each operation of the targeted policy alone if there are several, and both
    together as the extra draws get them.

    Args:
        train: the training images.
        plan: names the targeted policy.
        classes: of which to show images.
        augment: name of the policy that followed the data set's base augmentation.
        images_per_class: the first so many.
        copies: augmented versions of each.

    Returns:
        A caption and uint8 (1 + copies, H, W, C) for each image and augmentation.
    """
    base = base_augmentation(train, augment)
    targeted = plan_policy(plan)
    nothing = get_policy("none")
    pairs = [(pair.first, pair.second) for pair in plan.pairs]
    parts = [Policy(_words(part), targeted.description, (part,)) for part in targeted.operations]
    shown = []
    if base.does_something:
        shown.append((base, nothing, f"all draws: {base.description}"))
    if any(plan.extra_draws):
        if len(parts) > 1:
            shown += [(nothing, part, f"{part.name} alone") for part in parts]
        shown.append((base, targeted, f"extra draws: {_together(base, targeted).description}"))
    return [
        (
            f"{class_title(train.class_names[label], label)}, {words}",
            _augment(train, int(index), first, second, copies, pairs=pairs),
        )
        for label in classes
        for index in np.flatnonzero(train.labels == label)[:images_per_class]
        for first, second, words in shown
    ]


def policy_samples(
    train: ImageDataset,
    policies: Sequence[Policy],
    classes: Sequence[int],
    *,
    images_per_class: int = 1,
    copies: int = 8,
    seed: int = 0,
) -> list[tuple[Policy, list[tuple[int, NDArray[np.uint8]]]]]:
    """For each policy and the same images of each class: the original, then what becomes of it.

    Args:
        train: where the images come from.
        policies: what to show, each by itself; of a single class, those that mix are passed over.
        classes: indices of the classes; those without images are passed over.
        images_per_class: how many images of each, chosen by ``seed``.
        copies: how many augmented copies of each image.
        seed: another seed gives other images and augmentations.

    Returns:
        For each policy the class and uint8 (1 + copies, H, W, C) of each image.

    Raises:
        DataError: all policies mix, and there is a single class.
    """
    chosen = [
        (label, int(index))
        for label in classes
        for index in np.random.default_rng([seed, label]).permutation(
            np.flatnonzero(train.labels == label)
        )[:images_per_class]
    ]
    nothing = get_policy("none")
    pairs = list(itertools.combinations(train.card.focus, 2))
    if len(np.unique(train.labels)) < 2:
        policies = [policy for policy in policies if not policy.mix]
        if not policies:
            raise DataError(f"{train.card.title} has images of one class only: none can be mixed")
    return [
        (
            policy,
            [
                (label, _augment(train, index, nothing, policy, copies, seed, pairs))
                for label, index in chosen
            ],
        )
        for policy in policies
    ]


def _together(base: Policy, targeted: Policy) -> Policy:
    return base.then(targeted) if targeted.on_base and not targeted.mix else targeted


def _words(operation: Operation) -> str:
    """An operation's name in words.

    >>> from fmnist_aug.augment.policies import BrightnessContrast
    >>> _words(BrightnessContrast())
    'brightness contrast'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", " ", type(operation).__name__).lower()


def _augment(
    train: ImageDataset,
    index: int,
    base: Policy,
    targeted: Policy,
    copies: int,
    seed: int = 0,
    pairs: Sequence[tuple[int, int]] = (),
) -> NDArray[np.uint8]:
    numbers = torch.arange(1, copies + 1)

    def draw(indices: Tensor) -> Tensor:
        batch = torch.from_numpy(train.images[indices.numpy()].transpose(0, 3, 1, 2)).float()
        if targeted.on_base:
            batch = augment_batch(batch, base, indices, seed=seed, copies=numbers)
        return augment_batch(batch, targeted, indices, seed=seed + 1, copies=numbers)

    indices = torch.full((copies,), index)
    batch = draw(indices)
    if mix := targeted.mix or (base.mix if targeted.on_base else None):
        keys = draw_keys(seed + 1, 0, indices, numbers)
        partners = Partners(train.labels, train.num_classes, pairs, mix.partner)
        others = draw(partners.choose(keys, indices))
        batch, _ = mix_images(batch, others, mix, keys)
    augmented = batch.numpy().transpose(0, 2, 3, 1).astype(np.uint8)
    return np.concatenate([train.images[index][None], augmented])
