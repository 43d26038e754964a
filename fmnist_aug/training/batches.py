"""The stream of batches: the sampler's draws, augmented and normalised on the device."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fmnist_aug.augment.batched import augment_batch
from fmnist_aug.augment.mixing import Partners, mix_images, soft_labels
from fmnist_aug.augment.policies import Mix, Policy
from fmnist_aug.augment.random_numbers import draw_keys
from fmnist_aug.classifier import CheckpointHeader, Normalisation
from fmnist_aug.data import ImageDataset, StreamedImages
from fmnist_aug.hard_examples import HardExamples
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.sampler import AugmentationSampler
from fmnist_aug.training.refresh import Predict, RefreshedDraws

_log = logging.getLogger(__name__)
_Drawn = tuple[NDArray[np.int64], ...]
_TARGETED_SEED = 1 << 32
"""Added to the seed for the targeted policy, so that its draws don't repeat the base policy's."""
Draws: TypeAlias = AugmentationSampler | RefreshedDraws


def make_draws(
    dataset: ImageDataset,
    plan: ConfusionPlan,
    seed: int,
    batches: Iterable[int],
    refreshed: list[ConfusionPlan],
    predict: Predict,
) -> Draws:
    """The draws of a training, made for as many epochs, and parts of one, as make up all batches.

    Args:
        dataset: the training images.
        plan: the extra draws.
        seed: of the order.
        batches: the number of draws of each batch.
        refreshed: the plan after each refresh so far, as for `RefreshedDraws`.
        predict: as for `RefreshedDraws`.
    """
    draws = sum(batches)
    sampler = _make_sampler(dataset, dataclasses.replace(plan, refresh_every=0), seed, draws)
    if not plan.refresh_every:
        return sampler
    return RefreshedDraws(dataset, sampler, plan.refresh_every, draws, refreshed, predict)


def _make_sampler(
    dataset: ImageDataset, plan: ConfusionPlan, seed: int, draws: int
) -> AugmentationSampler:
    if not plan.changes_with_time:
        return AugmentationSampler(dataset, plan, seed=seed)
    extras = sum(AugmentationSampler(dataset, plan, seed=seed, epochs=1).extras_per_class)
    per_epoch = len(dataset) + (0 if plan.in_place else extras * plan.share_until(1.0))
    return AugmentationSampler(dataset, plan, seed=seed, epochs=draws / per_epoch)


class Batches:
    """The sampler's endless stream of draws, cut into batches, normalised and augmented.

    After ``all_until`` steps each batch holds the hardest of more draws, if the plan says so.
    Several processes each yield their ``share`` of every batch. Streamed images are decoded a few
    batches ahead, by other processes; where the hardest are chosen, that is done with all of the
    draws, since nobody knows so early which ones these will be.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampler: Draws,
        batch_size: int,
        base: Policy,
        targeted: Policy,
        seed: int,
        header: CheckpointHeader,
        device: torch.device,
        *,
        all_until: int = 0,
        share: slice = slice(None),  # a slice never changes
    ) -> None:
        self.streamed: StreamedImages | None = None
        self.images: Tensor | None = None
        if isinstance(dataset.images, StreamedImages):
            self.streamed = dataset.images
        else:
            self.images = _place(dataset.images, device)
        self.labels = torch.from_numpy(dataset.labels).to(device)
        self.sampler = sampler
        self.batch_size = batch_size
        self.base = base
        self.targeted = targeted
        self.seed = seed
        self.normalise = Normalisation(header.mean, header.std, device)
        self.device = device
        self.candidates = round(batch_size / sampler.plan.keep)
        self.all_until = all_until
        self.share = share
        self.hard = HardExamples(len(dataset), device)
        self.num_classes = dataset.num_classes
        self._mixtures: tuple[int, list[tuple[bool, Mix, Partners]]] | None = None

    def stream(self, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches ``first`` … ``steps`` − 1: inputs (N, C, H, W), targets, indices (N,).

        The targets are labels (N,), or probabilities (N, classes) if a policy mixes images.
        """
        for draws, decoded in self.draws(first, steps):
            yield self.make(draws, decoded)

    @property
    def resident(self) -> bool:
        """Whether all images lie on the device, so that making a batch waits for nothing."""
        return self.images is not None and self.images.device.type == self.device.type

    def draws(self, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """What `make` makes the batches ``first`` … ``steps`` − 1 of.

        int64 (3, draws): index, copy number and epoch of each draw; and, if images are streamed,
        this process's share of the draws' images, decoded.
        """
        for draws, decoded in self._with_decoded(self._draws(first, steps)):
            yield torch.from_numpy(np.stack(draws)), decoded

    def make(self, draws: Tensor, decoded: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """One batch, as `stream` yields it, of what `draws` yields."""
        where, copies, epochs = draws.to(self.device, non_blocking=True)
        chosen = None
        if len(where) > self.batch_size:
            chosen = self.hard.choose(where, self.batch_size)
            where, copies = where[chosen], copies[chosen]
            # a mirror goes by epoch plus copy; whatever the copy, it shall turn at each visit
            epochs = self.hard.visits[where] + copies
        where, copies, epochs = where[self.share], copies[self.share], epochs[self.share]
        if decoded is None:
            originals = self._originals(where)
        else:
            rows = torch.arange(len(decoded)) if chosen is None else chosen[self.share]
            originals = _select(decoded, rows, self.device)
        images = self._augment(originals, where, copies, epochs)
        targets = self.labels.index_select(0, where)
        if self.base.mix or self.targeted.mix:
            images, targets = self._mix(images, where, copies, epochs)
        return self.normalise(images, inplace=True), targets, where

    def _draws_before(self, step: int) -> int:
        """How many draws the steps before this one have used up."""
        chosen_from_more = max(step - self.all_until, 0)
        return (step - chosen_from_more) * self.batch_size + chosen_from_more * self.candidates

    def _with_decoded(self, draws: Iterator[_Drawn]) -> Iterator[tuple[_Drawn, Tensor | None]]:
        """Each step's draws; if images are streamed, with this process's share of theirs.

        Of more draws than a batch all are decoded. The draws of a plan that is refreshed can't be
        known ahead, so their images are decoded when they are wanted.
        """
        if self.streamed is None or isinstance(self.sampler, RefreshedDraws):
            return ((each, None) for each in draws)
        draws, ahead = itertools.tee(draws)
        decoded = self.streamed.batches(
            indices if len(indices) > self.batch_size else indices[self.share]
            for indices, *_ in ahead
        )
        return zip(draws, map(_as_tensor, decoded), strict=True)

    def _originals(self, indices: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) at ``indices``, on the device."""
        if self.images is not None:
            return _select(self.images, indices, self.device)
        assert self.streamed is not None
        decoded = _as_tensor(self.streamed[indices.cpu().numpy()])
        return _select(decoded, torch.arange(len(decoded)), self.device)

    def _augment(
        self, originals: Tensor, indices: Tensor, copies: Tensor, epochs: Tensor
    ) -> Tensor:
        images = augment_batch(
            originals,
            self.base,
            indices,
            seed=self.seed,
            epochs=epochs,
            copies=copies,
            inplace=self.targeted.on_base,  # else they are wanted below
        )
        if not self.targeted.on_base:
            images = torch.where((copies > 0)[:, None, None, None], originals, images)
        if not self.targeted.operations:
            return images
        if self.device.type == "cpu":  # elsewhere finding out how many there are would wait
            extra = copies.nonzero()[:, 0]
            changed = self._augment_extra(
                images.index_select(0, extra), indices[extra], copies[extra], epochs[extra]
            )
            images = images.to(changed.dtype)
            images[extra] = changed
        else:
            changed = self._augment_extra(images, indices, copies, epochs)
            images = torch.where((copies > 0)[:, None, None, None], changed, images)
        return images

    def _find_mixtures(self) -> list[tuple[bool, Mix, Partners]]:
        """What is mixed into regular and into extra draws, by the plan that is followed now."""
        plan, refreshes, unseen = self.sampler.plan, 0, None
        if isinstance(self.sampler, RefreshedDraws):
            plan, unseen = self.sampler.newest, self.sampler.unseen
            refreshes = len(self.sampler.plans)
        if self._mixtures is None or self._mixtures[0] != refreshes:
            labels = self.labels.cpu().numpy()
            pairs = [(pair.first, pair.second) for pair in plan.pairs]
            mixtures = [
                (
                    extra,
                    policy.mix,
                    Partners(
                        labels, self.num_classes, pairs, policy.mix.partner, self.device, unseen
                    ),
                )
                for extra, policy in ((False, self.base), (True, self.targeted))
                if policy.mix
            ]
            self._mixtures = refreshes, mixtures
        return self._mixtures[1]

    def _mix(
        self, images: Tensor, indices: Tensor, copies: Tensor, epochs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mix in partners as the policies say; images, and probabilities (N, classes).

        Extra draws are mixed as the targeted policy says if it mixes, else as the base policy says
        if it comes first.
        """
        own = self.labels[indices]
        targets = F.one_hot(own, self.num_classes).float()
        for extra, mix, partners in self._find_mixtures():
            all_alike = not self.targeted.mix and self.targeted.on_base
            wanted = ((copies > 0) == extra) | all_alike
            keys = draw_keys(self.seed + extra * _TARGETED_SEED, epochs, indices, copies)
            chosen = partners.choose(keys, indices)
            others = self._augment(self._originals(chosen), chosen, copies, epochs)
            mixed, share = mix_images(images.float(), others.float(), mix, keys)
            images = torch.where(wanted[:, None, None, None], mixed, images)
            soft = soft_labels(own, self.labels[chosen], share, self.num_classes)
            targets = torch.where(wanted[:, None], soft, targets)
        return images, targets

    def _augment_extra(
        self, images: Tensor, indices: Tensor, copies: Tensor, epochs: Tensor
    ) -> Tensor:
        return augment_batch(
            images,
            self.targeted,
            indices,
            seed=self.seed + _TARGETED_SEED,
            epochs=epochs,
            copies=copies,
        )

    def _draws(self, first: int, steps: int) -> Iterator[_Drawn]:
        epoch, offset = 0, self._draws_before(first)
        while offset >= (length := self.sampler.length_in(epoch)):
            epoch, offset = epoch + 1, offset - length
        indices, copies = self.sampler.epoch_draws(epoch)
        for step in range(first, steps):
            parts: list[_Drawn] = []
            needed = self.batch_size if step < self.all_until else self.candidates
            while needed:
                if offset == length:
                    epoch, offset = epoch + 1, 0
                    indices, copies = self.sampler.epoch_draws(epoch)
                    length = len(indices)
                end = min(offset + needed, length)
                parts.append(
                    (indices[offset:end], copies[offset:end], np.full(end - offset, epoch))
                )
                needed -= end - offset
                offset = end
            yield tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _place(values: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Images uint8 (N, C, H, W), on the device unless they would take more than half of it."""
    images = _as_tensor(values)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > free / 2:
            _log.info(
                "the training images take %.1f GB, more than half of what is free on the GPU, so "
                "each batch is brought there by itself",
                images.nbytes / 1e9,
            )
            return images
    return images.to(device)


def _as_tensor(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _select(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """Images uint8 (N, C, H, W) on the device; they may lie elsewhere."""
    return images.index_select(0, indices.to(images.device)).to(device)
