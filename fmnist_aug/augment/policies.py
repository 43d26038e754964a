"""Augmentation policies as data: what is done, how strongly, how often.

A policy is a sequence of operations, each a small frozen value. `per_image.compose` turns it into
an albumentations pipeline, `batched.augment_batch` runs it on a whole batch of tensors; both draw
their parameters from the same ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from fmnist_aug.errors import UsageError
from fmnist_aug.plan import ConfusionPlan


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


@dataclass(frozen=True)
class Sharpen:
    """Raise fine detail: add ``amount`` times nine times the difference from the mean of 3 × 3.

    Attributes:
        amount: range, uniform.
        p: probability.
    """

    amount: tuple[float, float] = (0.0, 0.3)
    p: float = 1.0


Operation: TypeAlias = Flip | Affine | BrightnessContrast | Erase | Sharpen


@dataclass(frozen=True)
class Mix:
    """Mix in an image of another class, and its label in the same proportion.

    Attributes:
        partner: ``within``: of the other class of its confused pair; ``away``: of a class that
            it is not paired with; ``any``: of any other class.
        share: range of the partner's share, uniform.
        p: probability.
    """

    partner: Literal["within", "away", "any"]
    share: tuple[float, float] = (0.0, 0.5)
    p: float = 1.0


@dataclass(frozen=True)
class Policy:
    """A named sequence of operations.

    Attributes:
        name: for plans, files and the command line.
        description: for people.
        operations: applied in this order.
        mix: what is mixed in afterwards; labels then become probabilities.
        on_base: whether the base augmentation comes first.
    """

    name: str
    description: str
    operations: tuple[Operation, ...] = ()
    mix: Mix | None = None
    on_base: bool = True

    def then(self, other: Policy) -> Policy:
        """This policy, then another; neither may leave out the base augmentation, nor both mix."""
        if not self.does_something or not other.does_something:
            return other if not self.does_something else self
        return Policy(
            f"{self.name}+{other.name}",
            f"{self.description}; {other.description}",
            self.operations + other.operations,
            self.mix or other.mix,
        )

    @property
    def does_something(self) -> bool:
        """Whether an image may come out changed."""
        return bool(self.operations or self.mix)

    def scaled(self, strength: float) -> Policy:
        """The same operations with ranges that are ``strength`` times as far from doing nothing.

        >>> POLICIES["geometric"].scaled(0.5).operations[0].rotate
        4.0
        """
        if strength == 1:
            return self
        if strength == 0:  # even the smallest rectangle has a pixel
            return replace(self, operations=(), mix=None)
        mix = self.mix and replace(
            self.mix, share=(self.mix.share[0] * strength, min(self.mix.share[1] * strength, 1.0))
        )
        operations = tuple(_scale(operation, strength) for operation in self.operations)
        return replace(self, operations=operations, mix=mix)


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
            "erasing-mix",
            "black out a rectangle every other time, and every other time mix in up to half of an "
            "image of another class, by MixUp or CutMix, and its label with it",
            (Erase(),),
            mix=Mix("any", p=0.5),
        ),
        Policy(
            "buttons",
            "look at the buttons: zoom by 1.0 to 1.35 on the front of the garment, where its "
            "placket is, raise the contrast by up to 50 % and sharpen by up to 30 %",
            (
                Affine(scale=(1.0, 1.35), shift=1 / 28),
                BrightnessContrast(brightness=(-0.05, 0.05), contrast=(0.0, 0.5)),
                Sharpen(amount=(0.0, 0.3)),
            ),
        ),
        Policy(
            "mix-within",
            "mix in up to half of an image of the other class of the confused pair, by MixUp or "
            "CutMix, and its label with it",
            mix=Mix("within"),
        ),
        Policy(
            "mix-away",
            "mix in up to half of an image of a class outside the confused pair, by MixUp or "
            "CutMix, and its label with it",
            mix=Mix("away"),
        ),
        Policy("weaker", "the image as it is, without the base augmentation", on_base=False),
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


def plan_policy(plan: ConfusionPlan) -> Policy:
    """The policy of a plan's extra draws, as strong as the plan says.

    Raises:
        UsageError: an unknown policy.
    """
    return get_policy(plan.policy).scaled(plan.strength)


def base_policy(flip: bool, shift: int = 0, side: int = 28) -> Policy:
    """The augmentation that a data set's card allows for all of its images.

    Args:
        flip: whether mirrored images keep their label.
        shift: by how many pixels an image may be moved; in proportion along its other side.
        side: height of the images in pixels.
    """
    policy = POLICIES["flip"] if flip else POLICIES["none"]
    if shift:
        moved = Policy("shift", f"move by up to {shift} pixels", (Affine(shift=shift / side),))
        policy = policy.then(moved)
    return policy


def _scale(operation: Operation, strength: float) -> Operation:
    if isinstance(operation, Affine):
        # an image must not shrink to nothing, however strong
        low, high = (max(1 + (limit - 1) * strength, 0.2) for limit in operation.scale)
        rotate, shift = operation.rotate * strength, min(operation.shift * strength, 0.5)
        return replace(operation, rotate=rotate, scale=(low, high), shift=shift)
    if isinstance(operation, BrightnessContrast):
        (dark, light), (weak, strong) = (
            (max(low * strength, -1.0), high * strength)
            for low, high in (operation.brightness, operation.contrast)
        )
        return replace(operation, brightness=(dark, light), contrast=(weak, strong))
    if isinstance(operation, Erase):
        low, high = (min(limit * strength, 1.0) for limit in operation.size)
        return replace(operation, size=(low, high))
    if isinstance(operation, Sharpen):
        low, high = (min(limit * strength, 1.0) for limit in operation.amount)
        return replace(operation, amount=(low, high))
    return operation
