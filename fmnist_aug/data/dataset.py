"""What a data set is here: arrays, names, and a card that says what may be done to its images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_aug.data.streaming import Images, StreamedImages, blocks
from fmnist_aug.errors import DataError

Split = Literal["train", "test"]


@dataclass(frozen=True)
class DatasetCard:
    """What is known about a data set and what may be done to its images.

    Attributes:
        name: short name, used for folders: ``fashion-mnist``.
        title: the name for people: ``Fashion-MNIST``.
        flip: whether a mirrored image keeps its label (shoes do, digits don't).
        shift: by how many pixels an image may be moved in the base augmentation; 0 for not at all.
        policy: name of the augmentation policy that suits the extra draws of confused classes.
        focus: the class indices that are always reported, whatever the plan.
        dark_background: whether things stand before black, as photographs rarely do.
        licence: under which licence the images are distributed, as far as known.
    """

    name: str
    title: str
    flip: bool = False
    shift: int = 0
    policy: str = "photometric"
    focus: tuple[int, ...] = ()
    dark_background: bool = False
    licence: str = "unknown"


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images, in memory or streamed from the disk.

    Attributes:
        images: uint8 (N, H, W, C), 0–255, C = 1 (grey) or 3 (RGB): an array, or
            `StreamedImages`, which decodes those that it is indexed with.
        labels: int64 (N,), 0 … len(class_names) − 1.
        class_names: one name a class, all different.
        card: what may be done to the images.
        split: ``train`` or ``test``. Plans and trainings refuse ``test``.
    """

    images: Images
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    card: DatasetCard
    split: Split = "train"

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise DataError(
                f"images must be uint8 (N, H, W, 1 or 3), not {images.dtype} {images.shape}"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DataError(
                f"labels must be int64 ({len(images)},), not {labels.dtype} {labels.shape}"
            )
        if len(images) == 0 or 0 in images.shape:
            raise DataError(f"the {self.split} split of {self.card.title} has no images")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise DataError(
                f"labels must lie in 0 … {len(self.class_names) - 1}, found "
                f"{labels.min()} … {labels.max()}"
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise DataError("class names must all be different")
        if isinstance(images, np.ndarray) and min(images.strides) < 0:
            # mirrored views, such as BGR read as RGB, which torch doesn't take
            object.__setattr__(self, "images", images.copy())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """Image uint8 (H, W, C) and label, so that this is a map-style torch data set too."""
        return self.images[index], int(self.labels[index])

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels under the name that torchvision gives them."""
        return self.labels

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each has images."""
        return len(self.class_names)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def subset(self, indices: NDArray[np.integer]) -> ImageDataset:
        """The images at ``indices``, in that order; streamed ones stay on the disk."""
        if isinstance(self.images, StreamedImages):
            images: Images = self.images.select(indices)
        else:
            images = self.images[indices]
        return ImageDataset(images, self.labels[indices], self.class_names, self.card, self.split)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of shape, pixels, labels and class names: equal only for equal data."""
        digest = hashlib.sha256()
        digest.update(repr((self.images.shape, self.class_names)).encode())
        for images in blocks(self.images):
            digest.update(np.ascontiguousarray(images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def require_training_data(dataset: ImageDataset, purpose: str) -> None:
    """Refuse test images wherever something is chosen or learnt.

    Raises:
        DataError: ``dataset`` is a test split.
    """
    if dataset.split != "train":
        raise DataError(
            f"{purpose} needs training images, but got the {dataset.split} split of "
            f"{dataset.card.title}; nothing may be chosen or learnt on the test set"
        )
