"""The training loop that people write: a `DataLoader`, one image at a time, contiguous, Adam."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, models

from fmnist_aug import create_model, load_dataset
from fmnist_aug.augment import Policy, compose
from fmnist_aug.data import write_idx_folder
from fmnist_aug.small_maps import SmallMapConv2d
from fmnist_aug.winograd import WinogradConv2d

MEAN, STD = 0.2860, 0.3530
WORKERS = 2


@cache
def _torchvision_root() -> tempfile.TemporaryDirectory[str]:
    root = tempfile.TemporaryDirectory()
    for split in ("train", "test"):
        write_idx_folder(load_dataset("fashion-mnist", split), Path(root.name, "FashionMNIST/raw"))
    return root


@dataclass(frozen=True)
class PerImage:
    """PIL image to normalised tensor, by way of an albumentations pipeline."""

    pipeline: Any

    def __call__(self, image: Any) -> Tensor:
        pixels = np.asarray(image)[..., None]
        if self.pipeline is not None:
            pixels = self.pipeline(image=pixels)["image"]
        return (torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255 - MEAN) / STD


def torchvision_images(train: bool, policy: Policy | None, limit: int | None) -> Dataset[Any]:
    """Fashion-MNIST as torchvision reads it."""
    pipeline = compose(policy) if policy is not None and policy.operations else None
    whole = datasets.FashionMNIST(_torchvision_root().name, train, PerImage(pipeline))
    return whole if limit is None else Subset(whole, range(limit))


def make_model(name: str) -> nn.Module:
    """One of ours as people write it, or ResNet-18 with a 3×3 stem, usual for small images."""
    if name != "resnet18":
        ours = create_model(name)
        for module in ours.modules():
            # our ways of computing it aren't theirs
            if isinstance(module, WinogradConv2d | SmallMapConv2d):
                module.__class__ = nn.Conv2d
        return ours
    network = models.resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def seed_worker(_: int) -> None:
    """Let the pipeline of this worker draw numbers of its own."""
    information = torch.utils.data.get_worker_info()
    data = information.dataset
    while hasattr(data, "dataset"):
        data = data.dataset
    if data.transform.pipeline is not None:
        data.transform.pipeline.set_random_seed(information.seed % (1 << 32))


def train_plainly(
    model: nn.Module,
    data: Dataset[Any],
    *,
    batch_size: int,
    epochs: float = 1,
    seed: int = 0,
    on_batch: Callable[[int], bool] = lambda _: True,
) -> float:
    """Train; give the seconds. ``on_batch`` hears the number of images so far, False stops."""
    loader = DataLoader(
        data,
        batch_size,
        shuffle=True,
        num_workers=WORKERS,
        drop_last=True,
        worker_init_fn=seed_worker,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=True,
    )
    optimizer = torch.optim.Adam(model.parameters())
    model.train()
    seen, started = 0, time.perf_counter()
    wanted = epochs * len(loader) * batch_size
    while seen < wanted:
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(labels)
            if not on_batch(seen) or seen >= wanted:
                return time.perf_counter() - started
    return time.perf_counter() - started


@torch.inference_mode()
def accuracy(model: nn.Module, limit: int | None) -> float:
    """Share of the test images that are right."""
    model.eval()
    test = DataLoader(torchvision_images(False, None, limit), 500)
    right = [(model(images).argmax(dim=1) == labels) for images, labels in test]
    return float(torch.cat(right).float().mean())
