"""`AugmentedDataset`: any map-style data set, augmented by draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from fmnist_aug.augment.mixing import Partners, mix_images, soft_labels
from fmnist_aug.augment.per_image import apply_seeded, compose
from fmnist_aug.augment.policies import Policy, get_policy, plan_policy
from fmnist_aug.augment.random_numbers import draw_keys
from fmnist_aug.checks import whole_number
from fmnist_aug.data.folders import flatten
from fmnist_aug.errors import DataError, UsageError
from fmnist_aug.labels import find_labels
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.sampler import AugmentedIndex

_ROUNDING = 1e-3
"""By how much floats that were resized may leave 0–1; normalised ones leave it further."""

if TYPE_CHECKING:
    from albumentations import Compose


class AugmentedDataset(Dataset[tuple[Any, Any]]):
    """Wraps a data set so that regular draws get one augmentation and extra draws another on top.

    Meant for the indices of an `AugmentationSampler`; a plain index counts as a regular draw of
    epoch 0. So wrap a ``Subset`` in it, and not it in a ``Subset``, which passes plain ones on.
    What happens to an image depends on (seed, epoch, index, copy) alone, so it is the same for any
    number of workers.

    Args:
        dataset: map-style, giving (image, label, …). The image may be uint8 (H, W, C) or (H, W),
            a PIL image (with a palette it becomes RGB), or a tensor (C, H, W), uint8 or float in
            0–1. Put normalisation into ``transform``, not before.
        targeted: for extra draws: a policy's name, a `Policy`, a `ConfusionPlan` (its policy is
            taken), an albumentations ``Compose``, or None. A policy that mixes images needs the
            plan, for its pairs, and makes every label a float32 tensor (classes,) of
            probabilities, as ``cross_entropy`` takes it; that of an image without a partner has a
            single 1.
        base: for all draws, likewise.
        seed: another seed gives other augmentations.
        transform: what makes the network's input of the augmented image, uint8 (H, W, C); by
            default a float32 tensor (C, H, W) in 0–1.

    Raises:
        UsageError: an unknown policy, one that mixes without a plan or for all draws, something
            that is no policy, or a seed that is negative or not whole.
        DataError: when an image is drawn that is none of the above, or that a ``Compose`` makes
            anything but uint8 (H, W, C) of.

    >>> data = [(np.zeros((28, 28, 1), np.uint8), 6)]
    >>> image, label = AugmentedDataset(data, "buttons", base="flip")[0]
    >>> image.shape, label
    (torch.Size([1, 28, 28]), 6)
    """

    def __init__(
        self,
        dataset: Any,
        targeted: str | Policy | ConfusionPlan | Compose | None = None,
        *,
        base: str | Policy | ConfusionPlan | Compose | None = None,
        seed: int = 0,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
    ) -> None:
        self.dataset = dataset
        self.targeted = _resolve(targeted)
        self.base = _resolve(base)
        self.seed = whole_number(seed, "seed")
        self.transform = transform or to_float_tensor
        self._pipelines: dict[tuple[bool, int, int], Compose] = {}
        self._partners: Partners | None = None
        mix = getattr(self.targeted, "mix", None)
        if getattr(self.base, "mix", None) or (mix and not isinstance(targeted, ConfusionPlan)):
            raise UsageError(
                "a policy that mixes images is for extra draws, and needs the plan with its pairs; "
                "give the ConfusionPlan as targeted"
            )
        if mix and isinstance(targeted, ConfusionPlan):
            self._num_classes = len(targeted.class_names)
            pairs = [(pair.first, pair.second) for pair in targeted.pairs]
            self._partners = Partners(self.targets, self._num_classes, pairs, mix.partner)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels int64 (N,), for samplers; no image is decoded."""
        return find_labels(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """The augmented image, then whatever else the wrapped data set gives."""
        item = self.dataset[int(index)]
        # numpy's integers have a method copy
        copy, epoch = (index.copy, index.epoch) if isinstance(index, AugmentedIndex) else (0, 0)
        place = int(index) % len(self)
        image = self._augment(to_uint8_array(item[0]), (self.seed, epoch, place, copy))
        if self._partners is None:
            return self.transform(image), *item[1:]
        partner, share = place, torch.zeros(1)
        if copy:
            image, partner, share = self._mix(image, (self.seed, epoch, place, copy))
        labels = self._partners.labels
        own, other = labels[place : place + 1], labels[partner : partner + 1]
        label = soft_labels(own, other, share, self._num_classes)[0]
        return self.transform(image), label, *item[2:]

    def _augment(
        self, image: NDArray[np.uint8], key: tuple[int, int, int, int]
    ) -> NDArray[np.uint8]:
        for stage, extra in enumerate((False, True)):
            pipeline = self._pipeline(extra, image.shape[0], image.shape[1])
            wanted = key[3] if extra else not key[3] or getattr(self.targeted, "on_base", True)
            if pipeline is not None and wanted:
                image = apply_seeded(pipeline, image, (*key, stage))
                _check_augmented(image)
        return image

    def _mix(
        self, image: NDArray[np.uint8], key: tuple[int, int, int, int]
    ) -> tuple[NDArray[np.uint8], int, Tensor]:
        assert isinstance(self.targeted, Policy)
        assert self.targeted.mix
        assert self._partners
        seed, epoch, place, copy = key
        keys = draw_keys(seed, epoch, torch.tensor([place]), torch.tensor([copy]))
        partner = int(self._partners.choose(keys, torch.tensor([place])))
        other = to_uint8_array(self.dataset[partner][0])
        if other.shape != image.shape:
            raise DataError(
                f"only images of one size can be mixed, not {image.shape} and {other.shape}"
            )
        other = self._augment(other, (seed, epoch, partner, copy))
        first, second = (
            torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1))).float()[None]
            for part in (image, other)
        )
        mixed, share = mix_images(first, second, self.targeted.mix, keys)
        return mixed[0].numpy().transpose(1, 2, 0).astype(np.uint8), partner, share

    def __getstate__(self) -> dict[str, Any]:
        # pipelines are made again in each worker: they hold generators that must not be shared
        return {**self.__dict__, "_pipelines": {}}

    def _pipeline(self, extra: bool, height: int, width: int) -> Compose | None:
        choice = self.targeted if extra else self.base
        if not isinstance(choice, Policy):
            return choice
        if not choice.operations:
            return None
        key = extra, height, width
        if key not in self._pipelines:
            self._pipelines[key] = compose(choice, (height, width))
        return self._pipelines[key]


