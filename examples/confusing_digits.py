"""A data set on which two classes are confused: few training images, and a narrow view of them.

Run: python examples/confusing_digits.py [PATH]
MNIST with few training images, and of fours and nines half as many as of the other digits. They
stand as they were written in the training part, but are turned and moved in the test part. Who
has seen more turned and moved fours and nines can tell them better; the other digits gain
nothing from it. Compare with
    fmnist-aug compare --dataset PATH --preset smoke --epochs 8 --pairs 4:9 --policy geometric
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from fmnist_aug.augment import Policy, augment_batch
from fmnist_aug.augment.policies import Affine
from fmnist_aug.data import ImageDataset, load_dataset, stratified_slice, write_idx_folder

PAIR = (4, 9)
FEWER = 2
"""One of so many of their training images is left."""
VIEW = Policy(
    "wide view", "turned by up to 40° and moved by up to 3 pixels", (Affine(40.0, shift=3 / 28),)
)


def narrow_view_digits(train_images: int = 1000, test_images: int = 5000) -> list[ImageDataset]:
    """The training part, then the test part, in which fours and nines look different."""
    train = stratified_slice(load_dataset("mnist", "train"), train_images)
    rare = np.flatnonzero(np.isin(train.labels, PAIR))
    train = train.subset(np.setdiff1d(np.arange(len(train)), np.delete(rare, np.s_[::FEWER])))
    test = stratified_slice(load_dataset("mnist", "test"), test_images)
    changed = np.flatnonzero(np.isin(test.labels, PAIR))
    batch = torch.from_numpy(test.images[changed].transpose(0, 3, 1, 2)).float()
    turned = augment_batch(batch, VIEW, torch.from_numpy(changed))
    images = test.images.copy()
    images[changed] = turned.numpy().transpose(0, 2, 3, 1).astype(np.uint8)
    return [train, ImageDataset(images, test.labels, test.class_names, test.card, test.split)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path, nargs="?", default=Path("runs/confusing-digits"))
    folder: Path = parser.parse_args().path
    folder.mkdir(parents=True, exist_ok=True)
    for part in narrow_view_digits():
        write_idx_folder(part, folder)
    print(f"wrote {folder}")


if __name__ == "__main__":
    main()
