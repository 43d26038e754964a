"""Named augmentation policies, per image (albumentations) and on batches of tensors."""

from fmnist_aug.augment.batched import augment_batch
from fmnist_aug.augment.dataset import AugmentedDataset
from fmnist_aug.augment.per_image import compose
from fmnist_aug.augment.policies import POLICIES, Policy, base_policy, get_policy

__all__ = [
    "POLICIES",
    "AugmentedDataset",
    "Policy",
    "augment_batch",
    "base_policy",
    "compose",
    "get_policy",
]
