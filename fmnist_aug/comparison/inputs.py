"""The images that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from fmnist_aug.comparison.config import ComparisonConfig
from fmnist_aug.data import ImageDataset, Split, load_dataset, stratified_slice


def load_slice(
    dataset: str,
    split: Split,
    size: int | None,
    *,
    data_dir: str | Path | None,
    image_size: int | None,
    flip: bool | None,
    stream: bool | None = None,
) -> ImageDataset:
    """A slice of a split, always the same ``size`` images; all of them for None."""
    whole = load_dataset(
        dataset, split, data_dir=data_dir, image_size=image_size, flip=flip, stream=stream
    )
    return stratified_slice(whole, size, random_state=0)


def load_split(
    config: ComparisonConfig,
    split: Split,
    data_dir: str | Path | None,
    stream: bool | None = None,
) -> ImageDataset:
    """One split of a comparison, sliced as its preset says."""
    return load_slice(
        config.dataset,
        split,
        config.train_images if split == "train" else config.test_images,
        data_dir=data_dir,
        image_size=config.image_size,
        flip=config.flip,
        stream=stream,
    )


def load_splits(
    config: ComparisonConfig, data_dir: str | Path | None, stream: bool | None = None
) -> tuple[ImageDataset, ImageDataset]:
    """The training and the test images of a comparison, sliced as its preset says."""
    return (
        load_split(config, "train", data_dir, stream),
        load_split(config, "test", data_dir, stream),
    )
