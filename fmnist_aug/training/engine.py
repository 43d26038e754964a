"""One engine for every model and device.

The data lies in memory on the device and is augmented there in whole batches. The draws form one
endless stream of the sampler's epochs, cut into batches of equal size, so every arm takes the
same number of steps whatever its extra draws. State is kept at epoch boundaries; since draws and
augmentations are functions of (seed, epoch, index, copy), a resumed run equals an unbroken one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist_aug.augment.batched import augment_batch
from fmnist_aug.augment.policies import Policy, get_policy
from fmnist_aug.classifier import (
    CheckpointHeader,
    Classifier,
    Normalisation,
    read_tensors,
    write_tensors,
)
from fmnist_aug.data import ImageDataset, require_training_data
from fmnist_aug.errors import CheckpointError, DataError, TrainingError
from fmnist_aug.models import create_model
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.sampler import AugmentationSampler
from fmnist_aug.training.hardware import Hardware, choose_hardware
from fmnist_aug.training.muon import Muon
from fmnist_aug.training.settings import TrainSettings

_REPORT_SECONDS = 0.5
_TARGETED_SEED = 1 << 32
"""Added to the seed for the targeted policy, so that its draws don't repeat the base policy's."""


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is.

    Attributes:
        step: optimisation steps done.
        steps: steps in all.
        epoch: passes over the original images, done.
        epochs: passes in all.
        accuracy: on the training images of the last report interval, augmented as they were.
        loss: mean over the same images.
        images_per_second: since the training began or went on.
        seconds_left: estimate.
    """

    step: int
    steps: int
    epoch: float
    epochs: float
    accuracy: float
    loss: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves.

    Attributes:
        classifier: ready to predict.
        steps: optimisation steps taken.
        images_seen: draws, extra ones included.
        seconds: of training, without loading and evaluation; of all parts if it was resumed.
        hardware: where it ran.
    """

    classifier: Classifier
    steps: int
    images_seen: int
    seconds: float
    hardware: Hardware


@dataclass
class _State:
    """What changes from step to step."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0


