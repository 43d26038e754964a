"""The policies as albumentations pipelines, for one image at a time in anybody's ``DataLoader``."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.augment.policies import (
    Affine,
    BrightnessContrast,
    Flip,
    Operation,
    Policy,
    Sharpen,
)

if TYPE_CHECKING:
    from albumentations import Compose


def compose(policy: Policy, image_size: tuple[int, int] = (28, 28)) -> Compose:
    """An albumentations ``Compose`` that does what the policy says.

    It is left unseeded; hand it generators (`apply_seeded` does) or seed it in each worker:
    albumentations 2.0.8 otherwise repeats itself in every worker and epoch.

    Args:
        policy: what to do; one image at a time has none to mix in, so that is left out.
        image_size: height and width of the images in pixels.

    >>> pipeline = compose(Policy("mirror", "always mirrored", (Flip(p=1.0),)))
    >>> pipeline(image=np.arange(3, dtype=np.uint8).reshape(1, 3, 1))["image"].ravel().tolist()
    [2, 1, 0]
    """
    albumentations = _albumentations()
    return albumentations.Compose(
        [_transform(albumentations, operation, image_size) for operation in policy.operations],
        strict=True,
    )


def apply_seeded(
    pipeline: Compose, image: NDArray[np.uint8], key: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Augment one image, uint8 (H, W, C), as ``key`` alone decides; global state is not touched.

    Args:
        pipeline: any albumentations ``Compose``.
        image: the image. Not changed.
        key: whole numbers ≥ 0, such as (seed, epoch, index, copy).
    """
    generator = np.random.default_rng(key)
    pipeline.set_random_state(generator, random.Random(int(generator.integers(1 << 63))))
    changed: NDArray[np.uint8] = pipeline(image=image)["image"]
    return changed


def _albumentations() -> Any:
    # importing albumentations 2.0.8 asks the package index for updates unless this is set before
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _transform(albumentations: Any, operation: Operation, image_size: tuple[int, int]) -> Any:
    height, width = image_size
    if isinstance(operation, Flip):
        return albumentations.HorizontalFlip(p=operation.p)
    if isinstance(operation, Affine):
        import cv2

        x, y = operation.shift_pixels(width), operation.shift_pixels(height)
        return albumentations.Affine(
            rotate=(-operation.rotate, operation.rotate),
            scale=operation.scale,
            keep_ratio=True,
            translate_px={"x": (-x, x), "y": (-y, y)},
            border_mode=cv2.BORDER_REPLICATE,
            p=operation.p,
        )
    if isinstance(operation, BrightnessContrast):
        return albumentations.RandomBrightnessContrast(
            brightness_limit=operation.brightness,
            contrast_limit=operation.contrast,
            p=operation.p,
        )
    if isinstance(operation, Sharpen):
        return albumentations.Sharpen(alpha=operation.amount, lightness=(1.0, 1.0), p=operation.p)
    return albumentations.CoarseDropout(
        num_holes_range=(1, 1),
        hole_height_range=operation.size_pixels(height),
        hole_width_range=operation.size_pixels(width),
        fill=0,
        p=operation.p,
    )
