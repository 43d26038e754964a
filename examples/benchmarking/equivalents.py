"""Our policies in the terms of other libraries, as near as they come."""

from typing import Any

from torchvision.transforms import v2

from fmnist_aug.augment import Policy
from fmnist_aug.augment.policies import (
    Affine,
    BrightnessContrast,
    Erase,
    Flip,
    Operation,
    Sharpen,
)


def torchvision_transform(policy: Policy) -> v2.Transform:
    return v2.Compose([_torchvision(operation) for operation in policy.operations])


def _torchvision(operation: Operation) -> v2.Transform:
    match operation:
        case Flip(p=p):
            return v2.RandomHorizontalFlip(p)
        case Affine(rotate=rotate, scale=scale, shift=shift):
            return v2.RandomAffine(
                rotate, (shift, shift), scale, interpolation=v2.InterpolationMode.BILINEAR
            )
        case BrightnessContrast(brightness=brightness, contrast=contrast):
            return v2.ColorJitter(
                brightness=(1 + brightness[0], 1 + brightness[1]),
                contrast=(1 + contrast[0], 1 + contrast[1]),
            )
        case Erase(size=(low, high), p=p):
            return v2.RandomErasing(p, (low**2, high**2), (low / high, high / low))
        case Sharpen(amount=(low, high), p=p):  # torchvision draws no amount
            return v2.RandomAdjustSharpness(1 + (low + high) / 2, p)
    raise NotImplementedError(f"no equivalent of {operation}")


def kornia_modules(policy: Policy) -> list[Any]:
    return [module for operation in policy.operations for module in _kornia(operation)]


def kornia_normalisation(mean: float, std: float) -> Any:
    from kornia import enhance

    return enhance.Normalize(mean, std)


def _kornia(operation: Operation) -> list[Any]:
    from kornia import augmentation

    match operation:
        case Flip(p=p):
            return [augmentation.RandomHorizontalFlip(p=p)]
        case Affine(rotate=rotate, scale=scale, shift=shift):
            return [
                augmentation.RandomAffine(
                    rotate, (shift, shift), scale, padding_mode="border", p=operation.p
                )
            ]
        case BrightnessContrast(brightness=brightness, contrast=contrast):
            return [
                augmentation.RandomBrightness((1 + brightness[0], 1 + brightness[1]), p=1.0),
                augmentation.RandomContrast((1 + contrast[0], 1 + contrast[1]), p=1.0),
            ]
        case Erase(size=(low, high), p=p):
            return [augmentation.RandomErasing((low**2, high**2), (low / high, high / low), p=p)]
        case Sharpen(amount=amount, p=p):
            return [augmentation.RandomSharpness(amount, p=p)]
    raise NotImplementedError(f"no equivalent of {operation}")