def train_model(
    dataset: ImageDataset,
    settings: TrainSettings,
    *,
    base: Policy | None = None,
    plan: ConfusionPlan | None = None,
    seed: int = 0,
    hardware: Hardware | None = None,
    state_path: Path | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainedModel:
    """Train a network on a data set, drawing and augmenting as the plan says.

    Args:
        dataset: training images; a test split is refused.
        settings: network, length, optimiser.
        base: augmentation of all draws; none by default.
        plan: extra draws and their augmentation on top; none by default.
        seed: of weights, order and augmentations.
        hardware: device and precision; chosen by the machine by default.
        state_path: file in which the state is kept at epoch boundaries, and from which the
            training goes on if it is there; removed by the caller.
        on_progress: called about twice a second.

    Raises:
        DataError: a test split, or fewer than two classes.
        TrainingError: the loss is no longer finite.
        RunFolderError: the state can't be written.
    """
    require_training_data(dataset, "training")
    check_classes(dataset)
    hardware = hardware or choose_hardware()
    device = torch.device(hardware.device)
    base = base or get_policy("none")
    plan = plan or ConfusionPlan.empty(dataset.class_names)
    header = _header(dataset, settings)
    sampler = AugmentationSampler(dataset, plan, seed=seed)
    batch_size = settings.batch_for(len(dataset))
    steps = settings.steps_for(len(dataset))
    steps_per_epoch = max(1, len(dataset) // batch_size)
    targeted = get_policy(plan.policy)
    with torch.random.fork_rng():  # initial weights and dropout draw from torch's global generator
        torch.manual_seed(seed)
        model = create_model(
            settings.model, dataset.num_classes, dataset.images.shape[3], dataset.image_size
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        state = _State(model, _optimizers(model, settings))
        identity = {
            "settings": asdict(settings),
            "plan": plan.to_dict(),
            "base": repr(base),
            "seed": seed,
            "precision": hardware.precision,
            "header": asdict(header),
        }
        _load_state(state_path, state, identity)
        batches = _Batches(dataset, sampler, batch_size, base, targeted, seed, header, device)
        progress = _ProgressReporter(
            on_progress, state.step, steps, batch_size, len(dataset), device
        )
        scaler = torch.amp.GradScaler(enabled=hardware.precision == "fp16")
        started = time.perf_counter() - state.seconds
        model.train()
        for inputs, targets in batches.stream(state.step, steps):
            if state.step % steps_per_epoch == 0:
                # a resumed run draws the same dropout masks as an unbroken one
                torch.manual_seed(seed * 1_000_003 + state.step)
            _set_learning_rates(state.optimizers, state.step / steps, settings.warmup)
            loss, correct = _train_step(state, inputs, targets, settings, hardware, scaler)
            state.step += 1
            progress.add(loss, correct)
            boundary = state.step % steps_per_epoch == 0 or state.step == steps
            if boundary and not bool(torch.isfinite(progress.total_loss)):
                rate = state.optimizers[0].param_groups[0]["lr"]
                raise TrainingError(
                    f"the loss is no longer finite by step {state.step} of {steps} (learning "
                    f"rate {rate:.4g}, seed {seed}); lower the learning rate or use "
                    "--precision fp32"
                )
            if boundary and state.step < steps and state_path is not None:
                state.seconds = time.perf_counter() - started
                _save_state(state_path, state, identity)
        seconds = time.perf_counter() - started
    return TrainedModel(
        Classifier(model, header, hardware.device), steps, steps * batch_size, seconds, hardware
    )


def check_classes(dataset: ImageDataset) -> None:
    """Refuse training images of a single class.

    Raises:
        DataError: there is only one.
    """
    if len(np.unique(dataset.labels)) < 2:
        raise DataError(
            f"{dataset.card.title} has training images of one class only: nothing to classify"
        )


class _Batches:
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


class _ProgressReporter:
    """Sums loss and hits on the device and asks for them about twice a second only."""

    def __init__(
        self,
        callback: Callable[[TrainProgress], None] | None,
        first: int,
        steps: int,
        batch_size: int,
        images: int,
        device: torch.device,
    ) -> None:
        self.callback = callback
        self.first = self.step = first
        self.steps = steps
        self.batch_size = batch_size
        self.images = images
        self.device = device
        self.total_loss = torch.zeros((), device=device)
        self.started = self.reported = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self.loss = torch.zeros((), device=self.device)
        self.correct = torch.zeros((), device=self.device)
        self.batches = 0

    def add(self, loss: Tensor, correct: Tensor) -> None:
        self.loss += loss
        self.correct += correct
        self.total_loss += loss
        self.batches += 1
        self.step += 1
        now = time.perf_counter()
        due = now - self.reported > _REPORT_SECONDS or self.step == self.steps
        if self.callback is None or not due:
            return
        self.reported = now
        seconds_a_step = (now - self.started) / (self.step - self.first)
        self.callback(
            TrainProgress(
                step=self.step,
                steps=self.steps,
                epoch=self.step * self.batch_size / self.images,
                epochs=self.steps * self.batch_size / self.images,
                accuracy=float(self.correct) / (self.batches * self.batch_size),
                loss=float(self.loss) / self.batches,
                images_per_second=self.batch_size / seconds_a_step,
                seconds_left=seconds_a_step * (self.steps - self.step),
            )
        )
        self._reset()


def _train_step(
    state: _State,
    inputs: Tensor,
    targets: Tensor,
    settings: TrainSettings,
    hardware: Hardware,
    scaler: Any,
) -> tuple[Tensor, Tensor]:
    dtype = hardware.autocast_dtype
    with torch.autocast(hardware.device, dtype, enabled=dtype is not None):
        logits = state.model(inputs)
    logits = logits.float()
    loss = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    for optimizer in state.optimizers:
        scaler.step(optimizer)
    scaler.update()
    return loss.detach(), (logits.detach().argmax(dim=1) == targets).sum()


def _optimizers(model: nn.Module, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    inner: list[nn.Parameter] = []
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if settings.optimizer == "muon" and parameter.ndim == 4 and parameter.shape[1] > 3:
            inner.append(parameter)
        else:
            (weights if parameter.ndim > 1 else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(
            [
                {"params": weights, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=True,
        )
    ]
    if inner:
        optimizers.append(Muon(inner, lr=settings.muon_learning_rate))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _set_learning_rates(
    optimizers: list[torch.optim.Optimizer], done: float, warmup: float
) -> None:
    """The triangular schedule: from 0 up to the peak over ``warmup``, then down to 0."""
    factor = done / warmup if done < warmup else (1 - done) / (1 - warmup)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def _header(dataset: ImageDataset, settings: TrainSettings) -> CheckpointHeader:
    # summed as whole numbers, so that the order of summation can't matter
    pixels = dataset.images.reshape(-1, dataset.images.shape[3])
    counts = [np.bincount(pixels[:, channel], minlength=256) for channel in range(pixels.shape[1])]
    values = np.arange(256)
    mean = [float((count * values).sum() / count.sum()) for count in counts]
    variance = [
        float((count * (values - centre) ** 2).sum() / count.sum())
        for count, centre in zip(counts, mean, strict=True)
    ]
    views = ["identity"]
    if settings.test_time_flip and dataset.card.flip:
        views.append("flip")
    if settings.test_time_shift:
        views.append("shift")
    return CheckpointHeader(
        model=settings.model,
        class_names=dataset.class_names,
        image_size=dataset.image_size,
        mean=tuple(mean),
        std=tuple(value**0.5 or 1.0 for value in variance),  # a constant channel stays as it is
        views=tuple(views),
        card=dataset.card.name,
        fingerprint=dataset.fingerprint(),
    )


def _save_state(path: Path, state: _State, identity: dict[str, Any]) -> None:
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    for position, optimizer in enumerate(state.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer.{position}.{index}.{name}"] = value
    header = {"identity": identity, "step": state.step, "seconds": state.seconds}
    write_tensors(path, tensors, "training-state", header)


def _load_state(path: Path | None, state: _State, identity: dict[str, Any]) -> None:
    """Go on from a kept state; a state of another training or a damaged one is not used."""
    if path is None or not path.exists():
        return
    try:
        tensors, kind, header = read_tensors(path)
    except CheckpointError:
        return
    # compared as JSON, in which tuples have become lists
    if kind != "training-state" or header["identity"] != _as_json(identity):
        return
    state.model.load_state_dict(
        {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    )
    for position, optimizer in enumerate(state.optimizers):
        content = optimizer.state_dict()
        content["state"] = {}
        for key, value in tensors.items():
            part = key.split(".")
            if part[0] == "optimizer" and int(part[1]) == position:
                content["state"].setdefault(int(part[2]), {})[part[3]] = value
        optimizer.load_state_dict(content)
    state.step, state.seconds = header["step"], header["seconds"]


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
