"""One engine for every model and device.

The data lies in memory on the device, or is streamed there if it is too large, and is augmented
there in whole batches. The draws form one endless stream of the sampler's epochs, cut into batches
of equal size, so every arm takes the same number of steps whatever its extra draws. State is kept
at epoch boundaries; since draws and augmentations are functions of (seed, epoch, index, copy), a
resumed run equals an unbroken one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmnist_aug.augment.policies import Flip, Policy, get_policy, plan_policy
from fmnist_aug.classifier import CheckpointHeader, Classifier, Normalisation
from fmnist_aug.data import ImageDataset, blocks, require_training_data
from fmnist_aug.distributed import Processes
from fmnist_aug.errors import DataError, TrainingError, UsageError
from fmnist_aug.models import ANY_SIZE, create_model
from fmnist_aug.plan import ConfusionPlan
from fmnist_aug.training.averaging import WeightAverage
from fmnist_aug.training.batches import Batches, make_draws
from fmnist_aug.training.curve import LearningCurve
from fmnist_aug.training.hardware import Hardware, choose_hardware
from fmnist_aug.training.memory import keep_freed_memory
from fmnist_aug.training.optimizers import keep_rates_on, make_optimizers, set_learning_rates
from fmnist_aug.training.progress import ProgressReporter, TrainProgress
from fmnist_aug.training.replay import ReplayedStep, Step
from fmnist_aug.training.resizing import Resized, resize, size_at, work_done
from fmnist_aug.training.settings import TrainSettings
from fmnist_aug.training.sharpness import UPHILL_SHARE, Uphill
from fmnist_aug.training.state import TrainingState, load_state, save_state
from fmnist_aug.training.whitening import first_convolution, whiten

_GPU_STATE_SECONDS = 5.0
"""On a GPU an epoch can take less time than keeping its state: at most so often is it kept."""


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves.

    Attributes:
        classifier: ready to predict.
        steps: optimisation steps taken.
        images_seen: draws, extra ones included.
        seconds: of training, without loading and evaluation; of all parts if it was resumed.
        hardware: where it ran.
        curve: epochs done, accuracy and mean loss since the point before, on the training images
            as they were drawn and augmented; at most 50 points, the same for a resumed run.
        refreshed: the plan after each refresh, if it was refreshed.
        made_with: what was said so of each part of the training, each once; one but for those
            that were resumed elsewhere.
    """

    classifier: Classifier
    steps: int
    images_seen: int
    seconds: float
    hardware: Hardware
    curve: tuple[tuple[float, ...], ...]
    refreshed: tuple[ConfusionPlan, ...] = ()
    made_with: tuple[dict[str, Any], ...] = ()


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
    processes: Processes | None = None,
    made_with: Mapping[str, Any] | None = None,
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
        processes: who trains this network together; this process alone by default.
        made_with: what the kept state shall say of this part of the training, such as versions;
            plain values.

    Raises:
        DataError: a test split, or fewer than two classes.
        TrainingError: the loss is no longer finite.
        RunFolderError: the state can't be written.
        UsageError: the batches are too small to be shared by the processes, or several processes
            shall follow a plan that is refreshed.
    """
    require_training_data(dataset, "training")
    check_classes(dataset)
    processes = processes or Processes()
    hardware = hardware or choose_hardware()
    device = torch.device(hardware.device)
    if device.type == "cpu":
        keep_freed_memory()
    base = base or get_policy("none")
    plan = plan or ConfusionPlan.empty(dataset.class_names)
    if plan.refresh_every and processes.count > 1:
        raise UsageError(
            f"{processes.count} processes can't follow a plan that is refreshed; start one, or set "
            "the plan's refresh_every to 0"
        )
    header = _header(dataset, settings, base)
    batch_size = settings.batch_for(len(dataset))
    processes.check_batch(batch_size)
    steps = settings.steps_for(len(dataset))
    steps_per_epoch = max(1, len(dataset) // batch_size)
    all_until = round(plan.keep_after * steps_per_epoch)
    candidates = round(batch_size / plan.keep)
    targeted = plan_policy(plan)
    refreshed: list[ConfusionPlan] = []
    with torch.random.fork_rng():  # initial weights and dropout draw from torch's global generator
        torch.manual_seed(seed)
        model = create_model(
            settings.model, dataset.num_classes, dataset.images.shape[3], dataset.image_size
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.whitening:
            normalise = Normalisation(header.mean, header.std, torch.device("cpu"))
            whiten(first_convolution(model), dataset.images, normalise)
        classifier = Classifier(model, header, hardware.device)
        small_until = settings.progressive_resizing if isinstance(model, ANY_SIZE) else 0.0

        def size_at_step(step: int) -> tuple[int, int]:
            return size_at(step / steps, dataset.image_size, small_until)

        # a network that has only met small images would not know large ones
        as_trained = Resized(model, lambda: size_at_step(max(0, state.step - 1)))
        draws = make_draws(
            dataset,
            plan,
            seed,
            (batch_size if step < all_until else candidates for step in range(steps)),
            refreshed,
            Classifier(as_trained, header, hardware.device).predict,
        )
        batches = Batches(
            dataset,
            draws,
            batch_size,
            base,
            targeted,
            seed,
            header,
            device,
            all_until=all_until,
            share=processes.share,
        )
        curve = LearningCurve(steps, batch_size, len(dataset), device)
        average = WeightAverage(model, settings.ema) if settings.ema else None
        uphill = Uphill(model, settings.sam) if settings.sam else None
        optimizers = make_optimizers(model, settings)
        # without effect but for fp16, whose small gradients would vanish
        scaler = torch.amp.GradScaler(hardware.device, enabled=hardware.precision == "fp16")
        state = TrainingState(
            model, optimizers, batches.hard, curve, scaler, average, refreshed=refreshed
        )
        if made_with:
            state.made_with.append(dict(made_with))
        identity = {
            "settings": asdict(settings),
            "plan": plan.to_dict(),
            "base": repr(base),
            "seed": seed,
            "precision": hardware.precision,
            "header": asdict(header),
        }
        load_state(state_path, state, identity)
        progress = ProgressReporter(
            on_progress,
            state.step,
            steps,
            batch_size,
            len(dataset),
            device,
            lambda step: work_done(step / steps, dataset.image_size, small_until),
        )
        kept = time.perf_counter()
        started = kept - state.seconds
        model.train()
        network = processes.wrap(model)

        def train_step(draws: Tensor, decoded: Tensor | None) -> tuple[Tensor, Tensor]:
            inputs, targets, indices = batches.make(draws, decoded)
            inputs = resize(inputs, size_at_step(state.step))
            weight = processes.weight(len(targets), batch_size)
            loss, logits = _train_step(
                state, network, uphill, inputs, targets, weight, settings, hardware
            )
            labels = batches.labels[indices]
            correct = (logits.argmax(dim=1) == labels).sum()
            if plan.keep < 1:
                losses = F.cross_entropy(logits, labels, reduction="none")
                if targets.ndim == 2:  # how hard an image is by itself doesn't show in a mixture
                    mixed = targets.amax(dim=1) < 1
                    losses = losses.masked_fill(mixed, -torch.inf)
                batches.hard.record(
                    *(processes.gather(values, batch_size) for values in (indices, losses))
                )
            return processes.sum(loss) / processes.count, processes.sum(correct)

        step: Step = train_step
        # only what never waits can be recorded: a scaler looks at the gradients' values
        waits = scaler.is_enabled() or processes.count > 1 or not batches.resident
        if device.type == "cuda" and not waits:
            keep_rates_on(device, optimizers)
            step = ReplayedStep(
                train_step, lambda: (len(refreshed), size_at_step(state.step)), device
            )
        for draws_of_step, decoded in batches.draws(state.step, steps):
            if state.step % steps_per_epoch == 0:
                # a resumed run draws the same dropout masks as an unbroken one
                torch.manual_seed(seed * 1_000_003 + state.step + (processes.rank << 40))
            set_learning_rates(state.optimizers, state.step / steps, settings.warmup)
            loss, correct = step(draws_of_step, decoded)
            state.step += 1
            if average:
                average.update(state.step)
            progress.add(loss, correct)
            curve.add(state.step, loss, correct)
            boundary = state.step % steps_per_epoch == 0 or state.step == steps
            if boundary and not bool(torch.isfinite(progress.total_loss)):
                rate = state.optimizers[0].param_groups[0]["lr"]
                raise TrainingError(
                    f"the loss is no longer finite by step {state.step} of {steps} (learning "
                    f"rate {rate:.4g}, seed {seed}); lower the learning rate or use "
                    "--precision fp32"
                )
            if boundary and state.step < steps and state_path is not None and not processes.rank:
                now = time.perf_counter()
                if device.type == "cpu" or now - kept > _GPU_STATE_SECONDS:
                    kept, state.seconds = now, now - started
                    save_state(state_path, state, identity)
        if average:
            average.copy_to(model)
        seconds = time.perf_counter() - started
    if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
        raise TrainingError(f"the last step of {steps} left weights that are not finite")
    return TrainedModel(
        classifier,
        steps,
        steps * batch_size,
        seconds,
        hardware,
        tuple(tuple(point) for point in curve.points),
        tuple(refreshed),
        tuple(state.made_with),
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


def _train_step(
    state: TrainingState,
    network: Callable[[Tensor], Tensor],
    uphill: Uphill | None,
    inputs: Tensor,
    targets: Tensor,
    weight: float,
    settings: TrainSettings,
    hardware: Hardware,
) -> tuple[Tensor, Tensor]:
    place: AbstractContextManager[None] = nullcontext()
    if uphill:
        few = max(2, round(UPHILL_SHARE * len(targets)))  # batch norm needs two
        # each of several processes goes uphill by its own images, which nobody waits for
        nearby, _ = _loss(state.model, inputs[:few], targets[:few], settings, hardware)
        place = uphill.of(state.scaler.scale(nearby))
    with place:
        loss, logits = _loss(network, inputs, targets, settings, hardware)
        loss = loss * weight
        for optimizer in state.optimizers:
            optimizer.zero_grad()
        state.scaler.scale(loss).backward()
    for optimizer in state.optimizers:
        state.scaler.step(optimizer)
    state.scaler.update()
    return loss.detach(), logits.detach()


def _loss(
    network: Callable[[Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    settings: TrainSettings,
    hardware: Hardware,
) -> tuple[Tensor, Tensor]:
    """Mean loss, and float32 logits (N, classes)."""
    dtype = hardware.autocast_dtype
    with torch.autocast(hardware.device, dtype, enabled=dtype is not None):
        logits = network(inputs)
    logits = logits.float()
    return F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing), logits


def _header(dataset: ImageDataset, settings: TrainSettings, base: Policy) -> CheckpointHeader:
    # whole numbers, so that the order of summation can't matter; torch counts bytes as they are,
    # numpy would first copy them to 8 bytes a pixel
    channels = dataset.images.shape[3]
    counts = np.zeros((channels, 256), np.int64)
    for images in blocks(dataset.images):
        pixels = torch.from_numpy(images).reshape(-1, channels)
        for channel, count in enumerate(counts):
            count += torch.bincount(pixels[:, channel], minlength=256).numpy()
    values = np.arange(256)
    mean = [float((count * values).sum() / count.sum()) for count in counts]
    variance = [
        float((count * (values - centre) ** 2).sum() / count.sum())
        for count, centre in zip(counts, mean, strict=True)
    ]
    views = ["identity"]
    # a network that has seen no mirrored image isn't asked about one: that would be a handicap
    if settings.test_time_flip and any(isinstance(part, Flip) for part in base.operations):
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
