"""Augmentation policies as data: what is done, how strongly, how often.

A policy is a sequence of operations, each a small frozen value. `per_image.compose` turns it into
an albumentations pipeline, `batched.augment_batch` runs it on a whole batch of tensors; both draw
their parameters from the same ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fmnist_aug.errors import UsageError


@dataclass(frozen=True)
class Flip:
    """Mirror left and right.

    Attributes:
        p: probability. On batches with p = 0.5 an image alternates: of its draws in two
            consecutive epochs one is mirrored (arXiv 2404.00498 found that better than chance).
    """

    p: float = 0.5


@dataclass(frozen=True)
class Affine:
    """Rotate, scale and shift about the image's centre; the border's pixels are repeated.

    Attributes:
        rotate: largest angle in degrees, either way, uniform.
        scale: range of the uniform scale factor; > 1 enlarges.
        shift: largest shift as a share of the side, uniform over whole pixels, either way, in x
            and y apart.
        p: probability.
    """

    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    p: float = 1.0

    def shift_pixels(self, side: int) -> int:
        """Largest shift in whole pixels for an image of that side."""
        return round(self.shift * side)


@dataclass(frozen=True)
class BrightnessContrast:
    """Multiply all values by 1 + contrast and add brightness · 255, cut to 0–255.

    Attributes:
        brightness: range, uniform.
        contrast: range, uniform.
        p: probability.
    """

    brightness: tuple[float, float] = (0.0, 0.0)
    contrast: tuple[float, float] = (0.0, 0.0)
    p: float = 1.0


@dataclass(frozen=True)
class Erase:
    """Set one rectangle to black (Random Erasing, arXiv 1708.04896).

    Attributes:
        size: range of the rectangle's height and width, each as a share of the side and uniform
            over whole pixels.
        p: probability.
    """

    size: tuple[float, float] = (0.14, 0.43)
    p: float = 0.5

    def size_pixels(self, side: int) -> tuple[int, int]:
        """Smallest and largest size in whole pixels for an image of that side."""
        return max(1, round(self.size[0] * side)), max(1, round(self.size[1] * side))


Operation: TypeAlias = Flip | Affine | BrightnessContrast | Erase


@dataclass(frozen=True)
class Policy:
    """A named sequence of operations.

    Attributes:
        name: for plans, files and the command line.
        description: for people.
        operations: applied in this order.
    """

    name: str
    description: str
    operations: tuple[Operation, ...] = ()

    def then(self, other: Policy) -> Policy:
        """This policy followed by another."""
        if not self.operations or not other.operations:
            return other if not self.operations else self
        return Policy(
            f"{self.name}+{other.name}",
            f"{self.description}; {other.description}",
            self.operations + other.operations,
        )


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("none", "the image as it is"),
        Policy("flip", "mirror every other time", (Flip(),)),
        Policy("shift", "move by up to 2 of 28 pixels", (Affine(shift=2 / 28),)),
        Policy(
            "geometric",
            "rotate by up to 8°, scale by 0.9 to 1.1, move by up to 1 of 28 pixels",
            (Affine(rotate=8.0, scale=(0.9, 1.1), shift=1 / 28),),
        ),
        Policy(
            "photometric",
            "change brightness by up to 10 % and contrast by up to 30 %",
            (BrightnessContrast(brightness=(-0.1, 0.1), contrast=(-0.3, 0.3)),),
        ),
        Policy(
            "erasing",
            "black out a rectangle of 4 to 12 of 28 pixels a side, every other time",
            (Erase(),),
        ),
        Policy(
            "buttons",
            "look at the buttons: zoom by 1.0 to 1.35 on the front of the garment and raise the "
            "contrast by up to 50 %",
            (
                Affine(scale=(1.0, 1.35), shift=1 / 28),
                BrightnessContrast(brightness=(-0.05, 0.05), contrast=(0.0, 0.5)),
            ),
        ),
    )
}


def get_policy(name: str) -> Policy:
    """The policy of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return POLICIES[name]
    except KeyError:
        raise UsageError(
            f"unknown augmentation policy {name!r}; choose one of {', '.join(POLICIES)}"
        ) from None


def base_policy(flip: bool, shift: int = 0, side: int = 28) -> Policy:
    """The augmentation that a data set's card allows for all of its images.

    Args:
        flip: whether mirrored images keep their label.
        shift: by how many pixels an image may be moved.
        side: height of the images in pixels.
    """
    policy = POLICIES["flip"] if flip else POLICIES["none"]
    if shift:
        moved = Policy("shift", f"move by up to {shift} pixels", (Affine(shift=shift / side),))
        policy = policy.then(moved)
    return policy