def to_float_tensor(image: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, C) to float32 (C, H, W) in 0–1."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255


def to_uint8_array(image: Any) -> NDArray[np.uint8]:
    """An image of any common kind as uint8 (H, W, C).

    Raises:
        DataError: the image is of no kind that is known, or was normalised already.
    """
    if isinstance(image, Tensor):
        if image.ndim not in (2, 3):
            raise DataError(f"an image tensor must be (C, H, W) or (H, W), not {image.shape}")
        if image.is_floating_point():
            low, high = float(image.min()), float(image.max())
            # resizing rounds to a little more than 1; both are NaN if one value is
            if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
                raise DataError(
                    f"float images must lie in 0–1, but these go from {low:.3g} to {high:.3g}; "
                    "move normalisation into AugmentedDataset(transform=…)"
                )
            image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        array: NDArray[Any] = image.cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    else:
        if isinstance(image, Image.Image) and image.mode in ("1", "P", "PA"):
            image = flatten(image, 1 if image.mode == "1" else 3)
        array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 3:
        raise DataError(
            f"can't augment a {type(image).__name__} of {array.dtype} {array.shape}; images must "
            "be uint8 (H, W, C), PIL images, or tensors (C, H, W)"
        )
    return array


def _check_augmented(image: Any) -> None:
    """Refuse what a user's pipeline made a float or a tensor: it would be scaled twice."""
    kind = getattr(image, "dtype", None), getattr(image, "ndim", None)
    if not isinstance(image, np.ndarray) or kind != (np.uint8, 3):
        raise DataError(
            f"the augmentation made a {type(image).__name__} of {kind[0]} of an image, and must "
            "leave it uint8 (H, W, C); move what comes after, such as normalisation, into "
            "AugmentedDataset(transform=…)"
        )


def _resolve(choice: str | Policy | ConfusionPlan | Compose | None) -> Policy | Compose:
    if isinstance(choice, ConfusionPlan):
        return plan_policy(choice)
    if choice is None or isinstance(choice, str):
        return get_policy(choice or "none")
    if not isinstance(choice, Policy) and not hasattr(choice, "set_random_state"):
        raise UsageError(
            f"can't augment with a {type(choice).__name__}; give a policy's name, a Policy, a "
            "ConfusionPlan or an albumentations Compose"
        )
    return choice
