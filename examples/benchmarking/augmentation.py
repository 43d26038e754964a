"""Images a second of augmentation alone, each policy in four libraries.

All start from uint8 images in memory and end with the same thing: a batch of normalised float
images and its labels. A `DataLoader` does the whole work of an image in its workers, as people
write it; the others do it batch by batch in this process, on the threads of the whole benchmark.
"""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarking.equivalents import kornia_modules, kornia_normalisation, torchvision_transform
from benchmarking.plain_loop import MEAN, STD, WORKERS, PerImage
from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import load_dataset
from fmnist_aug.augment import POLICIES, Policy, augment_batch, compose
from fmnist_aug.classifier import Normalisation
from fmnist_aug.data import ImageDataset
from fmnist_aug.training.memory import keep_freed_memory

BATCH = 256
PER_IMAGE = 6144
"""Images a turn of the `DataLoader`s."""
PASSES = 5
"""Over all 60,000 images in a turn of those that make batches; one takes less than a tenth of a
second, in which a shared machine does anything."""


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images that are augmented one at a time."""

    def __init__(self, data: ImageDataset, transform: Callable[[np.ndarray], Tensor]) -> None:
        self.images = data.images[..., 0]
        self.labels = data.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


class TorchvisionV2:
    """The nearest transforms of torchvision, on uint8 tensors."""

    def __init__(self, policy: Policy) -> None:
        self.transform = v2.Compose(
            [
                torchvision_transform(policy),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([MEAN], [STD]),
            ]
        )

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.transform(torch.from_numpy(image)[None])


def measure(options: Options) -> dict[str, Any]:
    has_kornia = find_spec("kornia") is not None
    keep_freed_memory()  # as the engine does, for all contenders of this process
    data = load_dataset("fashion-mnist", "train")
    whole = data.subset(np.arange(1024 if options.quick else len(data)))
    few = data.subset(np.arange(1024 if options.quick else PER_IMAGE))
    passes = 1 if options.quick else PASSES
    comparisons = {}
    for name, policy in POLICIES.items():
        if not policy.operations or (options.quick and name not in ("flip", "buttons")):
            continue
        contenders = {"batched": lambda policy=policy: batched(whole, policy, passes)}
        if has_kornia:  # right after ours, so that both meet the machine in the same state
            contenders["kornia, batches"] = lambda policy=policy: with_kornia(whole, policy, passes)
        contenders |= {
            "albumentations, DataLoader": lambda policy=policy: per_image(
                few, PerImage(compose(policy))
            ),
            "torchvision v2, DataLoader": lambda policy=policy: per_image(
                few, TorchvisionV2(policy)
            ),
        }
        comparisons[name] = compared(
            in_turns(contenders, options.repeats), ours="batched", unit="images/s"
        )
    notes = [
        f"batches of {BATCH}, normalised, with their labels; {options.threads} threads, or "
        f"DataLoaders with {WORKERS} workers, without the time that these take to start and "
        "to end; torchvision and kornia: the nearest transforms they have"
    ]
    if not has_kornia:
        notes.append("kornia is not installed: skipped (pip install 'fmnist-aug[benchmark]')")
    return {"comparisons": comparisons, "notes": notes}


def batched(data: ImageDataset, policy: Policy, passes: int) -> float:
    """As the training engine does it."""
    normalise = Normalisation((255 * MEAN,), (255 * STD,), torch.device("cpu"))

    def batch(images: Tensor, indices: Tensor) -> Tensor:
        batch = augment_batch(images.index_select(0, indices), policy, indices, inplace=True)
        return normalise(batch, inplace=True)

    return _images_a_second(data, batch, passes)


def with_kornia(data: ImageDataset, policy: Policy, passes: int) -> float:
    modules = [*kornia_modules(policy), kornia_normalisation(MEAN, STD)]

    def batch(images: Tensor, indices: Tensor) -> Tensor:
        batch = images.index_select(0, indices).float() / 255
        for module in modules:
            batch = module(batch)
        return batch

    return _images_a_second(data, batch, passes)


def _images_a_second(
    data: ImageDataset, batch: Callable[[Tensor, Tensor], Tensor], passes: int
) -> float:
    """Out of one resident tensor, by index, in another order each time."""
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(data.labels)
    orders = [torch.randperm(len(images)) for _ in range(passes)]
    started = time.perf_counter()
    for order in orders:
        for indices in order.split(BATCH):
            _ = batch(images, indices), labels.index_select(0, indices)
    return passes * len(images) / (time.perf_counter() - started)


def per_image(data: ImageDataset, transform: Callable[[np.ndarray], Tensor]) -> float:
    loader = DataLoader(Pictures(data, transform), BATCH, shuffle=True, num_workers=WORKERS)
    batches: Iterator[list[Tensor]] = iter(loader)
    for _ in range(WORKERS):
        next(batches)  # each worker has started and made one
    started, seen = time.perf_counter(), 0
    for images, _ in batches:
        seen += len(images)
        ended = time.perf_counter()  # not after the loop, which also waits for the workers to leave
    return seen / (ended - started)
