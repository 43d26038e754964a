"""The stream of batches: the sampler's draws, augmented and normalised on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmnist_aug.augment.batched import augment_batch
from fmnist_aug.augment.policies import Policy
from fmnist_aug.classifier import CheckpointHeader, Normalisation
from fmnist_aug.data import ImageDataset
from fmnist_aug.sampler import AugmentationSampler

_TARGETED_SEED = 1 << 32
"""Added to the seed for the targeted policy, so that its draws don't repeat the base policy's."""


class Batches:
    """The sampler's endless stream of draws, cut into batches, normalised and augmented."""

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: AugmentationSampler,
        batch_size: int,
        base: Policy,
        targeted: Policy,
        seed: int,
        header: CheckpointHeader,
        device: torch.device,
    ) -> None:
        self.images = torch.from_numpy(dataset.images).permute(0, 3, 1, 2).to(device)
        self.labels = torch.from_numpy(dataset.labels).to(device)
        self.sampler = sampler
        self.batch_size = batch_size
        self.base = base
        self.targeted = targeted
        self.seed = seed
        self.normalise = Normalisation(header.mean, header.std, device)
        self.device = device

    def stream(self, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (N, C, H, W) and labels (N,) of the batches ``first`` … ``steps`` − 1."""
        for indices, copies, epochs in self._draws(first, steps):
            where, which, when, extra = (
                torch.from_numpy(values).to(self.device, non_blocking=True)
                for values in (indices, copies, epochs, np.flatnonzero(copies))
            )
            yield self._load(where, which, when, extra), self.labels[where]

    def _load(self, indices: Tensor, copies: Tensor, epochs: Tensor, extra: Tensor) -> Tensor:
        images = self.images[indices].float()
        images = augment_batch(
            images, self.base, indices, seed=self.seed, epochs=epochs, copies=copies
        )
        if len(extra) and self.targeted.operations:
            images[extra] = augment_batch(
                images[extra],
                self.targeted,
                indices[extra],
                seed=self.seed + _TARGETED_SEED,
                epochs=epochs[extra],
                copies=copies[extra],
            )
        return self.normalise(images)

    def _draws(self, first: int, steps: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
        length = len(self.sampler)
        epoch, offset = divmod(first * self.batch_size, length)
        indices, copies = self.sampler.epoch_draws(epoch)
        for _ in range(first, steps):
            parts: list[tuple[NDArray[np.int64], ...]] = []
            needed = self.batch_size
            while needed:
                if offset == length:
                    epoch, offset = epoch + 1, 0
                    indices, copies = self.sampler.epoch_draws(epoch)
                end = min(offset + needed, length)
                parts.append(
                    (indices[offset:end], copies[offset:end], np.full(end - offset, epoch))
                )
                needed -= end - offset
                offset = end
            yield tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
