"""Images a second of augmentation alone, each policy in four libraries."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarking.equivalents import kornia_modules, torchvision_transform
from benchmarking.plain_loop import WORKERS
from benchmarking.timing import Options, compared, in_turns
from fmnist_aug import load_dataset
from fmnist_aug.augment import POLICIES, Policy, augment_batch, compose

BATCH = 256


class Pictures(Dataset[Tensor]):
    """Images that are augmented one at a time."""

    def __init__(self, images: np.ndarray, augment: Callable[[np.ndarray], Tensor]) -> None:
        self.images = images
        self.augment = augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.augment(self.images[index])


class Albumentations:
    """A policy's own pipeline; float tensors come out, as a network wants them."""

    def __init__(self, policy: Policy) -> None:
        self.pipeline = compose(policy)

    def __call__(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(self.pipeline(image=image)["image"].transpose(2, 0, 1)).float()


class TorchvisionV2:
    """The nearest transforms of torchvision, on uint8 tensors."""

    def __init__(self, policy: Policy) -> None:
        self.transform = torchvision_transform(policy)

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.transform(torch.from_numpy(image).permute(2, 0, 1)).float()


def measure(options: Options) -> dict[str, Any]:
    has_kornia = find_spec("kornia") is not None
    images = load_dataset("fashion-mnist", "train").images[: 512 if options.quick else 6144]
    comparisons = {}
    for name, policy in POLICIES.items():
        if not policy.operations or (options.quick and name not in ("flip", "buttons")):
            continue
        contenders = {
            "batched": lambda policy=policy: batched(images, policy),
            "albumentations, DataLoader": lambda policy=policy: per_image(
                images, Albumentations(policy)
            ),
            "torchvision v2, DataLoader": lambda policy=policy: per_image(
                images, TorchvisionV2(policy)
            ),
        }
        if has_kornia:
            contenders["kornia, batches"] = lambda policy=policy: with_kornia(images, policy)
        comparisons[name] = compared(
            in_turns(contenders, options.repeats), ours="batched", unit="images/s"
        )
    notes = [
        f"batches of {BATCH}; DataLoaders with {WORKERS} workers, from their first batch on; "
        "torchvision and kornia: the nearest transforms they have"
    ]
    if not has_kornia:
        notes.append("kornia is not installed: skipped (pip install 'fmnist-aug[benchmark]')")
    return {"comparisons": comparisons, "notes": notes}


def batched(images: np.ndarray, policy: Policy) -> float:
    """As the training engine does it: out of one resident tensor, by index."""
    resident = torch.from_numpy(images).permute(0, 3, 1, 2)
    order = torch.randperm(len(images))
    started = time.perf_counter()
    for indices in order.split(BATCH):
        augment_batch(resident[indices].float(), policy, indices)
    return len(images) / (time.perf_counter() - started)


def with_kornia(images: np.ndarray, policy: Policy) -> float:
    resident = torch.from_numpy(images).permute(0, 3, 1, 2)
    modules = kornia_modules(policy)
    order = torch.randperm(len(images))
    started = time.perf_counter()
    for indices in order.split(BATCH):
        batch = resident[indices].float() / 255
        for module in modules:
            batch = module(batch)
    return len(images) / (time.perf_counter() - started)


def per_image(images: np.ndarray, augment: Callable[[np.ndarray], Tensor]) -> float:
    loader = DataLoader(
        Pictures(images, augment), BATCH, shuffle=True, num_workers=WORKERS, prefetch_factor=2
    )
    batches = iter(loader)
    next(batches)  # the workers have started now
    started, seen = time.perf_counter(), 0
    for batch in batches:
        seen += len(batch)
    return seen / (time.perf_counter() - started)
